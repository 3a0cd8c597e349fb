"""``isoscale doctor``: describes this machine and its frameworks; lists their known problems."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from isoscale.common.config.errors import ConfigError, require_choice, shown
from isoscale.common.config.flags import Flags, split_words
from isoscale.common.config.parsers import LONGEST_DURATION
from isoscale.common.disk.folders import check_folder
from isoscale.common.disk.json_files import to_json
from isoscale.common.machine import describe, problem, system
from isoscale.common.machine.own_version import own_version
from isoscale.common.program.ask import ask
from isoscale.common.program.examine import define_size_flag
from isoscale.common.registry import environments, lookup
from isoscale.common.registry.broken import BrokenFrameworkError
from isoscale.common.registry.interpreters import define_interpreter_flags, find_programs

_ACTIVITY_SECONDS = 1.0


def define_flags() -> Flags:
    """Returns the flags of the command, with its help page."""
    fv = Flags(
        usage=(
            "Describes this machine and the installed frameworks. Measures each framework's\n"
            "float32 matrix product on one core, and on a GPU if the machine has one. Lists the\n"
            "known problems of this machine with these frameworks, each with its remedy. Takes\n"
            "about 15 seconds on a CPU; writes no files.\n\n"
            "  isoscale doctor\n"
            "  isoscale doctor jax                              only this framework\n"
            "  isoscale doctor --json > doctor.json\n"
            "  isoscale doctor --python_torch=/path/to/python   a framework in its own interpreter"
            "\n\n"
            f"Frameworks: {', '.join(lookup.frameworks())}\n\n"
            "Flags marked [list] take values separated by commas. Exit code: 0 done (with or\n"
            "without problems found), 1 the examination of a framework failed, 2 bad input,\n"
            "128 + N after signal N (Ctrl-C 130, SIGTERM 143)."
        )
    )
    fv.boolean("json", False, "print only one JSON document")
    fv.names("frameworks", None, "[list] frameworks (default: all)")
    define_size_flag(fv)
    fv.text("out_dir", "runs/out", "folder for studies; doctor reports the free space there")
    fv.integer(
        "watchdog_seconds",
        180,
        "kill an examination that makes no progress for this many seconds",
        maximum=LONGEST_DURATION,
    )
    define_interpreter_flags(fv)
    return fv


def tested_versions() -> dict[str, str] | str:
    """Returns package -> version that isoscale was tested with; ``unknown`` without that file."""
    text = system.read(lookup.ROOT / "constraints.txt")
    if text is None:
        return describe.UNKNOWN
    pairs = (line.split("==") for line in text.splitlines() if not line.startswith("#"))
    return {pair[0].strip(): pair[1].strip() for pair in pairs if len(pair) == 2}


def _examine(
    python: str, framework: str, *, platform: str, size: int, seconds: int
) -> dict[str, Any]:
    """Examines a framework in a separate process; returns the facts found, or ``error``."""
    if sys.stderr.isatty():
        print(f"isoscale: examining {framework} ({platform}) ...", file=sys.stderr)
    return ask(
        python,
        framework,
        f"--platform={platform}",
        f"--sgemm_size={size}",
        environment=environments.of_worker(),
        seconds=seconds,
    )


def diagnose(fv: Flags, words: list[str]) -> dict[str, Any]:
    """Returns all facts about this machine and the frameworks, and the problems found in them.

    Args:
      fv: the flags.
      words: the frameworks that stand on the command line without a flag.

    Raises:
      ConfigError: an unknown framework, or a path that is not a Python.
    """
    names = words or fv.frameworks or list(lookup.frameworks())
    for name in names:
        require_choice("framework", name, lookup.frameworks())
    # Without the flag, any folder will do: doctor only reads how much space is free.
    given = fv.given("out_dir")
    out_dir = check_folder(fv.out_dir, flag="--out_dir") if given else Path(fv.out_dir)
    programs = find_programs(fv, names)

    machine = describe.machine()
    platform = "gpu" if machine.pop("gpus") else "cpu"
    facts: dict[str, Any] = {
        "isoscale": own_version(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "settings": system.facts(out_dir),
        "gpus": system.gpus(),
        "cuda_of_driver": system.cuda_of_driver(),
        "gpu_driver_fails": system.gpu_driver_fails(),
        "environment": environments.recorded(),
        "removed_variables": environments.removed(platform=platform),
        "tested_versions": tested_versions(),
        # Measured before doctor starts any process: this is the load from other programs.
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
                size=fv.sgemm_size,
                seconds=fv.watchdog_seconds,
            )

        entry = look("cpu")
        entry["status"] = "failed" if "error" in entry else "ok"
        broken = BrokenFrameworkError.__name__ in entry.get("error", "")
        if "ModuleNotFoundError" in entry.get("error", "") and not broken:
            entry["install"] = f"{program.command[0]} -m pip install . (in isoscale's folder)"
        # A failure on the GPU alone is a known problem; the examination itself still succeeded.
        on_gpu = bool(facts["gpus"]) and "gpu" in info.platforms and entry["status"] == "ok"
        entry["gpu"] = look("gpu") if on_gpu else None
        facts["frameworks"][name] = entry
    return {**facts, "problems": problem.find(facts, lookup.problems())}


def run(argv: Sequence[str]) -> int:
    """Runs the command.

    Returns:
      The exit code: 0 done, 1 the examination of a framework failed.

    Raises:
      ConfigError: bad input.
    """
    fv = define_flags()
    words, flags = split_words(argv)
    if not fv.parse(flags):
        return 0
    if words and fv.given("frameworks"):
        raise ConfigError(f"name frameworks once: '{shown(words[0])}', or --frameworks=...")
    facts = diagnose(fv, list(dict.fromkeys(words)))
    if fv.json:
        print(to_json(facts, indent=2))
    else:
        from isoscale.common.report.diagnosis import lines

        print("\n".join(lines(facts)))
    failed = any(entry["status"] == "failed" for entry in facts["frameworks"].values())
    return 1 if failed else 0
