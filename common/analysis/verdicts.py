"""Who is faster, who scales: one rule for every verdict, printed with its evidence."""

import dataclasses
from collections.abc import Sequence
from statistics import geometric_mean, median
from typing import Literal

from isoscale.common.analysis.estimates import (
    CONFIDENCE,
    LEAST_RUNS,
    Ratio,
    corrected,
    ratio_estimates,
)
from isoscale.common.analysis.scaling import CellSummary
from isoscale.common.analysis.settings import Setting

Outcome = Literal["faster", "slower", "no difference shown", "no verdict"]
Question = Literal["at equal devices", "at any devices", "within the framework", "against bare"]

RULE = (
    "A verdict compares examples per second of two cells. The ratio is that of geometric means "
    "over runs, with Welch's 95 % interval on logarithms. A difference is called shown if Welch's "
    "p, corrected for all {n} tests of this report (Benjamini-Yekutieli), is at most 0.05; "
    "otherwise the answer is 'no difference shown'. Each interval is one of 95 % by itself, so "
    "that one may exclude 1 where the corrected p, with more tests around it, shows nothing. With "
    "fewer than 3 runs on a side there is no interval and no verdict."
)

Named = tuple[str, CellSummary]
"""A cell with its name within its setting."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """One comparison of two cells.

    Attributes:
      question: ``at equal devices`` and ``at any devices`` compare the fastest cells of two
        frameworks, ``within the framework`` the fastest with another strategy on as many devices,
        ``against bare`` a cell with one device without distribution.
      subject, other: names of the cells.
      subject_cell, other_cell: the cells; the other is None against bare.
      ratio: throughput of the subject / throughput of the other.
      p: corrected for the number of comparisons; None without a test.
      outcome: by ``RULE``.
    """

    question: Question
    subject: str
    other: str
    subject_cell: CellSummary
    other_cell: CellSummary | None
    ratio: Ratio
    p: float | None
    outcome: Outcome

    @property
    def evidence(self) -> str:
        """Ratio, interval, runs and p in one short line."""
        return f"{ratio_text(self.ratio)} ({evidence_text(self.ratio, self.p)})"


def ratio_text(ratio: Ratio) -> str:
    """Returns for example ``1.21x [1.17, 1.26]``."""
    # Two digits would show 1.00x for a difference that was called shown.
    digits = 3 if 0.98 < ratio.value < 1.02 else 2
    text = f"{ratio.value:.{digits}f}x"
    if ratio.low is not None and ratio.high is not None:
        text += f" [{ratio.low:.{digits}f}, {ratio.high:.{digits}f}]"
    return text


def evidence_text(ratio: Ratio, p: float | None) -> str:
    a, b = ratio.n
    runs = f"n = {a} runs each" if a == b else f"n = {a} and {b} runs"
    if a == b == 1:
        runs = "one run each"
    if p is None:
        return f"{runs}, no interval"
    return f"{runs}, corrected p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"


def outcome_of(ratio: Ratio, p: float | None) -> Outcome:
    """Returns what ``RULE`` says of a ratio of throughputs and its corrected p."""
    if p is None or ratio.low is None:
        return "no verdict"
    if p > 1 - CONFIDENCE:
        return "no difference shown"
    return "faster" if ratio.value > 1 else "slower"


def speed(cell: CellSummary) -> float:
    """Returns what cells are ranked by: the same typical value as that of a ratio between them."""
    values = cell.throughputs
    return geometric_mean(values) if len(values) >= LEAST_RUNS else median(values)


def comparable(setting: Setting) -> list[Named]:
    """Returns the measured cells of a setting whose devices did not have to share cores."""
    return [
        (name, cell) for name, cell in setting.cells if cell.ok and not cell.cell.oversubscribed
    ]


def _has_rivals(cells: Sequence[Named]) -> bool:
    return len({cell.cell.framework for _, cell in cells}) > 1


def champions(setting: Setting, devices: int | None = None) -> list[Named]:
    """Returns the fastest cell of each framework; of each series, if there is one framework.

    Args:
      setting: the setting.
      devices: only cells with so many; None: with any number.

    Returns:
      (name, cell): cells with enough runs for a verdict before all others, then the fastest first.
    """
    cells = [
        (name, cell)
        for name, cell in comparable(setting)
        if devices is None or cell.cell.devices == devices
    ]
    several = _has_rivals(cells)

    def rank(entry: Named) -> tuple[bool, float]:
        return len(entry[1].ok) >= LEAST_RUNS, speed(entry[1])

    best: dict[str, Named] = {}
    for name, cell in sorted(cells, key=rank, reverse=True):
        team = cell.cell.framework if several else name.rsplit(" on ", 1)[0]
        best.setdefault(team, (name, cell))
    return list(best.values())


def device_counts(setting: Setting) -> list[int]:
    return sorted({cell.cell.devices for _, cell in comparable(setting)})


def judge(settings: Sequence[Setting]) -> dict[str, list[Verdict]]:
    """Returns the verdicts of each setting, by its title.

    All tests of the study are corrected together.
    """
    found = {setting.title: [*_between(setting), *_against_bare(setting)] for setting in settings}
    tests = [v.ratio.p for verdicts in found.values() for v in verdicts if v.ratio.p is not None]
    p_values = iter(corrected(tests))
    judged: dict[str, list[Verdict]] = {}
    for title, verdicts in found.items():
        judged[title] = []
        for verdict in verdicts:
            p = next(p_values) if verdict.ratio.p is not None else None
            outcome = outcome_of(verdict.ratio, p)
            judged[title].append(dataclasses.replace(verdict, p=p, outcome=outcome))
    return judged


def overall(setting: Setting, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Returns those of a setting's verdicts that say who is fastest with any number of devices."""
    best = champions(setting)
    return [
        verdict
        for verdict in verdicts
        if verdict.question in ("at equal devices", "at any devices")
        and verdict.subject == best[0][0]
        and verdict.other in [name for name, _ in best[1:]]
    ]


