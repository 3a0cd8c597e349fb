"""The answer about one setting in plain sentences, made from verdicts only."""

import dataclasses
from collections.abc import Sequence

from isoscale.common.analysis.estimates import LEAST_RUNS
from isoscale.common.analysis.scaling import CellSummary
from isoscale.common.analysis.settings import Setting
from isoscale.common.analysis.verdicts import (
    Named,
    Verdict,
    champions,
    comparable,
    device_counts,
    evidence_text,
    not_told_apart,
    overall,
    ratio_text,
)
from isoscale.common.report.study.data import StudyData
from isoscale.common.report.words import incomplete, joined, number


@dataclasses.dataclass(frozen=True, kw_only=True)
class Glance:
    """A row of the opening table: the fastest choice for one setting, and its evidence.

    Attributes:
      setting: title of the setting.
      choice: the fastest cell, and the cells with no difference shown from it.
      sure: the evidence against the best of the rest.
      scaling: whether more devices pay.
    """

    setting: str
    choice: str
    sure: str
    scaling: str


def _figures(cell: CellSummary) -> str:
    """Returns the cell's time per step and throughput, as medians over runs."""
    assert cell.step_seconds is not None
    assert cell.items_per_second is not None
    step = number(cell.step_seconds.median, scale=1e3)
    return f"{step} ms/step, {number(cell.items_per_second.median)} examples/s"


def devices_text(count: int) -> str:
    return f"{count} device{'s' if count > 1 else ''}"


def caveats(cells: Sequence[Named]) -> list[str]:
    """Returns what weakens the figures of some cells."""
    found = []
    disturbed = sum(cell.disturbed for _, cell in cells)
    if disturbed:
        runs = sum(len(cell.ok) for _, cell in cells)
        found.append(f"{disturbed} of these {runs} runs were disturbed by other programs")
    for name, cell in cells:
        if incomplete(cell):
            total = sum(cell.statuses.values())
            found.append(
                f"of the {total} runs of {name} only {len(cell.ok)} count: "
                f"{joined(incomplete(cell))}"
            )
    return found


def _runs(cell: CellSummary) -> str:
    return "one run" if len(cell.ok) == 1 else f"{len(cell.ok)} runs"


def _short(name: str, devices: int | None) -> str:
    """Returns the name of a cell, without the device count where the sentence names it."""
    return name if devices is None else name.rsplit(" on ", 1)[0]


def _reversed(verdict: Verdict) -> str:
    """Returns a remark if the medians order two cells in reverse of the ratio."""
    first, other = verdict.subject_cell.items_per_second, None
    if verdict.other_cell is not None:
        other = verdict.other_cell.items_per_second
    if first is None or other is None or first.median >= other.median:
        return ""
    return "; by their medians the other one is ahead"


def _leader(best: Sequence[Named], verdicts: Sequence[Verdict], devices: int | None) -> str:
    """Returns the fastest cell with its figures, and its equals within its framework."""
    name, cell = best[0]
    even = [_short(other, devices) for other in not_told_apart(verdicts, name)]
    also = f"; within its framework no difference is shown from {joined(even)}" if even else ""
    return f"{_short(name, devices)} ({_figures(cell)}{also})"


def _contest(setting: Setting, verdicts: Sequence[Verdict], devices: int | None) -> str | None:
    """Returns the fastest cell on a number of devices (None: on the number best for each)."""
    best = champions(setting, devices)
    if not best:
        return None
    if devices is None:
        where = "With the number of devices that suits each framework best,"
        found = overall(setting, verdicts)
    else:
        where = f"On {devices_text(devices)}"
        found = [
            verdict
            for verdict in verdicts
            if verdict.question == "at equal devices"
            and verdict.subject_cell.cell.devices == devices
        ]
    first = _short(best[0][0], devices)
    leader = _leader(best, verdicts, devices)
    if len(best) == 1:
        return f"{where} only {leader} was measured: there is nothing to compare."
    decided = [verdict for verdict in found if verdict.outcome != "no verdict"]
    undecided = [entry for entry in best if len(entry[1].ok) < LEAST_RUNS]
    weak = "".join(f" But {text}." for text in caveats(best))
    if not decided:
        order = joined(
            [f"{_short(name, devices)} {_figures(cell)} ({_runs(cell)})" for name, cell in best]
        )
        return (
            f"{where} there is no verdict: it needs {LEAST_RUNS} runs of a cell. Measured, without "
            f"an interval: {order}.{weak}"
        )
    wins = [
        f"{ratio_text(v.ratio)} faster than {_short(v.other, devices)} "
        f"({evidence_text(v.ratio, v.p)}{_reversed(v)})"
        for v in decided
        if v.outcome == "faster"
    ]
    ties = [
        f"{_short(v.other, devices)} (ratio {ratio_text(v.ratio)}, "
        f"{evidence_text(v.ratio, v.p)}{_reversed(v)})"
        for v in decided
        if v.outcome != "faster"
    ]
    if not ties:
        text = f"{where} {leader} is fastest: {joined(wins)}."
    else:
        text = (
            f"{where} no single fastest is shown: between {leader} and {joined(ties)} no "
            "difference is shown."
        )
        if wins:
            text += f" {first} is {joined(wins)}."
    if undecided:
        listed = [f"{_short(name, devices)} ({_runs(c)}, {_figures(c)})" for name, c in undecided]
        text += f" No verdict, for want of runs, on {joined(listed)}."
    return text + weak


