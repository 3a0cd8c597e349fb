"""Makes bad command lines: good ones with one damage, of a kind that a seed chooses."""

import dataclasses
import random
import string
from collections.abc import Callable, Sequence
from pathlib import Path

from isoscale.common.commands import (
    board,
    compare,
    diff,
    doctor,
    explain,
    parity,
    relay,
    repair,
    report,
    tweaks,
)
from isoscale.common.commands import list as list_
from isoscale.common.config import parsers
from isoscale.common.config.flags import Flags
from isoscale.common.program import main as program
from isoscale.common.registry import lookup

LONGEST_ARGUMENT = 120_000
"""Characters; Linux refuses an argument of 128 KiB."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """A program and its good command line.

    Attributes:
      name: the command, or the framework of a runner.
      module: module for ``python -m``.
      base: arguments that the program accepts; ``{out}`` is the folder with study ``s``.
      flags: its flags.
      combined: arguments that are each allowed, but not together, or not with ``base``.
    """

    name: str
    module: str
    base: tuple[str, ...]
    flags: Flags
    combined: tuple[tuple[str, ...], ...]

    @property
    def takes_words(self) -> bool:
        """Returns whether words of the command line name studies, for example."""
        return self.name in ("report", "diff", "repair", "board", "explain", "doctor", "list")


_MAIN = "isoscale.common.commands.main"
_STUDY = ("s", "--out_dir={out}")
_STUDIES = (("nothing",), ("other",), ("",), ("x" * 300,), ("../s",), ("/etc",), ("\x1b[31m",))
_MODELS = (
    ("gpt_tiny", "--d_model=1000000000"),
    ("gpt_tiny", "--num_layers=1001"),
    ("gpt_tiny", "--d_model=1000000", "--num_layers=1000"),
    ("gpt_tiny", "--num_heads=7"),
    ("gpt_tiny", "--hidden_sizes=8,8"),
    ("mlp_medium", "--hidden_sizes=1000000000,1000000000"),
    ("mlp_medium", "--hidden_sizes=" + ",".join(["1"] * 1000), "--dataset=digits"),
    ("mlp_medium", "--dropout_rate=1"),
    ("mlp_medium", "--beta1=1"),
    ("mlp_medium", "--epsilon=0"),
    ("mlp_medium", "--threads_per_device=4096"),
    ("mlp_medium", "--tweaks=+dense-2d,-dense-2d"),
    ("mlp_medium", "--schedule=cosine", "--schedule_warmup_steps=9", "--schedule_steps=9"),
    ("mlp_digits", "--dataset=digits", "--global_batch_size=1000000"),
    ("moe_tiny", "--top_k=9"),
    ("moe_tiny", "--vocabulary_size=255", "--dataset=python_source"),
    ("moe_tiny", "--sequence_length=1000000000"),
    ("transformer_small", "--num_experts=9"),
)


def programs() -> list[Program]:
    """Returns all commands of ``isoscale``, and all runners."""
    grid = (
        *((f"--models={first}", *rest) for first, *rest in _MODELS),
        ("--devices=2", "--global_batch_size=7"),
        ("--global_batch_size=" + ",".join(str(2 * n) for n in range(1, 1001)),),
        ("--seed=2147483647", "--runs=2"),
        ("--resume",),
        ("--resume", "--study=nothing"),
        ("--frameworks=jax", "--strategies=ddp"),
        ("--compile_modes=torch:eager,torch:compile",),
    )
    commands: list[tuple[str, tuple[str, ...], Flags, tuple[tuple[str, ...], ...]]] = [
        ("compare", ("--dry_run",), compare.define_flags(), grid),
        ("explain", ("new", "--dry_run"), explain.define_flags(), (("other",), ("--study=x",))),
        (
            "parity",
            ("--models=mlp_plain",),
            parity.define_flags(),
            (("--resume",), ("--out_dir=/etc",), ("--strategies=bare,ddp", "--frameworks=jax")),
        ),
        (
            "relay",
            ("--model=mlp_plain",),
            relay.define_flags(),
            (
                ("--steps=2",),
                ("--dtype=float32", "--steps=100000"),
                ("--legs=torch:ddp:2",),
                ("--legs=torch:ddp:999999999,jax:pjit:2",),
                ("--legs=torch:ddp:" + "9" * 4000 + ",jax:pjit:2",),
                ("--legs=" + ",".join(["jax:pjit:1"] * 7),),
            ),
        ),
        ("tweaks", ("--frameworks=jax",), tweaks.define_flags(), ()),
        ("list", ("models",), list_.define_flags(), (("model",), ("tweaks",), ("--jsn",))),
        ("report", _STUDY, report.define_flags(), (*_STUDIES, ("--plots=-1",), ("--plots=x",))),
        (
            "diff",
            (*_STUDY, "--cells=jax-bare,torch-bare"),
            diff.define_flags(),
            (*_STUDIES, ("--cells=jax",), ("--cells=jax-bare,jax-bare-",), ("--threshold=5",)),
        ),
        ("repair", _STUDY, repair.define_flags(), _STUDIES),
        ("board", (*_STUDY, "--port=0"), board.define_flags(), (*_STUDIES, ("--host=8.8.8.8",))),
        ("doctor", (), doctor.define_flags(), ()),
    ]
    return [
        *(
            Program(name=name, module=_MAIN, base=(name, *base), flags=flags, combined=combined)
            for name, base, flags, combined in commands
        ),
        *(
            Program(
                name=name,
                module=lookup.program(name),
                base=("--model=mlp_digits", "--steps=2"),
                flags=program.define_flags(name),
                combined=(
                    *((f"--model={first}", *rest) for first, *rest in _MODELS),
                    ("--devices=2", "--strategy=bare"),
                    ("--save_every=5",),
                    ("--resume_from=latest",),
                    ("--run_dir=/etc",),
                ),
            )
            for name in lookup.frameworks()
        ),
    ]


_DIGITS_OF_OTHER_SCRIPTS = ("\u0661\u0662", "\uff15", "\u00b2")
_NUMBERS = (
    "", "-1", "nan", "inf", "-inf", "1e400", "-1e400", "1_000", " 5", "5 ", "0x10", "5;ls", "1,5",
    "--5", "1e", "five", "\x1b[31m", "5\n6", *_DIGITS_OF_OTHER_SCRIPTS,
)  # fmt: skip
_DURATIONS = (
    "", "5", "0s", "-5m", "99999999999999h", "8785h", "1h 5m", "5d", "1.5h", "5m5h", "\u0665m",
    "soon", "inf",
)  # fmt: skip
_NO_FOLDERS = ("/dev/null", "/dev/null/x", "/etc/hostname/x", "x" * 300, "a/" * 2000 + "x" * 300)
_NO_STUDY_NAMES = ("../x", "/x", "a b", ".x", "\u00fc", "x" * 101, "-", "a\nb", "\x1b[31m")
_NO_VALUES: dict[str, tuple[str, ...]] = {
    "study": _NO_STUDY_NAMES,
    "host": ("8.8.8.8",),
    "out_dir": _NO_FOLDERS,
    "run_dir": _NO_FOLDERS,
    "save_checkpoint": _NO_FOLDERS,
    "resume_from": ("nothing", "/etc/hostname", "/etc", "/dev/zero", "x" * 300),
    **{
        f"python_{name}": ("/no/python", "/bin/false", "/dev/null", "/etc", "no-such-python")
        for name in ("jax", "tensorflow", "torch")
    },
}
"""Flag for any text -> texts that are no folder, study, checkpoint, or interpreter."""


def _word(rng: random.Random) -> str:
    letters = rng.choices(
        string.ascii_lowercase + "_-.:/\u00e9\u4e2d\U0001f600 ", k=rng.randint(1, 12)
    )
    return "q" + "".join(letters)


def _bad_value(name: str, flags: Flags, rng: random.Random) -> str:
    """Returns a value that the flag must refuse."""
    parser = flags.parser(name)
    long = rng.choice(string.digits[1:]) * rng.choice((30, 400, 5000, LONGEST_ARGUMENT))
    if isinstance(parser, parsers.Number):
        low, high = parser.bounds
        return rng.choice((*_NUMBERS, long, f"-{long}", str(low - 1), str(high + 1), "1e3x"))
    if isinstance(parser, parsers.Duration):
        return rng.choice((*_DURATIONS, f"{long}h", f"{long}s"))
    if isinstance(parser, parsers.Boolean):
        return rng.choice(("", "maybe", "2", "truefalse", "-1", "None", "\u0661", long))
    odd = ("", "x" * LONGEST_ARGUMENT, "\udcff\udcfe")
    if isinstance(parser, parsers.List):
        unknown = (_word(rng), f"{_word(rng)},{_word(rng)}")
        many = ",".join(map(str, range(2, 20_000)))
        return rng.choice((*odd, *unknown, ",", "a,,b", "1,", "1,1", "\n", "0,1", many))
    return rng.choice((*odd, *_NO_VALUES.get(name, (_word(rng), _word(rng).upper()))))


def _misspelt(name: str, rng: random.Random) -> str:
    place = rng.randrange(len(name))
    letter = rng.choice(string.ascii_letters + string.digits + "-\u00e9\U0001f600\x07\n ")
    return rng.choice(
        (
            name[:place] + name[place + 1 :],
            name[:place] + letter + name[place:],
            name[:place] + letter + name[place + 1 :],
            name[:place] + name[place:][::-1],
            name.upper(),
            name + "x" * rng.choice((1, 100, LONGEST_ARGUMENT - 100)),
        )
    )


def _value(made: Program, rng: random.Random, folder: Path) -> list[str]:
    name = rng.choice(made.flags.names_defined)
    return [f"{rng.choice(('--', '-'))}{name}={_bad_value(name, made.flags, rng)}"]


def _name(made: Program, rng: random.Random, folder: Path) -> list[str]:
    known = {*made.flags.names_defined, "help", "helpfull", "h", "flagfile"}
    while True:
        name = _misspelt(rng.choice(sorted(known)), rng)
        plain = name.lstrip("-").partition("=")[0]
        if plain not in known and plain.removeprefix("no") not in known:
            return [rng.choice((f"--{name}", f"--{name}=1", f"-{name}=x"))]


def _form(made: Program, rng: random.Random, folder: Path) -> list[str]:
    def of(kind: type) -> str:
        names = [n for n in made.flags.names_defined if isinstance(made.flags.parser(n), kind)]
        return rng.choice(names) if names else "out_dir"

    valued = of((parsers.Number, parsers.Text, parsers.List))  # type: ignore[arg-type]
    yes = of(parsers.Boolean)
    forms = [
        [f"--{valued}"],
        [f"--{valued}", "--"],
        [f"--{valued}", f"--{yes}"],
        [f"--no{valued}"],
        [f"--no{valued}=1"],
        [f"---{valued}=1"],
        [f"--no{yes}=false"],
        [f"--no{yes}=true"],
        [f"--no{yes}="],
        [f"--nono{yes}"],
        [f"--{yes}=maybe"],
        ["--undefok=foo", "--foo=1"],
        ["-undefok=foo"],
        ["--nohelp"],
        ["--help=no"],
        ["--helpxml"],
        ["--=5"],
        ["--"] if not made.takes_words else ["--no"],
        ["-"],
        ["--\n"],
        ["--\x1b[31m=1"],
        ["--\udcff=1"],
        ["\u2013steps=5"] if not made.takes_words else ["--\u2013steps=5"],
        ["--" + "x" * LONGEST_ARGUMENT],
    ]
    if not made.takes_words:
        forms += [[f"--{yes}", "false"], [f"--{yes}", "no"], ["word"], ["--", "--steps=5"], [""]]
    return rng.choice(forms)


def _flag_file(made: Program, rng: random.Random, folder: Path) -> list[str]:
    name = rng.choice(made.flags.names_defined)
    path = folder / f"{rng.randrange(10**9)}.flags"
    bad = f"--{name}={_bad_value(name, made.flags, rng)}"
    contents: Sequence[bytes] = (
        f"--{name}=a\0b\n".encode(),
        b"--help\n",
        b"\xff\xfe--steps=5\n",
        f"--flagfile={path}\n".encode(),
        f"--{name}={','.join(map(str, range(10**6)))}\n".encode(),
        (f"--{name}\n" * 3 + "word word\n").encode(),
        b"\n".join(b"--undefok=%d" % n for n in range(10**4)),
        bad.replace("\n", " ").encode(errors="surrogateescape"),
    )
    path.write_bytes(rng.choice(contents))
    return rng.choice(
        (
            *[[f"--flagfile={path}"]] * 5,
            [f"-flagfile={path}"],
            ["--flagfile"],
            ["--flagfile="],
            ["--flagfile", str(path)],
            ["--flagfile=/dev/zero"],
            ["--flagfile=/etc"],
            ["--flagfile=/no/file"],
            ["--flagfile=" + "x" * LONGEST_ARGUMENT],
            ["--noflagfile"],
        )
    )


def _combined(made: Program, rng: random.Random, folder: Path) -> list[str]:
    return list(rng.choice(made.combined)) if made.combined else _value(made, rng, folder)


KINDS: tuple[Callable[[Program, random.Random, Path], list[str]], ...] = (
    *[_value] * 3,
    _name,
    *[_form] * 2,
    _flag_file,
    *[_combined] * 2,
)
"""The kinds of damage; a kind that stands here twice is twice as likely."""


def bad_input(seed: int, *, folder: Path, out: Path) -> tuple[str, list[str]]:
    """Returns (module, arguments) of a command line that must be refused.

    Args:
      seed: chooses the program and the damage.
      folder: takes flag files.
      out: folder with study ``s``.
    """
    rng = random.Random(seed)
    known = programs()
    made = known[seed % len(known)]
    if made.module == _MAIN and rng.random() < 0.03:
        return made.module, [rng.choice((_word(rng), f"--{made.name}", made.name.upper(), ""))]
    kind = rng.choice(KINDS)
    damage = kind(made, rng, folder)
    base = [text.format(out=out) for text in made.base]
    # The last value of a flag counts: a damaged value must not stand before a good one.
    if kind in (_name, _form) and not made.takes_words and rng.random() < 0.5:
        start = 1 if made.module == _MAIN else 0
        return made.module, [*base[:start], *damage, *base[start:]]
    return made.module, [*base, *damage]