def not_told_apart(verdicts: Sequence[Verdict], name: str) -> list[str]:
    """Returns cells of the same framework and devices that no difference is shown from."""
    return [
        verdict.other
        for verdict in verdicts
        if verdict.question == "within the framework"
        and verdict.subject == name
        and verdict.outcome in ("no difference shown", "slower")
    ]


def _between(setting: Setting) -> list[Verdict]:
    pairs: list[tuple[Question, Named, Named]] = []
    for devices in device_counts(setting):
        best = champions(setting, devices)
        pairs += [("at equal devices", best[0], other) for other in best[1:]]
        same = [e for e in comparable(setting) if e[1].cell.devices == devices]
        if _has_rivals(same):
            # Who is the fastest of its framework is a finding too, not a given.
            pairs += [
                ("within the framework", first, other)
                for first in best
                for other in same
                if other[1].cell.framework == first[1].cell.framework and other[0] != first[0]
            ]
    asked = {(first[0], other[0]) for _, first, other in pairs}
    best = champions(setting)
    for other in best[1:]:
        # What was already compared at equal devices is not counted twice.
        if (best[0][0], other[0]) not in asked:
            pairs.append(("at any devices", best[0], other))
    ratios = ratio_estimates(
        [(first[1].throughputs, other[1].throughputs) for _, first, other in pairs]
    )
    return [
        Verdict(
            question=question,
            subject=first[0],
            other=other[0],
            subject_cell=first[1],
            other_cell=other[1],
            ratio=ratio,
            p=None,
            outcome="no verdict",
        )
        for (question, first, other), ratio in zip(pairs, ratios, strict=True)
    ]


def _against_bare(setting: Setting) -> list[Verdict]:
    return [
        Verdict(
            question="against bare",
            subject=name,
            other=f"{cell.cell.framework} bare on 1 device",
            subject_cell=cell,
            other_cell=None,
            ratio=cell.speedup,
            p=None,
            outcome="no verdict",
        )
        for name, cell in comparable(setting)
        if cell.speedup is not None and cell.cell.devices > 1
    ]
