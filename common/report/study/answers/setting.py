"""The answer for one setting as sentences, made from verdicts only."""

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
    not_shown_slower,
    overall,
    ratio_text,
    speed,
    undecided,
    why_no_verdict,
)
from isoscale.common.config.counts import counted
from isoscale.common.report.study.answers.shared import shared_of
from isoscale.common.report.study.data import StudyData
from isoscale.common.report.words import ALL_DISTURBED, incomplete, joined, number


@dataclasses.dataclass(frozen=True, kw_only=True)
class Glance:
    """A row of the opening table: the fastest choice for one setting, and its evidence.

    Attributes:
      setting: title of the setting.
      choice: the fastest cell, and the cells that show no difference from it.
      sure: the evidence against the next cell.
      scaling: whether more devices are faster.
    """

    setting: str
    choice: str
    sure: str
    scaling: str


def _figures(cell: CellSummary) -> str:
    """Returns the cell's time per step and throughput, as medians over runs."""
    assert cell.step_seconds is not None
    assert cell.examples_per_second is not None
    step = number(cell.step_seconds.median, scale=1e3)
    return f"{step} ms/step, {number(cell.examples_per_second.median)} examples/s"


def devices_text(count: int) -> str:
    return counted(count, "device")


def caveats(cells: Sequence[Named]) -> list[str]:
    """Returns the reasons to trust the figures of some cells less."""
    found = []
    disturbed = sum(cell.disturbed for _, cell in cells)
    if disturbed:
        runs = sum(len(cell.ok) for _, cell in cells)
        were = "was" if disturbed == 1 else "were"
        which = "the only run" if runs == 1 else f"{disturbed} of these {runs} runs"
        found.append(f"{which} {were} disturbed by other programs")
    for name, cell in cells:
        if incomplete(cell):
            total = sum(cell.statuses.values())
            found.append(
                f"only {len(cell.ok)} of the {total} runs of {name} were successful: "
                f"{joined(incomplete(cell))}"
            )
    return found


def _runs(cell: CellSummary) -> str:
    return "one run" if len(cell.ok) == 1 else f"{len(cell.ok)} runs"


def _short(name: str, devices: int | None) -> str:
    """Returns the name of a cell; without the device count if ``devices`` is given."""
    return name if devices is None else name.rsplit(" on ", 1)[0]


def _reversed(verdict: Verdict) -> str:
    """Returns a remark if the medians and the ratio order two cells differently."""
    first, other = verdict.subject_cell.examples_per_second, None
    if verdict.other_cell is not None:
        other = verdict.other_cell.examples_per_second
    if first is None or other is None or first.median >= other.median:
        return ""
    return "; but the other cell has the higher median"


def _margin(verdict: Verdict) -> str:
    """Returns the answer of a pair whose runs took turns, where it says more than the outcome."""
    return "" if verdict.answer == verdict.outcome else f": {verdict.answer}"


def _leader(best: Sequence[Named], verdicts: Sequence[Verdict], devices: int | None) -> str:
    """Returns the fastest cell, its figures, and the strategies that show no difference from it."""
    name, cell = best[0]
    even = [_short(other, devices) for other in not_shown_slower(verdicts, name)]
    also = f"; within its framework, no difference from {joined(even)} is shown" if even else ""
    return f"{_short(name, devices)} ({_figures(cell)}{also})"


def _contest(setting: Setting, verdicts: Sequence[Verdict], devices: int | None) -> str | None:
    """Returns the sentences about the fastest cell on a number of devices.

    ``devices`` is None: on the best number of devices for each framework.
    """
    best = champions(setting, devices)
    if not best:
        return None
    if devices is None:
        frameworks = {cell.cell.framework for _, cell in best}
        each = "framework" if len(frameworks) > 1 else "strategy"
        where = f"With the best number of devices for each {each},"
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
        text = f"{where} only {leader} was measured, so there is no comparison."
        return text + "".join(f" But {caveat}." for caveat in caveats(best))
    decided = [verdict for verdict in found if verdict.outcome != "no verdict"]
    few = undecided(setting, devices)
    weak = "".join(f" But {text}." for text in caveats(best))
    if not decided:
        order = joined(
            [f"{_short(name, devices)} {_figures(cell)} ({_runs(cell)})" for name, cell in best]
        )
        return (
            f"{where} there is no verdict: {why_no_verdict(verdict.ratio for verdict in found)}. "
            f"Measured, without an interval: {order}.{weak}"
        )
    wins = [
        f"{ratio_text(v.ratio)} faster than {_short(v.other, devices)} "
        f"({evidence_text(v.ratio, v.p)}{_reversed(v)}{_margin(v)})"
        for v in decided
        if v.outcome == "faster"
    ]
    ties = [
        f"{_short(v.other, devices)} (ratio {ratio_text(v.ratio)}, "
        f"{evidence_text(v.ratio, v.p)}{_reversed(v)}{_margin(v)})"
        for v in decided
        if v.outcome == "no difference shown"
    ]
    behind = [
        f"{_short(v.other, devices)} (ratio {ratio_text(v.ratio)}, {evidence_text(v.ratio, v.p)})"
        for v in decided
        if v.outcome == "slower"
    ]
    if behind:
        # Cells are ranked by all their runs, but judged by the rounds that they share.
        text = (
            f"{where} no single fastest cell is shown: {leader} has the highest throughput, but in "
            f"the rounds or runs that are compared it is slower than {joined(behind)}."
        )
        if ties:
            text += f" No difference is shown between {first} and {joined(ties)}."
        if wins:
            text += f" {first} is {joined(wins)}."
    elif not ties:
        text = f"{where} {leader} is fastest: {joined(wins)}."
    else:
        text = (
            f"{where} no single fastest cell is shown: no difference is shown between {leader} "
            f"and {joined(ties)}."
        )
        if wins:
            text += f" {first} is {joined(wins)}."
    if few:
        listed = [f"{_short(name, devices)} ({_runs(c)}, {_figures(c)})" for name, c in few]
        text += f" Too few runs for a verdict on {joined(listed)}."
    return text + weak


