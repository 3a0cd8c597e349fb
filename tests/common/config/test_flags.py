import os
from pathlib import Path

import pytest

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.flags import Duration, Flags


def make() -> Flags:
    fv = Flags(usage="a program")
    fv.integer("steps", 10, "how many")
    fv.number("learning_rate", 0.1, "how fast", minimum=0.0)
    fv.names("models", ["a"], "which")
    fv.integers("devices", [1], "how many each")
    fv.boolean("resume", False, "go on")
    fv.text("study", None, "name")
    fv.duration("time_budget", "5m", "how long")
    return fv


@pytest.mark.parametrize(
    "argument, message",
    [
        ("--stpes=3", "unknown flag '--stpes': did you mean '--steps', "),
        ("--steps=abc", "--steps=abc: must be a whole number, 1 to 1000000000"),
        ("--steps=-1", "--steps=-1: must be a whole number, 1 to 1000000000"),
        ("--steps=0", "must be a whole number, 1 to 1000000000"),
        ("--steps=1.5", "must be a whole number"),
        ("--learning_rate=nan", "must be a number, 0 to 1e+09"),
        ("--models=a,,b", "without empty values"),
        ("--models=a,a", "must not contain a value twice"),
        ("--devices=1,x", "must be a whole number"),
        ("--time_budget=5", "a duration like 90s, 5m or 1h30m"),
        ("--time_budget=0s", "more than 0"),
        ("extra", "'extra' is not a flag"),
        ("--flagfile=/no/such/file", "/no/such/file"),
        ("--steps=1000000001", "--steps=1000000001: must be a whole number, 1 to 1000000000"),
        ("--steps=" + "9" * 5000, "... (5000 characters): must be a whole number, 1 to 1000000000"),
        ("--steps=1_000", "must be a whole number"),
        ("--steps= 5", "must be a whole number"),
        ("--steps=\u0665", "must be a whole number"),
        ("--steps=", "--steps=: must be a whole number"),
        ("--learning_rate=1e400", "must be a number, 0 to 1e+09"),
        ("--learning_rate=-1", "must be a number, 0 to 1e+09"),
        ("--learning_rate=inf", "must be a number, 0 to 1e+09"),
        ("--devices=" + ",".join(map(str, range(1, 1002))), "must be at most 1000 values"),
        ("--devices=1000000001", "must be a whole number, 1 to 1000000000"),
        ("--time_budget=99999999999999h", "at most 8784h (366 days)"),
        ("--time_budget=8785h", "at most 8784h (366 days)"),
        ("--time_budget=\u0665m", "a duration like"),
        ("--study=", "--study=: must not be empty"),
        ("--study=" + "x" * 4097, "must have at most 4096 characters"),
        ("--study=\udcff", "must be UTF-8 text"),
        ("--study=a\0b", "must not contain a null byte"),
        ("--models=" + "x" * 4097, "must have at most 4096 characters"),
        ("--noresume=false", "--noresume takes no value; type --noresume, --resume=true or"),
        ("--noresume=", "--noresume takes no value"),
        ("--resume=maybe", "--resume=maybe: must be true or false"),
        ("--resume=", "--resume=: must be true or false"),
        ("--resume false", "'false' is not a flag: type --resume=true or --resume=false"),
        ("--nosteps", "unknown flag '--nosteps': did you mean '--steps', "),
        ("--nonoresume", "unknown flag '--nonoresume'"),
        ("--steps", "--steps needs a value: type --steps=VALUE"),
        ("--study --resume", "--study needs a value: type --study=VALUE"),
        ("--study -x", "--study needs a value: type --study=VALUE"),
        ("---steps=5", "unknown flag '---steps'"),
        ("--", "'--' is not a flag"),
        ("-- --steps=5", "'--' is not a flag"),
        ("-", "'-' is not a flag"),
        ("--=5", "unknown flag '--'"),
        ("--nohelp", "unknown flag '--nohelp': did you mean '--help', "),
        ("--help=false", "--help=false: --help takes no value"),
        ("--" + "x" * 100_000, "... (100002 characters)"),
    ],
)
def test_every_error_is_one_line(argument: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make().parse(argument.split(" ", 1) if argument != "--steps= 5" else [argument])
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_values_are_parsed_and_given_flags_are_known() -> None:
    fv = make()
    assert fv.parse(["--devices=1,2", "--resume", "--time_budget=1h2m3s"])
    assert (fv.devices, fv.resume, fv.time_budget, fv.steps) == ([1, 2], True, 3723.0, 10)
    assert fv.given("devices")
    assert not fv.given("steps")


@pytest.mark.parametrize(
    "arguments, steps, resume",
    [
        (["-steps=5"], 5, False),
        (["--steps", "5"], 5, False),
        (["--steps=4", "--steps=5"], 5, False),
        (["--steps=+5"], 5, False),
        (["--resume=1", "--steps=5"], 5, True),
        (["--resume=TRUE", "--noresume", "--steps=5"], 5, False),
    ],
)
def test_other_forms_of_a_flag_mean_what_they_say(
    arguments: list[str], steps: int, resume: bool
) -> None:
    fv = make()
    assert fv.parse(arguments)
    assert (fv.steps, fv.resume) == (steps, resume)


def test_given_flags_can_be_written_and_parsed_again() -> None:
    fv = make()
    fv.parse(
        ["--models=x,y", "--noresume", "--study=s 1", "--learning_rate=1e-3", "--time_budget=1h5s"]
    )
    again = make()
    again.parse(fv.as_flags(without=set()))
    assert again.values() == fv.values()
    assert [text.split("=")[0] for text in fv.as_flags(without={"study"})] == [
        "--learning_rate",
        "--models",
        "--noresume",
        "--time_budget",
    ]


def test_flag_files_are_read(tmp_path) -> None:
    path = tmp_path / "x.flags"
    path.write_text("# a comment\n--steps=7\n--models=p,q\n")
    fv = make()
    fv.parse([f"--flagfile={path}", "--steps=8"])
    assert (fv.steps, fv.models) == (8, ["p", "q"])


def with_recipes(folder: Path) -> Flags:
    (folder / "small.flags").write_text("# a comment\n--steps=7\n--models=p,q\n")
    fv = Flags(usage="a program", recipes={"small": folder / "small.flags"})
    fv.integer("steps", 1, "")
    fv.names("models", None, "")
    return fv


@pytest.mark.parametrize(
    "argv, steps",
    [
        (["--recipe=small"], 7),
        (["--recipe=small", "--steps=8"], 8),
        (["--steps=8", "--recipe=small"], 7),
        (["--steps=8", "--recipe=small", "--steps=9"], 9),
    ],
)
def test_a_later_flag_wins_over_a_recipe(tmp_path: Path, argv: list[str], steps: int) -> None:
    fv = with_recipes(tmp_path)
    fv.parse(argv)
    assert (fv.steps, fv.models) == (steps, ["p", "q"])
    # The record of a study has the flags of the recipe and not its name, which may change.
    assert fv.as_flags(without=set()) == [f"--steps={steps}", "--models=p,q"]


@pytest.mark.parametrize(
    "argument, message",
    [
        ("--recipe=smal", "unknown recipe 'smal': did you mean 'small'? Known: small"),
        ("--recipe=../small", "unknown recipe '../small'"),
        ("--recipe", "--recipe must be --recipe=NAME; known: small"),
        ("--recpe=small", "unknown flag '--recpe': did you mean '--recipe'"),
    ],
)
def test_an_unknown_recipe_is_refused(tmp_path: Path, argument: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        with_recipes(tmp_path).parse([argument])
    assert message in str(error.value)
    with pytest.raises(ConfigError, match="unknown flag '--recipe'"):
        make().parse(["--recipe=small"])  # a program without recipes


def test_help_lists_recipes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with_recipes(tmp_path).parse(["--help"])
    assert "later flags win: small" in capsys.readouterr().out
    make().parse(["--help"])
    assert "--recipe" not in capsys.readouterr().out


def test_help_lists_every_flag(capsys: pytest.CaptureFixture) -> None:
    assert not make().parse(["--help"])
    text = capsys.readouterr().out
    assert "a program" in text
    assert all(f"--{name}" in text for name in ("steps", "models", "time_budget", "flagfile"))


@pytest.mark.parametrize("text, seconds", [("90s", 90), ("5m", 300), ("1h", 3600), ("1h1s", 3601)])
def test_durations(text: str, seconds: float) -> None:
    assert Duration().parse(text) == seconds


def test_flags_of_absl_that_would_hide_mistakes_are_refused(tmp_path: Path) -> None:
    for argument in ("--undefok=foo", "-undefok=foo"):
        with pytest.raises(ConfigError, match="unknown flag '--undefok'"):
            make().parse([argument, "--foo=3"])
    with pytest.raises(ConfigError, match="--flagfile must be --flagfile=PATH"):
        make().parse(["-flagfile="])
    file = tmp_path / "flags"
    file.write_text("--help\n")
    with pytest.raises(ConfigError, match="--help must be on the command line, not in a file"):
        make().parse([f"--flagfile={file}"])
    file.write_text("--flagfile=a\0b\n")
    with pytest.raises(ConfigError, match="null byte"):
        make().parse([f"--flagfile={file}"])


def test_a_value_with_a_line_end_stays_one_flag() -> None:
    fv = make()
    fv.parse(["--study=a\nb\u2028c"])
    assert fv.as_flags(without=set()) == ["--study=a\nb\u2028c"]


def test_flag_files_are_read_as_regular_files_of_bounded_size(tmp_path: Path) -> None:
    def refused(path: object, message: str) -> None:
        with pytest.raises(ConfigError, match=message) as error:
            make().parse([f"--flagfile={path}"])
        assert "\n" not in str(error.value)
        assert error.value.exit_code == 2

    os.mkfifo(tmp_path / "fifo")
    refused(tmp_path / "fifo", "is not a regular file")
    refused("/dev/zero", "is not a regular file")
    refused(tmp_path, "is not a regular file")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(tmp_path / "loop", "Too many levels of symbolic links")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(4 * 2**30)
    refused(tmp_path / "sparse", "is larger than 1 MiB")
    (tmp_path / "binary").write_bytes(b"--steps=\xff\n")
    refused(tmp_path / "binary", "is not UTF-8 text")
    (tmp_path / "self").write_text(f"--flagfile={tmp_path / 'self'}\n")
    refused(tmp_path / "self", "contains itself")


def test_flag_files_may_name_flag_files_and_have_comments(tmp_path: Path) -> None:
    (tmp_path / "inner").write_text("# a comment\n\n--steps=7\n")
    (tmp_path / "outer").write_text(f"// another\n--flagfile={tmp_path / 'inner'}\n--resume\n")
    fv = make()
    fv.parse([f"--flagfile={tmp_path / 'outer'}", "--study=s"])
    assert (fv.steps, fv.resume, fv.study) == (7, True, "s")
    assert fv.as_flags(without=set()) == ["--steps=7", "--resume", "--study=s"]
