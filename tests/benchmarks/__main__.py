"""Runs the benchmarks and writes their tables.

    make benchmark            about 45 minutes, alone on the machine
    python -m tests.benchmarks side_by_side two_devices     some of them; printed, not written

All of them go into ``tests/benchmarks/RESULTS.md``, with the machine, the versions and the date.
"""

import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from common.machine import describe
from common.measure.records import write_atomically
from tests.benchmarks import against_keras, overhead, side_by_side, two_devices

RESULTS = Path(__file__).with_name("RESULTS.md")
PARTS = {
    "overhead": ("What a runner adds to a hand-written step", overhead, overhead.rows),
    "start": ("What comes before the first step", None, overhead.start_rows),
    "side_by_side": ("The three frameworks side by side", side_by_side, side_by_side.rows),
    "two_devices": ("Two devices, weak scaling", two_devices, two_devices.rows),
    "against_keras": ("Against Keras 3 on the same backend", against_keras, against_keras.rows),
}
PACKAGES = ("jax", "flax", "optax", "tensorflow", "keras", "torch", "numpy")


def heading() -> str:
    machine = describe.machine()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    return (
        f"# Benchmarks\n\nMeasured by `make benchmark` on {datetime.now(UTC):%Y-%m-%d}: "
        f"{machine['cpu_model']}, {len(machine['available_cores'])} cores, "
        f"{machine['operating_system']}, Python {machine['python']}; {versions}. float32, AdamW "
        "with clipping, one pinned core unless said otherwise. One machine and one day: run it on "
        "yours.\n"
    )


def main(names: list[str]) -> None:
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        sys.exit(f"unknown part {unknown[0]!r}; there are {', '.join(PARTS)}")
    lines = [heading()]
    print(lines[0])
    for name in names or PARTS:
        title, module, rows = PARTS[name]
        text = module.__doc__.split("\n\n", 1)[1] if module else ""
        lines.append(f"## {title}\n\n{text}".rstrip() + "\n")
        print(lines[-1])
        for row in rows():
            lines.append(row)
            print(row, flush=True)
        lines.append("")
        print()
        if not names:  # after each part: what is measured is kept
            write_atomically(RESULTS, "\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
