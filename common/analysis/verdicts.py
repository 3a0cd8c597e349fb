"""Decides which cells are faster, and whether more devices help: one rule for every verdict."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence
from statistics import geometric_mean, median
from typing import Literal

from isoscale.common.analysis.correction import Tested, Tests, in_one_family
from isoscale.common.analysis.estimates import (
    CONFIDENCE,
    LEAST_RUNS,
    Ratio,
)
from isoscale.common.analysis.run_pairs import PAIRED
from isoscale.common.analysis.scaling import CellSummary
from isoscale.common.analysis.settings import Setting
from isoscale.common.analysis.turns import PairedRatio
from isoscale.common.config.counts import counted
from isoscale.common.registry import lookup

Outcome = Literal["faster", "slower", "no difference shown", "no verdict"]
Question = Literal["at equal devices", "at any devices", "within the framework", "against bare"]

RULE = (
    "A verdict compares the examples per second of two cells. Runs of the two with the same number "
    "that followed each other, without another run of the two between them, are a pair: slow drift "
    "changes both alike. From 4 pairs on, the ratio is the geometric mean of those of pairs, with "
    "Student's t interval and test over pairs, on logarithms. With fewer pairs it is the ratio of "
    "geometric means over runs, with Welch's interval and test. A difference is called shown if "
    "the p of the test, corrected for all {n} tests of this report (Benjamini-Yekutieli), is at "
    "most 0.05; otherwise the verdict is 'no difference shown'. An interval is not corrected for "
    "the number of tests: it may exclude 1 although the corrected p shows no difference. A verdict "
    "and an interval need at least 3 runs of each cell, all on the same machine, in the same "
    "environment and with the same versions; other programs may not have disturbed all runs of a "
    "cell."
)

Named = tuple[str, CellSummary]
"""(name within the setting, cell)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """One comparison of two cells.

    Attributes:
      question: ``at equal devices`` and ``at any devices`` compare the fastest cells of two
        frameworks, or, with one framework, of two of its strategies. ``within the framework``
        compares the fastest cell of a framework with another strategy on the same number of
        devices. ``against bare`` compares a cell with one device without distribution.
      subject, other: names of the two cells.
      subject_cell, other_cell: the two cells; ``other_cell`` is None against bare.
      ratio: throughput of the subject / throughput of the other.
      p: p that the ratio is 1, corrected for the number of tests; None without a test.
      outcome: the verdict by ``RULE``.
      tested: the whole test, with that of equivalence.
      margin: throughputs up to this share apart are called the same.
    """

    question: Question
    subject: str
    other: str
    subject_cell: CellSummary
    other_cell: CellSummary | None
    ratio: Ratio
    p: float | None
    outcome: Outcome
    tested: Tested
    margin: float

    @property
    def answer(self) -> str:
        """The outcome as one of four answers, if the runs took turns; otherwise the outcome."""
        return answer_text(self.tested, self.outcome, self.margin)

    @property
    def evidence(self) -> str:
        """Ratio, interval, number of runs and p as one short text."""
        return f"{ratio_text(self.ratio)} ({evidence_text(self.ratio, self.p)})"


def answer_text(tested: Tested, outcome: Outcome, margin: float) -> str:
    """Returns the answer in words; see ``answers.py``.

    Args:
      tested: the test.
      outcome: the outcome of the test.
      margin: throughputs up to this share apart are called the same.
    """
    if tested.p_same is None:
        return outcome
    within = f"{100 * margin:g} %"
    if tested.p_same <= 1 - CONFIDENCE:
        shown = outcome in ("faster", "slower")
        return f"{outcome}, but within {within}" if shown else f"the same within {within}"
    return "not decided" if outcome == "no difference shown" else outcome


_BARE = "bare"


def _usual_strategy(framework: str) -> str | None:
    """Returns a framework's default strategy; None for a framework that is not known here."""
    known = framework in lookup.frameworks()
    return lookup.framework_info(framework).default_strategy if known else None


def ratio_text(ratio: Ratio) -> str:
    """Returns a ratio with its interval as text, for example ``1.21x [1.17, 1.26]``."""
    if math.isnan(ratio.value):
        return "unknown"
    # With two decimals, a ratio whose verdict is a difference could print as 1.00x.
    digits = 3 if 0.98 < ratio.value < 1.02 else 2
    text = f"{ratio.value:.{digits}f}x"
    if ratio.low is not None and ratio.high is not None:
        text += f" [{ratio.low:.{digits}f}, {ratio.high:.{digits}f}]"
    return text


