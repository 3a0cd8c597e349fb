"""Measures planning, statistics and report for many results; each in a fresh process.

    python -m tests.benchmarks.report_speed

Targets: 1,000 results in under 5 seconds, 10,000 in under 30 seconds and 1 GB.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.common.report.fake_study import grid_lines, write_study

CELLS_PER_MODEL = 11
STUDIES = {
    "1,000 results: 167 cells x 6 runs": (15, 6),
    "1,000 results: 1,001 cells x 1 run": (91, 1),
    "10,000 results: 1,661 cells x 6 runs": (151, 6),
}


def plan_flags(cells: int) -> list[str]:
    """Returns flags of a grid with at least this number of cells."""
    batches = [720720 * (1 + i) for i in range(-(-cells // (2 * 7 * 8)))]
    return [
        "--models=mlp_medium,mlp_large",
        "--devices=1,2,3,4,5,6,7,8",
        f"--global_batch_size={','.join(map(str, batches))}",
        "--allow_oversubscription",
        "--study=plan",
    ]


def measure(arguments: list[str], folder: Path) -> tuple[float, float]:
    """Runs ``isoscale``; returns its seconds and the peak MiB of its largest process."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-P", "-m", "isoscale.common.commands.main", *arguments],
        cwd=folder,
        env=dict(os.environ),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return time.perf_counter() - began, peak / 1024


def main() -> None:
    print("| study | plan s | statistics and report s | together s | largest process MiB |")
    print("|---|---|---|---|---|")
    for name, (models, runs) in STUDIES.items():
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            lines = grid_lines(models=[f"m{i}" for i in range(models)], runs=runs)
            write_study(folder / "runs/out/s", lines, steps=100)
            plan, _ = measure(
                ["compare", "--dry_run", f"--runs={runs}", *plan_flags(CELLS_PER_MODEL * models)],
                folder,
            )
            report, peak = measure(["report", "s"], folder)
        print(f"| {name} | {plan:.2f} | {report:.2f} | {plan + report:.2f} | {peak:.0f} |")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
