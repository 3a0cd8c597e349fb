"""``isoscale doctor``: what this machine and these frameworks are, and what is wrong with them."""

import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from isoscale.common.config.errors import require_choice
from isoscale.common.config.flags import Flags
from isoscale.common.disk.folders import check_folder
from isoscale.common.disk.json_files import to_json
from isoscale.common.machine import describe, problem, system
from isoscale.common.processes import launch
from isoscale.common.program.examine import RESULT, check_size, define_size_flag
from isoscale.common.registry import lookup
from isoscale.common.registry.interpreters import define_interpreter_flags, find_programs

_ACTIVITY_SECONDS = 1.0


def define_flags() -> Flags:
    fv = Flags(
        usage=(
            "Tells what this machine and the installed frameworks are, measures each framework's\n"
            "float32 matrix product on one core (and on a GPU, if there is one), and lists the\n"
            "known problems of exactly this combination, each with its remedy. Takes about a\n"
            "quarter of a minute on a CPU; writes nothing.\n\n"
            "  isoscale doctor\n"
            "  isoscale doctor --json > doctor.json\n"
            "  isoscale doctor --python_torch=/path/to/python   a framework in its own interpreter"
            "\n\n"
            f"Frameworks: {', '.join(lookup.frameworks())}\n\n"
            "Flags marked [list] take values separated by commas. Exit code: 0 done, also with\n"
            "problems found, 1 a framework could not be examined, 2 bad input, 130 interrupted."
        )
    )
    fv.boolean("json", False, "print one JSON document and nothing else")
    fv.names("frameworks", None, "[list] which frameworks (default: all)")
    define_size_flag(fv)
    fv.text("out_dir", "runs/out", "folder that will hold studies; to see the space left there")
    fv.integer("watchdog_seconds", 180, "end an examination that makes no progress for so long")
    define_interpreter_flags(fv)
    return fv


def tested_versions() -> dict[str, str] | str:
    """Returns the versions that isoscale was tested with; ``unknown`` where it does not say."""
    text = system.read(lookup.ROOT / "constraints.txt")
    if text is None:
        return describe.UNKNOWN
    pairs = (line.split("==") for line in text.splitlines() if not line.startswith("#"))
    return {pair[0].strip(): pair[1].strip() for pair in pairs if len(pair) == 2}


def _version() -> str:
    try:
        return metadata.version("isoscale")
    except metadata.PackageNotFoundError:  # it runs from its folder
        return describe.UNKNOWN


def _examine(
    python: str, framework: str, *, platform: str, size: int, watchdog_seconds: int
) -> dict[str, Any]:
    """Looks at a framework in a process of its own; returns what it found, or ``error``."""
    if sys.stderr.isatty():
        print(f"isoscale: looking at {framework} ({platform}) ...", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="isoscale-doctor-") as name:
        folder = Path(name)
        process = launch.start(
            [
                *launch.module_command(python, "isoscale.common.program.examine"),
                f"--framework={framework}",
                f"--platform={platform}",
                f"--sgemm_size={size}",
                f"--out_dir={folder}",
            ],
            environment={},
            log=folder / "log.txt",
        )
        outcome = launch.supervise(
            [process],
            run_dir=folder,
            watchdog_seconds=watchdog_seconds,
            result=folder / RESULT,
        )
        text = system.read(folder / RESULT)
        if text is not None:
            return json.loads(text)
        said = launch.last_line(folder / "log.txt")
        return {"error": ": ".join(filter(None, [outcome.error, said]))}


def diagnose(fv: Flags) -> dict[str, Any]:
    """Returns all facts about this machine and the frameworks, and the problems they show.

    Raises:
      ConfigError: an unknown framework, a size out of range, or an interpreter that is none.
    """
    names = fv.frameworks or list(lookup.frameworks())
    for name in names:
        require_choice("framework", name, lookup.frameworks())
    size = check_size(fv.sgemm_size)
    out_dir = check_folder(fv.out_dir, flag="--out_dir")
    programs = find_programs(fv, names)

    machine = describe.machine()
    machine.pop("gpus")
    facts: dict[str, Any] = {
        "isoscale": _version(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "settings": system.facts(out_dir),
        "gpus": system.gpus(),
        "cuda_of_driver": system.cuda_of_driver(),
        "gpu_driver_fails": system.gpu_driver_fails(),
        "environment": describe.environment(lookup.environment_variables()),
        "tested_versions": tested_versions(),
        # Before anything is started: this is about others.
        "activity": system.activity(_ACTIVITY_SECONDS),
        "frameworks": {},
    }
    for name in names:
        info, program = lookup.framework_info(name), programs[name]
        if program.missing:
            facts["frameworks"][name] = {
                "status": "missing",
                "error": program.missing,
                "install": program.install,
            }
            continue

        def look(platform: str, python: str = program.command[0], name: str = name) -> Any:
            return _examine(
                python,
                name,
                platform=platform,
                size=size,
                watchdog_seconds=fv.watchdog_seconds,
            )

        entry = look("cpu")
        entry["status"] = "failed" if "error" in entry else "ok"
        if "ModuleNotFoundError" in entry.get("error", ""):
            entry["install"] = f"{program.command[0]} -m pip install . (in isoscale's folder)"
        # What fails on a GPU alone is one of the known problems, not a failure of this look.
        on_gpu = bool(facts["gpus"]) and "gpu" in info.platforms and entry["status"] == "ok"
        entry["gpu"] = look("gpu") if on_gpu else None
        facts["frameworks"][name] = entry
    return {**facts, "problems": problem.find(facts, lookup.problems())}


def run(argv: Sequence[str]) -> int:
    """Returns the exit code: 0 done, 1 a framework failed."""
    fv = define_flags()
    if not fv.parse(list(argv)):
        return 0
    facts = diagnose(fv)
    if fv.json:
        print(to_json(facts, indent=2))
    else:
        from isoscale.common.report.diagnosis import lines

        print("\n".join(lines(facts)))
    failed = any(entry["status"] == "failed" for entry in facts["frameworks"].values())
    return 1 if failed else 0
