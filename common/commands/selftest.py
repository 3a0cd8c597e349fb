"""``isoscale selftest``: checks isoscale on a machine, and packs what it found into one file."""

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from isoscale.common.commands import compare, doctor, parity
from isoscale.common.config.counts import counted
from isoscale.common.config.errors import ConfigError, FolderError, require_choice
from isoscale.common.config.flags import Flags
from isoscale.common.config.run_config import MOST_DEVICES
from isoscale.common.disk.bundle import write_bundle
from isoscale.common.disk.folders import check_folder, make_folder
from isoscale.common.disk.json_files import write_json
from isoscale.common.machine.cores import available_cores
from isoscale.common.machine.describe import UNKNOWN
from isoscale.common.machine.own_version import own_version
from isoscale.common.machine.private import Private, prefix_of
from isoscale.common.parity.documents import PARITY
from isoscale.common.processes.job_pool import WORK
from isoscale.common.processes.lock import locked
from isoscale.common.registry import environments, extra, lookup
from isoscale.common.registry.build_config import known_gpus, known_quota
from isoscale.common.registry.interpreters import define_interpreter_flags, interpreter_flags
from isoscale.common.study.store import Store

PLATFORMS = ("gpu", "cpu")
SUMMARY = "selftest.json"
_MODELS = "mlp_plain,moe_plain,transformer_encoder,transformer_causal"
"""Small models that together have every layer."""
_ATTENDING = "transformer_encoder,transformer_causal,transformer_causal_padded"
_LARGER = "transformer_small,gpt_tiny"
"""Models with every kind of attention mask; all kernels support the shapes of the larger ones."""
_STUDY, _KERNELS = "scaling", "kernels"


def define_flags() -> Flags:
    """Returns the flags of the command, with its help page."""
    fv = Flags(
        usage=(
            "Checks isoscale on this machine in ten to twenty minutes, and packs the results into\n"
            "one file to send: doctor's facts; parity in float32 on small models, and in bfloat16\n"
            "on models with attention; the kernels of attention in bfloat16; a short comparison\n"
            "on 1, 2, 4, ... devices. The file holds no secrets, and no paths of your folders. A\n"
            "failed step does not stop the next step. After an interruption, the same command\n"
            "continues; it also repeats failed steps.\n\n"
            "  isoscale selftest --python_jax=PATH --python_tensorflow=PATH --python_torch=PATH\n"
            "  isoscale selftest --platform=cpu --frameworks=torch\n\n"
            f"Frameworks: {', '.join(lookup.frameworks())}\n\n"
            "Flags marked [list] take values separated by commas. Exit code: 0 all steps ok, 1 a\n"
            "step failed, 2 bad input, 3 the folder is in use or cannot be written, 128 + N after\n"
            "signal N (Ctrl-C 130, SIGTERM 143)."
        )
    )
    fv.text("platform", "gpu", "|".join(PLATFORMS))
    fv.names("frameworks", None, "[list] frameworks (default: all that are installed)")
    fv.integers("devices", None, "[list] device counts (default: 1, 2, 4, ... up to all devices)",
                maximum=MOST_DEVICES)  # fmt: skip
    fv.text("models", "mlp_medium,gpt_tiny", "[list] models of the comparison")
    fv.integer("steps", 50, "measured steps of each run of the comparison", maximum=10_000)
    fv.text("out_dir", "runs/out/selftest", "folder for the results and the file to send")
    define_interpreter_flags(fv)
    extra.define_extra_flag(fv)
    return fv


def device_counts(platform: str) -> list[int]:
    """Returns 1, 2, 4, ... up to the devices of this machine: a batch is divisible by them."""
    if platform == "gpu":
        found = known_gpus()
        usable = 1 if found.parts or found.usable == math.inf else found.usable
    else:
        usable = min(len(available_cores()), known_quota() or math.inf)
    return [2**n for n in range(9) if n == 0 or 2**n <= min(usable, MOST_DEVICES)]


def _steps(fv: Flags, folder: Path) -> dict[str, Callable[[], int]]:
    """Returns name -> step; a step returns its exit code."""
    devices = fv.devices or device_counts(fv.platform)
    counts = ",".join(map(str, devices))
    common = [f"--platform={fv.platform}", *fv.as_flags(without=_OWN)]
    pythons = fv.as_flags(without=_OWN | {"frameworks", extra.FLAG})

    def facts() -> int:
        flags = doctor.define_flags()
        flags.parse([*pythons, f"--out_dir={folder}"])
        found = doctor.diagnose(flags, fv.frameworks or [])
        write_json(folder / "doctor.json", found)
        return int(any(entry["status"] == "failed" for entry in found["frameworks"].values()))

    def equal(name: str, *, models: str, dtype: str) -> int:
        there = folder / name
        resume = (there / WORK).exists() and not (there / PARITY).exists()
        return parity.run(
            [
                *common,
                f"--models={models}",
                f"--dtype={dtype}",
                "--nopieces",
                f"--devices={counts}",
                f"--out_dir={there}",
                *(["--resume"] if resume else []),
            ]
        )

    def study(name: str, *flags: str) -> int:
        again = Store(folder / name).has_files
        return compare.run(
            [
                *common,
                *flags,
                f"--study={name}",
                f"--out_dir={folder}",
                *(["--resume"] if again else []),
            ]
        )

    def kernels() -> int:
        code = study(
            _KERNELS, f"--models={_LARGER}", "--dtype=bfloat16", "--devices=1", "--steps=5",
            "--runs=1",
        )  # fmt: skip
        print("", *_attention(folder / _KERNELS), sep="\n")
        return code

    return {
        "doctor": facts,
        "parity": lambda: equal("parity", models=_MODELS, dtype="float32"),
        "bfloat16": lambda: equal("bfloat16", models=f"{_ATTENDING},{_LARGER}", dtype="bfloat16"),
        "kernels": kernels,
        "scaling": lambda: study(
            _STUDY, f"--models={fv.models}", f"--devices={counts}", f"--steps={fv.steps}",
            "--runs=2",
        ),
    }  # fmt: skip


