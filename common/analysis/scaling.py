"""Summarizes the results of runs by cell, with speedup and efficiency against ``bare``."""

import dataclasses
import functools
import itertools
import math
import statistics
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Literal

import numpy as np

from isoscale.common.analysis import pooling
from isoscale.common.analysis.estimates import (
    Estimate,
    Ratio,
    median_estimate,
    outliers,
    ratio_estimates,
)
from isoscale.common.analysis.run_pairs import LEAST_PAIRS, ratio_of_runs
from isoscale.common.analysis.turns import LEAST_ROUNDS, Rounds, paired_ratio, trimmed_mean
from isoscale.common.config.cell import Cell
from isoscale.common.config.run_config import LADDER, STOCK
from isoscale.common.measure.turns import TurnsFigures
from isoscale.common.study.plan import group_key
from isoscale.common.study.records import BOTH, ResultLine, Scalings, SharedCell

Scaling = Literal["strong", "weak"]
SCALINGS: tuple[Scaling, ...] = ("strong", "weak")

_NOT_IN_BASE = (
    "strategy",
    "devices",
    "processes",
    "mesh",
    "global_batch_size",
    "oversubscribed",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellSummary:
    """The results of a cell over its runs, for one of the settings that show the cell.

    Attributes:
      cell: the cell as recorded; of a shared cell, the cell of the other lane.
      scaling: that of the setting; decides the base.
      ok: result lines of its successful runs.
      statuses: status -> number of lines.
      step_seconds: median over runs of each run's typical time per step (the median over windows;
        over valid rounds the trimmed mean, if runs took turns); None without a successful run with
        a valid round. All medians leave out runs without one.
      examples_per_second: median over runs of examples / seconds; None without a successful run.
      tokens_per_second: median over runs of real tokens / seconds; None for a model without tokens.
      flops_per_second: median over runs of the analytic floating-point operations of a step x steps
        per second; None without a known count.
      latency_seconds: median over runs of each run's median single-step window; None if not
        measured.
      mixed: how the conditions of the successful runs differ, one text per fact; then the cell has
        neither an interval nor a verdict.
      outliers: numbers of the runs with a throughput far from the others; flagged, never dropped.
      examples_per_second_without_outliers: median without the outliers; None without outliers.
      base: the cell of ``bare`` that the speedup compares with; None if it was not measured.
      speedup: throughput / throughput of ``bare``; None if bare was not measured.
      efficiency: speedup / devices.
      shared: the record of a shared cell, whose runs are those of its stock cell; None for a cell
        with runs of its own.
    """

    cell: Cell
    scaling: Scaling = "strong"
    ok: list[ResultLine]
    statuses: dict[str, int]
    step_seconds: Estimate | None
    examples_per_second: Estimate | None
    tokens_per_second: Estimate | None
    flops_per_second: Estimate | None
    latency_seconds: Estimate | None
    mixed: list[str]
    outliers: list[int]
    examples_per_second_without_outliers: float | None
    base: "CellSummary | None" = None
    speedup: Ratio | None
    efficiency: Ratio | None
    shared: SharedCell | None = None

    @functools.cached_property
    def measured(self) -> Cell:
        """The cell that has the runs: the same for a stock cell and its shared tuned cell."""
        return dataclasses.replace(self.cell, tuning=STOCK) if self.shared else self.cell

    @functools.cached_property
    def valid(self) -> list[ResultLine]:
        """Successful runs without those of which other programs disturbed all rounds."""
        return [line for line in self.ok if step_seconds_of(line) is not None]

    @property
    def throughputs(self) -> list[float]:
        """Examples per second of each run in ``valid``."""
        return [_speed(line) for line in self.valid]

    @property
    def rounds(self) -> dict[int, list[float | None]] | None:
        """Group -> seconds per step of each round, if the runs took turns; None: they did not.

        None in place of a round: there is no window, or other programs disturbed it.
        """
        found: dict[int, list[float | None]] = {}
        for line in self.ok:
            figures = line.result.turns
            if figures is None:
                return None
            found[line.run] = _valid_rounds(figures)
        return found

    @property
    def seconds_per_example(self) -> dict[int, float]:
        """Run -> its seconds / examples, from which ratios are made.

        Of runs that took turns, only those with enough valid rounds for their group to count.
        """
        return {
            line.run: 1 / _speed(line)
            for line in self.valid
            if line.result.turns is None
            or sum(s is not None for s in _valid_rounds(line.result.turns)) >= LEAST_ROUNDS
        }

    @property
    def disturbed(self) -> int:
        """Number of successful runs that other programs disturbed."""
        return sum(bool(line.result.disturbed) for line in self.ok)


_LONGEST_ROUND = 3 * 3600.0
"""Seconds; within them, two runs of a round began. Other cells of the round run between them."""
_DISTURBED = "all runs of a cell were disturbed from outside"


def batch_of(cell: Cell, scaling: Scaling) -> int:
    """Returns the batch size that compared cells share: the global batch size; with weak scaling,
    the batch size per device."""
    return cell.global_batch_size // (cell.devices if scaling == "weak" else 1)


def scalings_of(cells: Collection[Cell]) -> dict[Cell, list[Scaling]]:
    """Returns which settings show each cell of a study with strong and weak scaling.

    A cell on several devices belongs to the strong setting if its global batch was measured on one
    device, and to the weak one if the batch of each of its devices was. Without such a cell on one
    device, another device count with the same batch decides. A cell on one device is the base of
    both. What then belongs to neither is strong.

    The base decides first because a sweep over batches has many cells with equal batches by chance:
    with 1, 2 and 4 devices and the batches 64 and 128, weak scaling also has 256 on 2 and 4.
    """
    alike: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        alike.setdefault(group_key(cell, scaling=BOTH), []).append(cell)
    found: dict[Cell, list[Scaling]] = {}
    for group in alike.values():
        counts: dict[tuple[Scaling, int], set[int]] = {}
        for cell in group:
            for scaling in SCALINGS:
                counts.setdefault((scaling, batch_of(cell, scaling)), set()).add(cell.devices)
        for cell in group:
            others = {s: counts[s, batch_of(cell, s)] - {cell.devices} for s in SCALINGS}
            based = [s for s in SCALINGS if 1 in others[s]]
            found[cell] = based or [s for s in SCALINGS if others[s]] or ["strong"]
    return found


def _base_key(cell: Cell, *, global_batch_size: int) -> tuple[str, int]:
    left_out = list(_NOT_IN_BASE)
    if cell.tuning != LADDER:
        # Cells of one lane are compared although a tweak may apply to some strategies only.
        left_out += ["tweaks", "steps_per_dispatch"]
    # The compile mode stays in the key: a cell is compared with bare in the same compile mode.
    return cell.without(*left_out), global_batch_size


def compared(pairs: Sequence[tuple[CellSummary, CellSummary]]) -> list[Ratio]:
    """Returns the ratio of throughputs for each (numerator, denominator).

    Cells that took turns are compared within rounds. Otherwise, from 4 pairs of runs on, by runs
    with the same number that followed each other (``run_pairs.py``); else by Welch.

    Two cells must not be compared if their runs had different conditions, or if other programs
    disturbed all runs of a cell: the ratio then has neither interval nor test.
    """
    found: list[Ratio | None] = [
        _without_figures(a, b) or _in_turns(a, b) or _one_by_one(a, b) for a, b in pairs
    ]
    alone = [i for i, ratio in enumerate(found) if ratio is None]
    welch = ratio_estimates([(pairs[i][0].throughputs, pairs[i][1].throughputs) for i in alone])
    for index, ratio in zip(alone, welch, strict=True):
        found[index] = ratio
    return [
        ratio
        if (why := unsound(a, b)) is None
        else Ratio(value=ratio.value, low=None, high=None, n=ratio.n, unsound=why)
        for (a, b), ratio in zip(pairs, found, strict=True)
        if ratio is not None
    ]


def _without_figures(a: CellSummary, b: CellSummary) -> Ratio | None:
    """Returns an unknown ratio if other programs disturbed all of a cell; None: they did not."""
    if a.valid and b.valid:
        return None
    return Ratio(value=math.nan, low=None, high=None, n=(len(a.ok), len(b.ok)), unsound=_DISTURBED)


def _in_turns(a: CellSummary, b: CellSummary) -> Ratio | None:
    """Returns the ratio within rounds of cells whose runs took turns; None: they did not."""
    both = rounds_together(a, b)
    if both is None:
        return None
    try:
        return paired_ratio(*both)
    except ValueError as error:  # other programs disturbed all of them
        sides = [statistics.median(cell.throughputs or [math.nan]) for cell in (a, b)]
        value = sides[0] / sides[1]
        n = len(a.ok), len(b.ok)
        return Ratio(value=value, low=None, high=None, n=n, unsound=str(error))


def _one_by_one(a: CellSummary, b: CellSummary) -> Ratio | None:
    """Returns the ratio of cells whose runs followed each other; None: too few did."""
    runs = runs_together(a, b)
    if len(runs) < LEAST_PAIRS:
        return None
    found = ratio_of_runs(*runs_in_seconds(a, b, runs))
    return Ratio(
        value=found.value,
        low=found.low,
        high=found.high,
        p=found.p,
        n=found.n,
        method=found.method,
    )


def runs_together(a: CellSummary, b: CellSummary) -> list[int]:
    """Returns the numbers of the runs (or groups) that two cells ran one after the other.

    A round of a study runs each cell once, in random order: between two runs with the same number
    there is then no other run of the two cells. It is otherwise if a run was repeated later, or if
    a later session added one of the cells. A round that was interrupted, and finished another day,
    is none either.
    """
    sides = [(cell, cell.seconds_per_example) for cell in (a, b)]
    order = sorted(
        (
            (line.sequence, side, line)
            for side, (cell, known) in enumerate(sides)
            for line in cell.ok
            if line.run in known
        ),
        key=lambda entry: entry[:2],
    )
    return [
        first.run
        for (_, side, first), (_, next_side, then) in itertools.pairwise(order)
        if first.run == then.run and side != next_side and not _paused(first, then)
    ]


def _paused(first: ResultLine, then: ResultLine) -> bool:
    """Returns whether a study rested between two runs; no if their times are unknown."""
    began, next_began = (_moment(line.result.started) for line in (first, then))
    if began is None or next_began is None:
        return False
    return next_began - began > _LONGEST_ROUND


def _moment(text: str | None) -> float | None:
    """Returns a recorded time in seconds since 1970; None if it is absent or damaged."""
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None


def runs_in_seconds(
    a: CellSummary, b: CellSummary, runs: Sequence[int]
) -> tuple[dict[int, float], dict[int, float]]:
    """Returns run -> seconds per example of both cells, of some runs."""
    first, second = (cell.seconds_per_example for cell in (a, b))
    return {run: first[run] for run in runs}, {run: second[run] for run in runs}


def rounds_together(a: CellSummary, b: CellSummary) -> tuple[Rounds, Rounds] | None:
    """Returns the rounds that two cells took together, in seconds per example; None: none.

    A cell that a later session of the study added has groups of its own, with the same numbers:
    their rounds were at another time. Seconds count for an example, not for a step, because under
    weak scaling cells with different batches take turns.
    """
    if a.rounds is None or b.rounds is None:
        return None
    first, second = _groups(a), _groups(b)
    shared = [run for run, group in first.items() if second.get(run) == group]
    if not shared:
        return None
    return _per_example(a, shared), _per_example(b, shared)


def _groups(cell: CellSummary) -> dict[int, str]:
    """Returns run -> the group in which it took turns."""
    return {line.run: line.result.turns.group for line in cell.ok if line.result.turns}


def _per_example(cell: CellSummary, runs: Sequence[int]) -> Rounds:
    size, rounds = cell.cell.examples_per_step, cell.rounds or {}
    return {run: [None if s is None else s / size for s in rounds[run]] for run in runs}


def unsound(a: CellSummary, b: CellSummary) -> str | None:
    """Returns why two cells of one study must not be compared; None: they may be."""
    same = a.cell.framework == b.cell.framework
    different = [*a.mixed, *b.mixed] or pooling.apart(a.ok, b.ok, same_framework=same)
    if different:
        return f"the runs differ in {pooling.names(dict.fromkeys(different))}"
    in_turns = rounds_together(a, b) is not None  # disturbed rounds do not count
    if not in_turns and any(cell.disturbed == len(cell.ok) for cell in (a, b)):
        return _DISTURBED
    return None


def summarize_cells(
    results: Sequence[ResultLine], *, scaling: Scalings, shared: Sequence[SharedCell] = ()
) -> list[CellSummary]:
    """Returns one summary per cell, in order of first appearance; shared cells come last.

    With both scalings, a cell that a strong and a weak setting show has a summary for each.

    Args:
      results: lines of ``results.jsonl``.
      scaling: ``strong`` compares with ``bare`` at the same global batch, ``weak`` with ``bare``
        at the batch of one device.
      shared: stock cells that also stand for their tuned cell; one without runs is left out, and
        so is one whose tuned cell has runs of its own, from before cells were shared.
    """
    groups: dict[Cell, list[ResultLine]] = {}
    for line in results:
        groups.setdefault(line.cell, []).append(line)
    summaries = [_without_speedup(group) for group in groups.values()]
    summaries += _shared(summaries, shared)
    if scaling == BOTH:
        of = scalings_of([summary.cell for summary in summaries])
        summaries = [dataclasses.replace(x, scaling=s) for x in summaries for s in of[x.cell]]
    else:
        only: Scaling = "weak" if scaling == "weak" else "strong"
        summaries = [dataclasses.replace(x, scaling=only) for x in summaries]
    bases: dict[tuple[str, int], CellSummary] = {}
    for summary in summaries:
        cell = summary.cell
        if cell.strategy == "bare" and summary.ok:
            key = _base_key(cell, global_batch_size=cell.global_batch_size)
            bases[key] = summary
    found: list[tuple[int, CellSummary]] = []
    for index, summary in enumerate(summaries):
        batch = batch_of(summary.cell, summary.scaling)
        base = bases.get(_base_key(summary.cell, global_batch_size=batch))
        if summary.ok and base:
            summaries[index] = dataclasses.replace(summary, base=base)
            if summary.valid and base.valid:
                found.append((index, base))
    ratios = compared([(summaries[index], base) for index, base in found])
    for (index, base), speedup in zip(found, ratios, strict=True):
        summaries[index] = _with_speedup(summaries[index], base, speedup)
    return summaries


def _shared(
    summaries: Sequence[CellSummary], shared: Sequence[SharedCell]
) -> Iterator[CellSummary]:
    """Yields the summaries of shared cells: the figures of the stock cell, in the other lane."""
    by_id = {summary.cell.id: summary for summary in summaries}
    for found in shared:
        stock = by_id.get(found.cell_id)
        if stock is None or stock.cell.tuning != STOCK:
            continue
        cell = dataclasses.replace(stock.cell, tuning=found.lane)
        if cell.id not in by_id:
            yield dataclasses.replace(stock, cell=cell, shared=found)


def _with_speedup(summary: CellSummary, base: CellSummary, speedup: Ratio) -> CellSummary:
    if summary.cell.strategy == "bare":
        speedup = Ratio(value=1.0, low=None, high=None, n=speedup.n, unsound=speedup.unsound)
    devices = summary.cell.devices
    low, high = (None if end is None else end / devices for end in (speedup.low, speedup.high))
    efficiency = dataclasses.replace(speedup, value=speedup.value / devices, low=low, high=high)
    return dataclasses.replace(summary, base=base, speedup=speedup, efficiency=efficiency)


def _valid_rounds(figures: TurnsFigures) -> list[float | None]:
    """Returns the seconds per step of each round; None: no window, or a disturbed one."""
    known = {r.round: r.seconds_per_step for r in figures.rounds if not r.disturbed}
    last = max((r.round for r in figures.rounds), default=-1)
    return [known.get(number) for number in range(last + 1)]


def step_seconds_of(line: ResultLine) -> float | None:
    """Returns a run's typical time per step; None if other programs disturbed all its rounds.

    It is the median over windows. If the run took turns, it is the statistic from which ratios are
    made: exp of the trimmed mean of log time over the valid rounds.
    """
    figures = line.result.turns
    if figures is None:
        return line.result.median_step_seconds
    valid = [seconds for seconds in _valid_rounds(figures) if seconds is not None]
    if not valid:
        return None
    return math.exp(float(trimmed_mean(np.log(valid))))


def _speed(line: ResultLine) -> float:
    """Returns the examples per second, likewise, of a run with a valid round."""
    if line.result.turns is None:
        return line.result.speed
    seconds = step_seconds_of(line)
    assert seconds is not None
    return line.cell.examples_per_step / seconds


def _flops_per_second(line: ResultLine) -> float | None:
    """Returns the analytic floating-point operations of a step x steps per second."""
    flops = line.result.flops_per_step
    return None if flops is None else flops * (_speed(line) / line.cell.examples_per_step)


def _tokens_per_second(line: ResultLine) -> float | None:
    """Returns the tokens per second that belong to the run's examples per second."""
    found = line.result.tokens_per_second
    return None if found is None else found * (_speed(line) / line.result.speed)


def _positive(rates: Iterable[float | None]) -> list[float | None]:
    """Returns rates; None for one that no run can have, as a damaged record may hold."""
    return [rate if rate is not None and 0 < rate < math.inf else None for rate in rates]


def _without_speedup(group: list[ResultLine]) -> CellSummary:
    ok = [line for line in group if line.ok]
    statuses: dict[str, int] = {}
    for line in group:
        statuses[line.result.status] = statuses.get(line.result.status, 0) + 1

    mixed = pooling.differences(ok)

    def estimate(values: Sequence[float | None]) -> Estimate | None:
        known = [value for value in values if value is not None]
        found = median_estimate(known) if known else None
        if not (found and mixed):
            return found
        return dataclasses.replace(
            found, low=None, high=None, method="none: runs under different conditions"
        )

    steps = [(line, step_seconds_of(line)) for line in ok]
    valid = [line for line, seconds in steps if seconds is not None]
    throughputs = [_speed(line) for line in valid]
    far = outliers(throughputs)
    near = [value for i, value in enumerate(throughputs) if i not in far]
    return CellSummary(
        cell=group[0].cell,
        ok=ok,
        statuses=statuses,
        step_seconds=estimate([seconds for _, seconds in steps]),
        examples_per_second=estimate(throughputs),
        tokens_per_second=estimate(_positive(map(_tokens_per_second, valid))),
        flops_per_second=estimate(_positive(map(_flops_per_second, valid))),
        latency_seconds=estimate([line.result.median_latency_seconds for line in valid]),
        mixed=mixed,
        outliers=[valid[i].run for i in far],
        examples_per_second_without_outliers=median_estimate(near).median if far else None,
        speedup=None,
        efficiency=None,
    )