def evidence_text(ratio: Ratio, p: float | None) -> str:
    """Returns the numbers of runs and the corrected p as text."""
    if isinstance(ratio, PairedRatio):
        return _evidence_in_turns(ratio, p)
    a, b = ratio.n
    runs = f"n = {a} runs each" if a == b else f"n = {a} and {b} runs"
    if ratio.method == PAIRED:
        runs = f"n = {counted(a, 'pair')} of runs"
    if a == b == 1:
        runs = "one run each"
    if ratio.unsound:
        return f"{runs}, no interval: {ratio.unsound}"
    if p is None:
        return f"{runs}, no interval"
    return f"{runs}, corrected p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"


def _evidence_in_turns(ratio: PairedRatio, p: float | None) -> str:
    runs = f"n = {counted(ratio.groups, 'group')} with {counted(ratio.rounds, 'round')}"
    if p is None:
        return f"{runs}, {ratio.method or 'no interval'}"
    return f"{runs}, corrected p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"


def why_no_verdict(ratios: Iterable[Ratio]) -> str:
    """Returns the reason why none of some comparisons has a verdict."""
    reasons = [ratio.unsound for ratio in ratios if ratio.unsound]
    return reasons[0] if reasons else f"a verdict needs {LEAST_RUNS} runs of each cell"


def outcome_of(ratio: Ratio, p: float | None) -> Outcome:
    """Returns the verdict by ``RULE`` for a ratio of throughputs and its corrected p."""
    if p is None or ratio.low is None:
        return "no verdict"
    if p > 1 - CONFIDENCE:
        return "no difference shown"
    return "faster" if ratio.value > 1 else "slower"


def speed(cell: CellSummary) -> float:
    """Returns a cell's typical examples per second, by which cells are ranked.

    The speed is the geometric mean from 3 runs on, otherwise the median.
    """
    values = cell.throughputs
    return geometric_mean(values) if len(values) >= LEAST_RUNS else median(values)


def comparable(setting: Setting) -> list[Named]:
    """Returns the measured cells of a setting; leaves out cells whose devices shared cores."""
    return [
        (name, cell) for name, cell in setting.cells if cell.valid and not cell.cell.oversubscribed
    ]


def _has_several_frameworks(cells: Sequence[Named]) -> bool:
    return len({cell.cell.framework for _, cell in cells}) > 1


def champions(setting: Setting, devices: int | None = None) -> list[Named]:
    """Returns one cell of each framework; with one framework only, of each series.

    It is the fastest cell with enough runs for a verdict; without such a cell, the fastest cell.

    Args:
      setting: the setting.
      devices: device count of the cells; None: any count.

    Returns:
      (name, cell) pairs: first the cells with enough runs for a verdict, then the other cells; each
      part starts with the fastest cell.
    """
    cells = [
        (name, cell)
        for name, cell in comparable(setting)
        if devices is None or cell.cell.devices == devices
    ]
    several = _has_several_frameworks(cells)

    def rank(entry: Named) -> tuple[bool, float]:
        return len(entry[1].ok) >= LEAST_RUNS, speed(entry[1])

    best: dict[str, Named] = {}
    for name, cell in sorted(cells, key=rank, reverse=True):
        group = cell.cell.framework if several else name.rsplit(" on ", 1)[0]
        best.setdefault(group, (name, cell))
    return list(best.values())


def undecided(setting: Setting, devices: int | None = None) -> list[Named]:
    """Returns the cells that have too few runs for a verdict and may change the answer.

    They are champions themselves, or faster than every champion of their framework. The arguments
    are those of ``champions``.
    """
    best = champions(setting, devices)
    speeds = {name: speed(cell) for name, cell in best}
    fastest: dict[str, float] = {}
    for name, cell in best:
        framework = cell.cell.framework
        fastest[framework] = max(speeds[name], fastest.get(framework, 0.0))
    return [
        (name, cell)
        for name, cell in comparable(setting)
        if len(cell.ok) < LEAST_RUNS
        and (devices is None or cell.cell.devices == devices)
        and (name in speeds or speed(cell) > fastest[cell.cell.framework])
    ]


def device_counts(setting: Setting) -> list[int]:
    """Returns the device counts of the comparable cells, sorted."""
    return sorted({cell.cell.devices for _, cell in comparable(setting)})