def _scaling(verdicts: Sequence[Verdict]) -> list[str]:
    """Returns which cells gain or lose by more devices, against bare on one device."""
    found = [verdict for verdict in verdicts if verdict.question == "against bare"]
    sentences = []
    for outcome, text in (
        ("faster", "Faster on more devices than bare on one"),
        ("slower", "Slower on more devices than bare on one"),
        ("no difference shown", "No difference shown from bare on one device"),
        ("no verdict", "Speedup against bare on one device, without interval or verdict"),
    ):
        listed = [
            f"{v.subject} {ratio_text(v.ratio)} "
            f"({100 * v.ratio.value / v.subject_cell.cell.devices:.0f} % efficiency)"
            for v in found
            if v.outcome == outcome
        ]
        if listed:
            sentences.append(f"{text}: {joined(listed)}.")
    above = [
        verdict.subject
        for verdict in found
        if verdict.ratio.low is not None and verdict.ratio.low > verdict.subject_cell.cell.devices
    ]
    if above:
        sentences.append(
            f"More than ideal: {joined(above)}. Smaller shares may fit caches better, or the base "
            "on one device is slow for a reason of its own; do not extrapolate from it."
        )
    return sentences


def answer(study: StudyData, setting: Setting) -> list[str]:
    """Returns the sentences about one setting, the most important first."""
    alarm = study.losses[setting.title].alarm
    if alarm:
        return [alarm]
    verdicts = study.verdicts[setting.title]
    counts = device_counts(setting)
    questions: list[int | None] = list(counts)
    if all(champions(setting) != champions(setting, count) for count in counts):
        questions.append(None)  # else it was already answered
    sentences = [text for n in questions if (text := _contest(setting, verdicts, n))]
    sentences += _scaling(verdicts)
    compared = {cell.cell.framework for _, cell in comparable(setting)}
    absent = sorted({cell.cell.framework for _, cell in setting.cells} - compared)
    if absent:
        sentences.append(f"Not compared, for want of a result: {joined(absent)}.")
    shared = sorted({cell.cell.devices for _, cell in setting.cells if cell.cell.oversubscribed})
    if shared:
        counts_text = joined([str(count) for count in shared])
        sentences.append(
            f"Cells with {counts_text} devices shared cores (oversubscribed); they show overhead "
            "and correctness, so no verdict is drawn from them."
        )
    return sentences


def glance(study: StudyData, setting: Setting) -> Glance:
    """Returns the opening table's row for a setting."""
    verdicts = study.verdicts[setting.title]
    best = champions(setting)
    if not best:
        return Glance(setting=setting.title, choice="nothing measured", sure="-", scaling="-")
    alarm = study.losses[setting.title].alarm
    if alarm:
        return Glance(setting=setting.title, choice="not comparable", sure=alarm, scaling="-")
    found = overall(setting, verdicts)
    leader = _leader(best, verdicts, None)
    decided = [verdict for verdict in found if verdict.outcome != "no verdict"]
    if not found:
        choice, sure = leader, "nothing to compare with"
    elif not decided:
        choice = f"{leader} was fastest"
        sure = (
            f"no verdict: {_runs(best[0][1])} of a cell; {ratio_text(found[0].ratio)} over the next"
        )
    else:
        choice = " or ".join([leader, *(v.other for v in decided if v.outcome != "faster")])
        shown = [verdict for verdict in decided if verdict.outcome == "faster"]
        parts = ["no difference shown between them"] if len(shown) < len(decided) else []
        parts += [f"{shown[0].evidence} over {shown[0].other}"] if shown else []
        parts += [
            f"no verdict on {name} ({_runs(cell)})"
            for name, cell in best
            if len(cell.ok) < LEAST_RUNS
        ]
        sure = "; ".join(parts)
    sure = "; but ".join([sure, *caveats(best)])
    return Glance(setting=setting.title, choice=choice, sure=sure, scaling=_pays(verdicts))


def _pays(verdicts: Sequence[Verdict]) -> str:
    found = [verdict for verdict in verdicts if verdict.question == "against bare"]
    if not found:
        return "not measured"
    if all(verdict.outcome == "no verdict" for verdict in found):
        highest = max(found, key=lambda verdict: verdict.ratio.value)
        return f"no verdict; highest speedup {ratio_text(highest.ratio)} ({highest.subject})"
    by_value = sorted(found, key=lambda verdict: -verdict.ratio.value)
    parts = []
    for outcome, word in (
        ("faster", "yes"),
        ("slower", "no, slower"),
        ("no difference shown", "not shown"),
    ):
        listed = [f"{v.subject} {ratio_text(v.ratio)}" for v in by_value if v.outcome == outcome]
        parts += [f"{word}: {', '.join(listed)}"] if listed else []
    return "; ".join(parts)
