"""Runs the benchmarks and writes their tables.

    make benchmark            about 50 minutes, alone on the machine
    python -m tests.benchmarks side_by_side two_devices     only these parts

Each part replaces its own section of ``tests/benchmarks/RESULTS.md``. A section names the date, the
machine and the versions of its measurement.
"""

import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from isoscale.common.disk.json_files import write_atomically
from isoscale.common.machine import describe
from tests.benchmarks import against_keras, coverage, overhead, side_by_side, two_devices
from tests.conftest import ROOT

RESULTS = Path(__file__).with_name("RESULTS.md")
PARTS = {
    "overhead": ("What a runner adds to a hand-written step", overhead, overhead.rows),
    "start": ("What comes before the first step", None, overhead.start_rows),
    "side_by_side": ("The three frameworks side by side", side_by_side, side_by_side.rows),
    "two_devices": ("Two devices, weak scaling", two_devices, two_devices.rows),
    "against_keras": ("Against Keras 3 on the same backend", against_keras, against_keras.rows),
    "coverage": ("How often the statistics of turns are right", coverage, coverage.rows),
}
HEADING = """# Benchmarks

Results of `make benchmark` on one machine, with dates. Run it on your machine.
"""
PACKAGES = ("jax", "flax", "optax", "tensorflow", "keras", "torch", "numpy")


def conditions() -> str:
    machine = describe.machine()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
        ).stdout.strip()
    except FileNotFoundError:
        commit = ""
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} at commit {commit or 'unknown'}: "
        f"{machine['cpu_model']}, {len(machine['available_cores'])} cores, "
        f"{machine['operating_system']}, Python {machine['python']}; {versions}. "
        "float32, AdamW with clipping, one pinned core unless said otherwise."
    )


def read_sections() -> dict[str, str]:
    """Returns title -> text of each section that the file holds."""
    if not RESULTS.exists():
        return {}
    _, *sections = RESULTS.read_text().split("\n## ")
    return dict(section.split("\n", 1) for section in sections)


def main(names: list[str]) -> None:
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        sys.exit(f"unknown part {unknown[0]!r}: choose from {', '.join(PARTS)}")
    measured = conditions()  # before the first part changes the file
    # A simulation depends on no machine: it has its own target, ``make coverage``.
    for name in names or [part for part in PARTS if part != "coverage"]:
        title, module, rows = PARTS[name]
        text = module.__doc__.split("\n\n", 1)[1] if module else ""
        lines = ["", text, measured, ""]
        print(f"## {title}", *lines, sep="\n", flush=True)
        for row in rows():
            lines.append(row)
            print(row, flush=True)
        print()
        sections = {**read_sections(), title: "\n".join(lines).rstrip() + "\n"}
        order = [part[0] for part in PARTS.values() if part[0] in sections]
        body = [f"## {entry}\n{sections[entry]}" for entry in order]
        write_atomically(RESULTS, "\n".join([HEADING, *body]))


if __name__ == "__main__":
    main(sys.argv[1:])
