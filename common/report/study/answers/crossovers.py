"""The answer about each sweep as sentences: from which size on several devices beat one."""

import math
from collections.abc import Sequence

from isoscale.common.analysis.crossover import (
    ALWAYS,
    FROM_A_SIZE,
    LEAST_SIZES,
    NEVER,
    NO_DIFFERENCE,
    NOT_FOR_GOOD,
    TOO_FEW,
    UNKNOWN,
    Crossover,
    Curve,
    Point,
    SweepCurves,
)
from isoscale.common.analysis.estimates import LEAST_RUNS, Ratio
from isoscale.common.analysis.sweeps import PARAMETERS
from isoscale.common.analysis.turns import PairedRatio
from isoscale.common.config.counts import counted
from isoscale.common.report.study import turns
from isoscale.common.report.study.data import StudyData
from isoscale.common.report.words import by_reason, joined, number

METHOD = (
    "The crossover is the smallest batch or model from which several devices beat one, at all "
    "larger sizes measured, too. At each size the throughput on several devices is divided by that "
    "of bare on one device, or, where bare was not measured at as many sizes, of the same strategy "
    "on one device; the text says which. A size pays, or does not, if the comparison shows a "
    "difference, corrected with all comparisons of this report; a range pays if both its ends do. "
    "Between two sizes the logarithm of the ratio is taken to be a straight line over the "
    "logarithm of the size; nothing is extrapolated. The interval of a crossover is from 4000 "
    "draws: each gives every size its mean plus its error over groups (or runs) times a random "
    "value of Student's t. It also has the crossover of a curve through the neighbouring sizes, as "
    "the line between two sizes is not quite straight. It is not corrected for the number of "
    f"crossovers. A crossover needs {LEAST_SIZES} sizes. Cells whose devices share cores never "
    "count."
)


def size_text(size: float, axis: str) -> str:
    """Returns a size, for example ``1.20M`` parameters, or a batch of ``90.5``."""
    scale, unit = 1.0, ""
    if axis == PARAMETERS:
        units = ((1e9, "G"), (1e6, "M"), (1e3, "K"))
        scale, unit = next(((s, u) for s, u in units if size >= s), (1.0, ""))
    value = size / scale
    if not unit and value == round(value):
        return f"{value:.0f}"
    return number(value, digits=max(0, 2 - math.floor(math.log10(value)))) + unit


def named_size(size: float, axis: str) -> str:
    """Returns a size with its axis, for example ``1.20M parameters``."""
    text = size_text(size, axis)
    if axis == PARAMETERS:
        return f"{text} parameters"
    return f"a {axis} of {text}" if " " in axis else f"{axis}={text}"


def ends_text(found: Crossover, axis: str) -> str:
    """Returns the interval of a crossover that was found, for example ``[82.0, 97.1]``."""
    assert found.low is not None
    assert found.high is not None
    return f"[{size_text(found.low, axis)}, {size_text(found.high, axis)}]"


def interval_text(found: Crossover, axis: str) -> str:
    """Returns a crossover that was found with its interval, for example ``90.5 [82.0, 97.1]``."""
    assert found.value is not None
    return f"{size_text(found.value, axis)} {ends_text(found, axis)}"


def curve_name(curve: Curve) -> str:
    """Returns for example ``torch ddp on 2 devices``."""
    return f"{curve.series} on {counted(curve.devices, 'device')}"


def base_name(curve: Curve) -> str:
    """Returns for example ``torch bare on 1 device``."""
    name = f"{curve.framework} bare" if curve.base == "bare" else curve.series
    return f"{name} on 1 device"


def sample(ratios: Sequence[Ratio]) -> str:
    """Returns the numbers of groups, or of runs, that some ratios are from: ``4 to 6 groups``."""
    noun = "group" if all(isinstance(ratio, PairedRatio) for ratio in ratios) else "run"
    counts = [min(ratio.n) for ratio in ratios]
    least, most = min(counts), max(counts)
    return counted(most, noun) if least == most else f"{least} to {counted(most, noun)}"


