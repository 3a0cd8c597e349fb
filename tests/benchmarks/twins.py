"""Real studies of one cell under two names, and of a slower cell: what do they show?

    python -m tests.benchmarks.twins                    about 35 minutes, alone on the machine
    python -m tests.benchmarks.twins 4 3m mlp_medium    4 studies of 3 minutes, of this model

Each study compares `bare` with a strategy that is the same under another name: a difference is
false, and at most two of ten studies may show one. Then a study in which each twentieth step is
computed twice, 5 % more work: its ratio is 1 / 1.05. Last, the part of the differences between
twins that follows the order in which they were started.
"""

import dataclasses
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from scipy import stats

from isoscale.common.analysis.scaling import CellSummary, rounds_together
from isoscale.common.analysis.turns import counted, logs, trimmed_mean
from isoscale.common.analysis.verdicts import Verdict
from isoscale.common.registry import lookup
from isoscale.common.report.study.data import load_study
from isoscale.common.study.store import Store

TWIN, SLOWER = "twin", "slower"
EVERY = 20
"""Of the slower strategy's steps, each of this number is computed twice."""
_INFO = (
    'INFO = {"summary": "bare again", "process_model": "single", "max_devices": 1,\n'
    '        "mesh_axes": ()}\n'
)
_TWIN = """from isoscale.frameworks.{framework}_runner.strategies import bare

{info}make = bare.make
"""
_SLOWER = """import itertools

from isoscale.frameworks.{framework}_runner import runner
from isoscale.frameworks.{framework}_runner.strategies import bare

{info}

def make(config):
    plain, count = runner.RUNNER.step, itertools.count(1)

    def step(self, batch):
        if next(count) % {every} == 0:
            plain(self, batch)
        return plain(self, batch)

    runner.RUNNER.step = step
    return bare.make(config)
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Twins:
    """What one study says about two cells.

    Attributes:
      verdict: of the study; None if it has none.
      ratio, low, high: throughput of the second name / of the first.
      by_order: log ratio of each group, and whether the second name was started first.
    """

    verdict: Verdict | None
    ratio: float
    low: float | None
    high: float | None
    by_order: list[tuple[float, bool]]


def write_strategies(folder: Path) -> None:
    """Writes both strategies, for every framework, into a folder for ``--extra``."""
    for framework in lookup.frameworks():
        own = folder / "strategies" / framework
        own.mkdir(parents=True)
        for name, text in ((TWIN, _TWIN), (SLOWER, _SLOWER)):
            filled = text.format(framework=framework, info=_INFO, every=EVERY)
            (own / f"{name}.py").write_text(filled)


def measure(
    folder: Path, framework: str, model: str, other: str, *, budget: str, seed: int
) -> Twins:
    """Measures ``bare`` and another strategy in one study.

    Args:
      folder: for ``--extra``; studies are written beside its files.
      framework, model: of both cells.
      other: name of the other strategy.
      budget: ``--time_budget``.
      seed: of the study: another one gives another order.
    """
    name = f"{framework}-{other}-{seed}"
    subprocess.run(
        [
            *(sys.executable, "-P", "-m", "isoscale.common.commands.start", "compare"),
            *(f"--extra={folder}", f"--frameworks={framework}", f"--strategies=bare,{other}"),
            *(f"--models={model}", "--devices=1", f"--time_budget={budget}", f"--seed={seed}"),
            *(f"--out_dir={folder / 'out'}", f"--study={name}", "--interleave=windows"),
            "--noreport",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    study = load_study(Store(folder / "out" / name))
    cells = {cell.cell.strategy: cell for cell in study.summaries}
    verdicts = [verdict for found in study.verdicts.values() for verdict in found]
    verdict = next(iter(verdicts), None)
    if verdict is None:
        raise ValueError(f"study {name} has no comparison")
    swapped = verdict.subject_cell.cell.strategy == "bare"
    ratio = verdict.ratio.inverse() if swapped else verdict.ratio
    return Twins(
        verdict=verdict,
        ratio=ratio.value,
        low=ratio.low,
        high=ratio.high,
        by_order=list(_by_order(cells[other], cells["bare"])),
    )


def _by_order(second: CellSummary, first: CellSummary) -> Iterable[tuple[float, bool]]:
    both = rounds_together(second, first)
    if both is None:
        return
    places = [
        {line.run: line.result.turns.place for line in cell.ok if line.result.turns}
        for cell in (second, first)
    ]
    for group, row in logs(*both).items():
        if len(counted({group: row})):
            yield float(trimmed_mean(row)), places[0][group] < places[1][group]


def order_effect(by_order: Sequence[tuple[float, bool]]) -> str:
    """Returns by how much the cell that was started first is faster, as text."""
    values = [value if first else -value for value, first in by_order]
    if len(values) < 3:
        return "too few groups"
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    spread = statistics.stdev(value for value, _ in by_order)
    return (
        f"the one started first is faster by {100 * mean:.2f} % "
        f"[{100 * (mean - half):.2f}, {100 * (mean + half):.2f}] (n = {len(values)} groups); a "
        f"group's ratio has a standard deviation of {100 * spread:.2f} %"
    )


def _text(found: Twins) -> str:
    ends = "" if found.low is None else f" [{found.low:.4f}, {found.high:.4f}]"
    answer = found.verdict.answer if found.verdict else "no verdict"
    return f"{found.ratio:.4f}{ends}, {len(found.by_order)} groups: {answer}"


def main(studies: int = 10, budget: str = "3m", model: str = "mlp_medium") -> int:
    """Runs the benchmark; returns 1 if it fails.

    It fails if more than a fifth of the studies of twins show a difference, or if the interval of
    more than one slowdown has 1 in it, or not the truth: a 95 % interval may miss once.
    """
    frameworks = list(lookup.frameworks())
    false, missed, groups = 0, 0, list[tuple[float, bool]]()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_strategies(folder)
        for number in range(studies):
            framework = frameworks[number % len(frameworks)]
            found = measure(folder, framework, model, TWIN, budget=budget, seed=number)
            shown = found.verdict is not None and found.verdict.outcome in ("faster", "slower")
            false += shown
            groups += found.by_order
            print(f"{framework} {model}, twins: {_text(found)}", flush=True)
        print(f"{false} of {studies} studies show a difference between twins")
        print(f"order of start: {order_effect(groups)}")
        for framework in frameworks:
            found = measure(folder, framework, model, SLOWER, budget=budget, seed=studies)
            truth = EVERY / (EVERY + 1)
            covers = found.low is not None and found.high is not None
            covers = covers and found.low <= truth <= found.high < 1
            missed += not covers
            print(
                f"{framework} {model}, 5 % more work, truth {truth:.4f}: {_text(found)}", flush=True
            )
        print(f"{missed} of {len(frameworks)} slowdowns were not found, or had another interval")
    return int(false > studies / 5 or missed > 1)


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(main(*([int(given[0]), *given[1:]] if given else [])))