def judge(settings: Sequence[Setting], tests: Tests | None = None) -> dict[str, list[Verdict]]:
    """Returns setting title -> its verdicts.

    Args:
      settings: the settings of a study.
      tests: the tests of the report; None: those of the settings are corrected by themselves.
    """
    if tests is None:
        return in_one_family(lambda own: judge(settings, own))[0]
    for setting in settings:
        _plan(setting, tests)
    return {s.title: [*_between(s, tests), *_against_bare(s, tests)] for s in settings}


def _plan(setting: Setting, tests: Tests) -> None:
    """Names the comparisons that are fixed before the data.

    All pairs of frameworks on the same number of devices, each with its usual strategy (``bare``
    where the usual one was not measured), and each cell on several devices against its base. The
    fastest strategy of a framework is known only from the data: pairs with it are exploratory.
    Cells count also if other programs disturbed all their rounds: they were planned.
    """
    cells = [cell for _, cell in setting.cells if cell.ok and not cell.cell.oversubscribed]
    for devices in sorted({cell.cell.devices for cell in cells}):
        usual: dict[str, CellSummary] = {}
        for cell in cells:
            framework, strategy = cell.cell.framework, cell.cell.strategy
            if cell.cell.devices == devices and strategy in (_BARE, _usual_strategy(framework)):
                known = usual.get(framework)
                if known is None or known.cell.strategy == _BARE:
                    usual[framework] = cell
        for first, other in itertools.combinations(usual.values(), 2):
            tests.plan(first, other)
    for cell in cells:
        if cell.base is not None and cell.cell.devices > 1:
            tests.plan(cell, cell.base)


def overall(setting: Setting, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Returns the verdicts that compare the fastest cell with those of the other frameworks.

    Each cell has the best device count of its framework. With one framework, the verdicts compare
    its strategies.
    """
    best = champions(setting)
    return [
        verdict
        for verdict in verdicts
        if verdict.question in ("at equal devices", "at any devices")
        and verdict.subject == best[0][0]
        and verdict.other in [name for name, _ in best[1:]]
    ]


def not_shown_slower(verdicts: Sequence[Verdict], name: str) -> list[str]:
    """Returns the names of cells that are not shown to be slower than a cell.

    These cells have its framework and device count. Cells without a verdict are left out.

    Args:
      verdicts: verdicts of the setting.
      name: name of the cell.
    """
    return [
        verdict.other
        for verdict in verdicts
        if verdict.question == "within the framework"
        and verdict.subject == name
        and verdict.outcome in ("no difference shown", "slower")
    ]


def _between(setting: Setting, tests: Tests) -> list[Verdict]:
    pairs: list[tuple[Question, Named, Named]] = []
    for devices in device_counts(setting):
        best = champions(setting, devices)
        pairs += [("at equal devices", best[0], other) for other in best[1:]]
        same = [e for e in comparable(setting) if e[1].cell.devices == devices]
        if _has_several_frameworks(same):
            # Each champion is also tested against the other strategies of its framework.
            pairs += [
                ("within the framework", first, other)
                for first in best
                for other in same
                if other[1].cell.framework == first[1].cell.framework and other[0] != first[0]
            ]
    asked = {(first[0], other[0]) for _, first, other in pairs}
    best = champions(setting)
    for other in best[1:]:
        # Each pair is tested once: a pair at equal devices is in the list already.
        if (best[0][0], other[0]) not in asked:
            pairs.append(("at any devices", best[0], other))
    return [
        _verdict(question, first, other[0], tests, other[1]) for question, first, other in pairs
    ]


def _against_bare(setting: Setting, tests: Tests) -> list[Verdict]:
    return [
        _verdict(
            "against bare",
            (name, cell),
            f"{cell.cell.framework} bare on 1 device",
            tests,
            cell.base,
        )
        for name, cell in comparable(setting)
        if cell.base is not None and cell.base.valid and cell.cell.devices > 1
    ]


def _verdict(
    question: Question, subject: Named, other: str, tests: Tests, other_cell: CellSummary
) -> Verdict:
    tested = tests.ask(subject[1], other_cell)
    return Verdict(
        question=question,
        subject=subject[0],
        other=other,
        subject_cell=subject[1],
        other_cell=None if question == "against bare" else other_cell,
        ratio=tested.ratio,
        p=tested.p,
        outcome=outcome_of(tested.ratio, tested.p),
        tested=tested,
        margin=tests.margin,
    )