def sentences(study: StudyData, found: SweepCurves) -> list[str]:
    """Returns one sentence for each curve of a sweep; if losses differ, the alarm only."""
    alarm = alarm_of(study, found)
    if alarm:
        return [alarm]
    return [_sentence(study, curve, found.sweep.axis) for curve in found.curves]


def alarm_of(study: StudyData, found: SweepCurves) -> str | None:
    """Returns why the cells of a sweep must not be compared; None: they may be."""
    alarms = (study.losses[member.setting.title].alarm for member in found.sweep.members)
    return next((alarm for alarm in alarms if alarm), None)


def _sentence(study: StudyData, curve: Curve, axis: str) -> str:
    text = f"{curve_name(curve)}: {_answer(study, curve, axis)}"
    if curve.without_base:
        sizes = joined([size_text(size, axis) for size in curve.without_base])
        text += f" Left out, without {base_name(curve)}: {sizes}."
    return text


def _answer(study: StudyData, curve: Curve, axis: str) -> str:
    found, base, levels = curve.answer, base_name(curve), curve.levels

    def sizes(values: Sequence[float]) -> str:
        return joined([size_text(value, axis) for value in values])

    untested = [
        (size_text(point.member.size, axis), _why(point))
        for point in curve.points
        if point.pays == UNKNOWN
    ]
    about = f" No verdict at {by_reason(untested)}." if untested else ""
    if found.kind == TOO_FEW:
        return (
            f"too few sizes with a verdict against {base} (needs {LEAST_SIZES}; has "
            f"{len(levels)}).{about}"
        )
    ratios = [point.tested.ratio for point in curve.points if point.pays != UNKNOWN]
    told = "with a verdict" if untested else "measured"
    about = f" ({counted(len(levels), 'size')}, {sample(ratios)} each).{about}"
    least, most = (size_text(levels[end].size, axis) for end in (0, -1))
    if found.kind == FROM_A_SIZE:
        assert found.value is not None
        text = (
            f"faster than {base} from {named_size(found.value, axis)} on, 95 % interval "
            f"{ends_text(found, axis)}, up to {most}, the largest {told}"
        )
        if found.earlier:
            text += f"; faster at {sizes(found.earlier)}, too, but slower again after that"
    elif found.kind == ALWAYS:
        text = (
            f"always faster than {base}, from {least}, the smallest size {told}, to {most}, the "
            "largest"
        )
    elif found.kind == NEVER:
        largest = named_size(levels[-1].size, axis)
        text = f"never faster than {base} in the range {told}, {least} to {largest}"
    elif found.kind == NOT_FOR_GOOD:
        text = (
            f"faster than {base} at {sizes(found.earlier)}, but slower at {most}, the largest "
            f"{told}: it stays faster from no size on"
        )
    else:
        known = [f"slower at {size_text(found.low, axis)}"] if found.low is not None else []
        if found.high is not None:
            known.append(f"faster from {size_text(found.high, axis)} on")
        known.append(f"open at {sizes(found.undecided)}")
        text = f"not decided from which size on it is faster than {base}: {joined(known)}"
        about += f" {_what_decides(study, curve, axis)}"
    return text + about


def _why(point: Point) -> str:
    return point.tested.ratio.unsound or f"fewer than {LEAST_RUNS} groups or runs"


def _what_decides(study: StudyData, curve: Curve, axis: str) -> str:
    """Returns what would decide a curve: more groups, with their minutes, or other sizes."""
    parts = []
    for point in curve.points:
        if point.member.size not in curve.answer.undecided:
            continue
        where = f"at {size_text(point.member.size, axis)}"
        if point.pays == NO_DIFFERENCE:
            margin = f"{100 * study.record.same_within:g} %"
            parts.append(
                f"{where} the ratio is within {margin} of 1, and more groups matter little"
            )
            continue
        minutes = turns.more_minutes(
            point.member.setting,
            point.cell,
            point.tested,
            margin=study.record.same_within,
            planned=study.planned,
        )
        parts.append(
            f"{where} more groups or runs" + (f" (estimated: {minutes})" if minutes else "")
        )
    if curve.answer.high is None:
        parts.append("larger sizes")
    elif curve.answer.low is None:
        parts.append("smaller sizes")
    return f"What would decide: {'; '.join(parts)}."