def _attention(study: Path) -> list[str]:
    """Returns a line for each successful run of a study: the kernel of its attention."""
    store = Store(study)
    store.load()
    found = []
    for line in store.lines():
        path = study / (line.result.run_dir or "") / "machine.json"
        if line.ok and path.is_file():
            facts = json.loads(path.read_text(encoding="utf-8"))["framework"]
            kernel = facts.get("attention", UNKNOWN)
            found.append(f"{line.cell.framework}, {line.cell.model}: attention {kernel}")
    return sorted(found)


_OWN = {"platform", "devices", "models", "steps", "out_dir"}


def _earlier(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the summary of an earlier call in this folder; a new one if there is none.

    Raises:
      ConfigError: the folder holds other files, or a self-test with other settings.
    """
    path = folder / SUMMARY
    if not path.exists():
        if folder.exists() and any(not p.name.startswith(".") for p in folder.iterdir()):
            raise ConfigError(
                f"--out_dir={folder} holds files, but no {SUMMARY}; choose an empty folder"
            )
        return {"isoscale": own_version(), "settings": settings, "steps": {}}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        same, _ = found["settings"] == settings, found["steps"].items()
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        raise ConfigError(f"--out_dir={folder}: {SUMMARY} is damaged; choose another") from None
    if not same:
        raise ConfigError(
            f"--out_dir={folder} holds a self-test with other flags; choose another folder"
        )
    return found


def _private(fv: Flags, folder: Path) -> Private:
    pythons = [getattr(fv, flag) for flag in interpreter_flags()]
    places = {prefix_of(str(Path(path).absolute())): "python" for path in pythons if path}
    return Private(
        {
            **places,
            str(lookup.ROOT): "isoscale",
            sys.prefix: "python",
            sys.base_prefix: "python",
            str(folder.absolute()): folder.name,
            str(Path.cwd()): ".",
            **extra.private_folder(),
        },
        environments.private_variables(),
    )


def run(argv: Sequence[str]) -> int:
    """Runs the command.

    Returns:
      The exit code that ``--help`` lists.

    Raises:
      ConfigError: bad input.
      FolderError: the folder is in use, or cannot be written.
    """
    fv = define_flags()
    if not fv.parse(list(argv)):
        return 0
    require_choice("platform", fv.platform, PLATFORMS)
    for name in fv.frameworks or []:
        require_choice("framework", name, lookup.frameworks())
    lookup.presets_of(fv.models.split(","))
    folder = check_folder(fv.out_dir, flag="--out_dir")
    devices = fv.devices or device_counts(fv.platform)
    settings = {
        "platform": fv.platform, "frameworks": fv.frameworks, "devices": devices,
        "models": fv.models, "steps": fv.steps,
    }  # fmt: skip
    summary = _earlier(folder, settings)
    make_folder(folder, flag="--out_dir")
    with locked(folder, called=f"--out_dir={fv.out_dir}"):
        write_json(folder / SUMMARY, summary)
        steps = _steps(fv, folder)
        for number, (name, step) in enumerate(steps.items(), 1):
            done = summary["steps"].get(name, {})
            label = f"isoscale: step {number} of {len(steps)}: {name}"
            if done.get("code") == 0:
                print(f"{label}: done before", file=sys.stderr)
                continue
            print(label, file=sys.stderr, flush=True)
            began = time.monotonic()
            try:
                outcome: dict[str, Any] = {"code": step()}
            except FolderError:  # nothing else can be written either
                raise
            except ConfigError as error:
                # The reason is what the user sends; the other steps may still work.
                print(f"isoscale: {error}", file=sys.stderr)
                outcome = {"code": error.exit_code, "error": str(error)}
            if outcome["code"] >= 128:
                return outcome["code"]
            outcome["seconds"] = round(time.monotonic() - began, 1)
            summary["steps"][name] = outcome
            write_json(folder / SUMMARY, summary)
        target = folder / "isoscale-selftest.tar.gz"
        count = len(write_bundle(target, folder, clean=_private(fv, folder).clean))
    failed = [name for name, step in summary["steps"].items() if step["code"]]
    print(f"\nSelf-test: {'failed: ' + ', '.join(failed) if failed else 'ok'}")
    print(f"File to send: {target} ({counted(count, 'file')})")
    return 1 if failed else 0