def _scaling(verdicts: Sequence[Verdict]) -> list[str]:
    """Returns which cells on more devices are faster or slower than bare on one device."""
    found = [verdict for verdict in verdicts if verdict.question == "against bare"]
    sentences = []
    for outcome, text in (
        ("faster", "Faster on more devices than bare on one device"),
        ("slower", "Slower on more devices than bare on one device"),
        ("no difference shown", "No difference from bare on one device is shown"),
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
            f"More than ideal: {joined(above)}. Possible causes: the smaller share of each device "
            "fits caches better, or the base on one device is slow for another reason. Do not "
            "extrapolate from these speedups."
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
        questions.append(None)  # otherwise one of the counts answers the question
    sentences = [text for n in questions if (text := _contest(setting, verdicts, n))]
    sentences += _scaling(verdicts)
    sentences += shared_of(setting.cells)
    compared = {cell.cell.framework for _, cell in comparable(setting)}
    absent = sorted({cell.cell.framework for _, cell in setting.cells} - compared)
    if absent:
        run = {cell.cell.framework for _, cell in setting.cells if cell.ok}
        measured = {cell.cell.framework for _, cell in setting.cells if cell.valid}
        missing = [name for name in absent if name not in run]
        sharing = [name for name in absent if name in measured]
        lost = [name for name in absent if name in run - measured]
        if missing:
            sentences.append(f"Not compared, because a result is missing: {joined(missing)}.")
        if lost:
            sentences.append(f"Not compared, {ALL_DISTURBED}: {joined(lost)}.")
        if sharing:
            sentences.append(f"Not compared, because devices shared cores: {joined(sharing)}.")
    shared = sorted({cell.cell.devices for _, cell in setting.cells if cell.cell.oversubscribed})
    if shared:
        listed = joined([str(count) for count in shared])
        devices = "device" if shared == [1] else "devices"
        sentences.append(
            f"In cells with {listed} {devices}, devices shared cores (oversubscribed). These "
            "cells show overhead and correctness only, and get no verdict."
        )
    return sentences


def glance(study: StudyData, setting: Setting) -> Glance:
    """Returns the row of the opening table for a setting."""
    verdicts = study.verdicts[setting.title]
    best = champions(setting)
    if not best:
        return Glance(setting=setting.title, choice="nothing comparable", sure="-", scaling="-")
    alarm = study.losses[setting.title].alarm
    if alarm:
        return Glance(setting=setting.title, choice="not comparable", sure=alarm, scaling="-")
    found = overall(setting, verdicts)
    leader = _leader(best, verdicts, None)
    decided = [verdict for verdict in found if verdict.outcome != "no verdict"]
    if not found:
        choice, sure = leader, "no other cell to compare with"
    elif not decided:
        # Champions with enough runs come first; here the highest throughput decides.
        best = sorted(best, key=lambda entry: speed(entry[1]), reverse=True)
        choice = f"{_leader(best, verdicts, None)} had the highest throughput"
        fewest = min((cell for _, cell in best), key=lambda cell: len(cell.ok))
        enough = len(fewest.ok) >= LEAST_RUNS
        why = (
            why_no_verdict(verdict.ratio for verdict in found)
            if enough
            else f"a cell has {_runs(fewest)} only"
        )
        sure = (
            f"no verdict: {why}; the throughput is "
            f"{speed(best[0][1]) / speed(best[1][1]):.2f}x that of the next cell"
        )
    else:
        choice = " or ".join([leader, *(v.other for v in decided if v.outcome != "faster")])
        shown = [verdict for verdict in decided if verdict.outcome == "faster"]
        even = any(verdict.outcome == "no difference shown" for verdict in decided)
        parts = ["no difference shown between them"] if even else []
        parts += [
            f"{v.other} is {v.ratio.inverse().value:.2f}x as fast by the judged ratio"
            for v in decided
            if v.outcome == "slower"
        ]
        parts += [f"{shown[0].evidence} over {shown[0].other}"] if shown else []
        parts += [f"no verdict on {name} ({_runs(cell)})" for name, cell in undecided(setting)]
        sure = "; ".join(parts)
    sure = "; note: ".join([sure, *caveats(best)])
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
