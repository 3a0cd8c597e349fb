"""Recommendations: how many devices to use in each framework, and what would change it."""

from collections.abc import Sequence

from isoscale.common.analysis.crossover import FROM_A_SIZE, NEVER
from isoscale.common.analysis.factors import COMMUNICATION, SMALLER_BATCH, Factors
from isoscale.common.analysis.settings import Setting
from isoscale.common.analysis.verdicts import Verdict, comparable, ratio_text, why_no_verdict
from isoscale.common.config.counts import counted
from isoscale.common.report.study.answers.crossovers import (
    alarm_of,
    base_name,
    curve_name,
    ends_text,
    named_size,
)
from isoscale.common.report.study.answers.limits import times_text
from isoscale.common.report.study.data import StudyData
from isoscale.common.report.words import number

FEWEST = "bare on 1 device"


def recommendations(study: StudyData, setting: Setting) -> list[str]:
    """Returns one recommendation for each framework that was measured on several devices."""
    if study.losses[setting.title].alarm:
        return []  # the cells must not be compared
    found = []
    factors = {entry.cell.cell: entry for entry in study.factors[setting.title]}
    against = [v for v in study.verdicts[setting.title] if v.question == "against bare"]
    for framework in dict.fromkeys(cell.cell.framework for _, cell in comparable(setting)):
        own = [v for v in against if v.subject_cell.cell.framework == framework]
        if own:
            best = _best_of_each_count(own)
            most = best[-1]
            text = _recommend(framework, best, factors.get(most.subject_cell.cell))
            found.append(" ".join([text, *_from_sweeps(study, setting, most.subject)]))
    return found


def _from_sweeps(study: StudyData, setting: Setting, name: str) -> list[str]:
    """Returns from which batch or model size on a cell on several devices beats one."""
    found = []
    for sweep in study.sweeps:
        axis = sweep.sweep.axis
        inside = any(member.setting.title == setting.title for member in sweep.sweep.members)
        if not inside or alarm_of(study, sweep):
            continue
        for curve in sweep.curves:
            if curve_name(curve) != name:
                continue
            base = base_name(curve)
            if curve.answer.kind == FROM_A_SIZE and curve.answer.value is not None:
                size = named_size(curve.answer.value, axis)
                ends = ends_text(curve.answer, axis)
                found.append(f"Measured here: {name} is faster than {base} from {size} {ends} on.")
            elif curve.answer.kind == NEVER:
                most = named_size(curve.levels[-1].size, axis)
                found.append(f"Measured here: {name} is not faster than {base} up to {most}.")
    return found


def _best_of_each_count(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Returns the fastest strategy on each number of devices, fewest devices first."""
    best: dict[int, Verdict] = {}
    for verdict in sorted(verdicts, key=lambda v: (v.outcome != "no verdict", v.ratio.value)):
        best[verdict.subject_cell.cell.devices] = verdict
    return [best[count] for count in sorted(best)]


def _recommend(framework: str, best: Sequence[Verdict], factors: Factors | None) -> str:
    """Returns the recommendation for a framework.

    Args:
      framework: its name.
      best: the comparison with bare of the fastest strategy on each number of devices.
      factors: of the cell on most devices; None: its base cases were not measured.
    """
    pays = [verdict for verdict in best if verdict.outcome == "faster"]
    evidence = "; ".join(
        f"{verdict.subject_cell.cell.strategy} on "
        f"{counted(verdict.subject_cell.cell.devices, 'device')} {ratio_text(verdict.ratio)}, "
        f"{verdict.answer}"
        for verdict in best
    )
    if all(verdict.outcome == "no verdict" for verdict in best):
        why = why_no_verdict(verdict.ratio for verdict in best)
        return f"{framework}: no recommendation: {why}. Against {FEWEST}: {evidence}."
    if pays:
        chosen = max(pays, key=lambda verdict: verdict.ratio.value)
        # With fewer devices whose interval reaches as far, more are not shown to add anything.
        fewest = next(v for v in pays if v.ratio.high is None or v.ratio.high >= _low(chosen))
        use = counted(fewest.subject_cell.cell.devices, "device")
        text = f"{framework}: use {use}. Against {FEWEST}: {evidence}."
        if fewest is not chosen:
            more = counted(chosen.subject_cell.cell.devices, "device")
            text += f" That {more} add to {use} is not shown: their intervals overlap."
    else:
        slower = all(verdict.outcome == "slower" for verdict in best)
        why = "more are slower" if slower else "that more are faster is not shown"
        text = f"{framework}: use 1 device; {why}. Against {FEWEST}: {evidence}."
    if factors is None:
        return text
    gains = best[-1].outcome == "faster"
    return f"{text} {_what_changes(factors, gains=gains)}"


def _low(verdict: Verdict) -> float:
    return verdict.ratio.value if verdict.ratio.low is None else verdict.ratio.low


def _what_changes(found: Factors, *, gains: bool) -> str:
    """Returns what would have to change for more devices to pay, from the factors.

    Args:
      found: the factors.
      gains: whether the cell is shown to be faster than its base.
    """
    free, devices = found.without_communication, counted(found.devices, "device")
    if free.low is None or free.high is None or not found.for_any_processes:
        return "What would change this is unknown: the factors need 3 groups or runs."
    without = f"without communication, waiting and coordination, {devices} reach {ratio_text(free)}"
    if free.high < 1:
        text = f"No faster link can make {devices} pay: {without}."
        smaller = found.find(SMALLER_BATCH)
        if smaller is not None and smaller.high is not None and smaller.high < 1:
            text += (
                f" The smaller batch of each device costs x {times_text(smaller)}: a larger batch "
                "or model is what would help."
            )
        return text
    fall = found.fall_needed
    if gains:
        lost = found.find(COMMUNICATION)
        if lost is None or lost.high is None or lost.high >= 1:
            return f"Communication is not shown to cost anything: {without}."
        return f"A faster link can gain at most this: {without}."
    if free.low <= 1:
        return f"Whether a faster link would make {devices} pay is not decided: {without}."
    if fall is None:  # faster, but not shown to be
        return f"A faster link would make {devices} pay: {without}."
    share = number(100 * fall, digits=0)
    return (
        f"For {devices} to pay, communication and waiting must fall by {share} % (estimated from "
        "the factors): by a faster link, or by more compute in each step, that is a larger batch "
        f"or model; {without}."
    )
