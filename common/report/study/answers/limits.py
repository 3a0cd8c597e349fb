"""What limits a cell on several devices, in sentences made from its factors."""

import math

from isoscale.common.analysis.estimates import Ratio
from isoscale.common.analysis.factors import Factors
from isoscale.common.report.words import joined, number


def share_text(found: Ratio) -> str:
    """Returns a share in percent with its interval."""
    if math.isnan(found.value):
        return "an unknown share"
    text = f"{100 * found.value:.0f} %"
    if found.low is None or found.high is None:
        return text
    return f"{text} [{100 * found.low:.0f}, {100 * found.high:.0f}]"


def times_text(found: Ratio) -> str:
    """Returns a ratio as ``0.63 [0.60, 0.66]``; an infinite end is said in words."""
    value = _end(found.value)
    if found.low is None or found.high is None:
        return value
    return f"{value} [{_end(found.low)}, {_end(found.high)}]"


def _end(value: float) -> str:
    return "no limit" if math.isinf(value) else number(value, digits=2)


def limit_sentence(found: Factors) -> str:
    """Returns what limits a cell: its efficiency, its largest losses, and R."""
    base = found.base.cell.strategy
    text = (
        f"{found.name} reaches {share_text(found.efficiency)} of {found.devices} times "
        f"{base} on 1 device. {_losses(found)}"
    )
    r = found.compute_to_communication
    if r is None or math.isnan(r.value):
        return text
    if math.isinf(r.value):
        return f"{text} No exposed communication was measured."
    return f"{text} R = compute / exposed communication = {times_text(r)}."


def _losses(found: Factors) -> str:
    reasons = [factor.ratio.unsound for factor in found.factors if factor.ratio.unsound]
    if reasons:
        return f"Its factors are unknown: {reasons[0]}."
    if not found.for_any_processes:
        factors = joined([f"{factor.name} {times_text(factor.ratio)}" for factor in found.factors])
        return f"Factors, for these processes only (a limit needs 3 groups or runs): {factors}."
    losses = found.losses
    if not losses:
        return "No factor is shown to lose anything."
    first, *others = [f"{factor.name} ({times_text(factor.ratio)})" for factor in losses]
    if found.is_largest_sure:
        text = f"The largest loss is {first}"
        also = f", then {joined(others)}" if others else ""
    elif others:
        text = f"The largest losses are {joined([first, others.pop(0)])}"
        also = f", then {joined(others)}" if others else ""
        also += "; which of the first two is larger is open"
    else:
        text = f"The only loss that is shown is {first}"
        largest = losses[0].ratio.high or 0.0
        rivals = [f for f in found.factors if f is not losses[0] and (f.ratio.low or 0.0) < largest]
        also = f"; {joined([f.name for f in rivals])} may be as large" if rivals else ""
    gains = [
        f"{factor.name} {times_text(factor.ratio)}"
        for factor in found.factors
        if factor.ratio.low is not None and factor.ratio.low > 1
    ]
    gained = f" Gained by {joined(gains)}." if gains else ""
    return f"{text}{also}.{gained}"
