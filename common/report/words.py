"""Text for tables: numbers, estimates, ratios, and the marks of cells."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence

from isoscale.common.analysis import pooling
from isoscale.common.analysis.estimates import Estimate, Ratio
from isoscale.common.analysis.scaling import CellSummary
from isoscale.common.config.counts import counted
from isoscale.common.measure.training_result import TrainingResult
from isoscale.common.study.records import BOTH, ResultLine, Scalings

NO_VALUE = "-"
SAME_CONFIGURATION = "same configuration"
"""What reports say of stock and tuned if the tuned lane adds no tweak."""
RATE_AND_TIME = (
    "In a run, ms/step is the median over windows of several steps; examples/s is all examples of "
    "these windows / their time. A slow window lowers examples/s and leaves the median as it is: "
    "examples/s is not exactly batch / time per step."
)
"""How the two figures of a run relate."""
NOT_THE_QUOTIENT = (
    "A ratio is the statistic that verdicts judge: of runs that took turns within rounds, of other "
    "runs of geometric means. It need not be the quotient of the medians shown beside it"
)
"""What every table says that has figures of two cells and their ratio."""
ALL_DISTURBED = "all rounds disturbed from outside"
JUDGED = "judged, not the quotient of the columns"
"""The mark on a column of ratios beside columns of medians."""


_BASES: dict[Scalings, str] = {
    "strong": "the same global batch",
    "weak": "the batch of one device",
    BOTH: "the same global batch (strong) or at the batch of one device (weak)",
}


def base_text(scaling: Scalings) -> str:
    """Returns the batch at which speedups have their base, after the word ``at``."""
    return _BASES[scaling]


def joined(items: Sequence[str]) -> str:
    """Returns ``a, b and c``."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def by_reason(entries: Iterable[tuple[str, str]]) -> str:
    """Returns ``a and b (reason of both); c (another reason)`` for (name, reason) entries."""
    found: dict[str, list[str]] = {}
    for name, reason in entries:
        found.setdefault(reason, []).append(name)
    return "; ".join(f"{joined(names)} ({reason})" for reason, names in found.items())


def number(value: float | None, *, scale: float = 1.0, digits: int | None = None) -> str:
    """Returns a figure with four significant digits, or with ``digits`` decimals."""
    if value is None or not math.isfinite(value):
        return NO_VALUE
    scaled = scale * value
    if digits is None:
        magnitude = math.floor(math.log10(abs(scaled))) if scaled else 0
        digits = min(6, max(0, 3 - magnitude))
    return f"{scaled:.{digits}f}"


def _with_interval(text: str, low: str, high: str, separator: str) -> str:
    return f"{text}{separator}[{low}, {high}]"


def estimate(found: Estimate | None, *, scale: float = 1.0, separator: str = " ") -> str:
    """Returns a median with its interval; (t) marks a t interval on log time."""
    if found is None:
        return NO_VALUE
    text = number(found.median, scale=scale)
    if found.low is None or found.high is None:
        return text
    low, high = number(found.low, scale=scale), number(found.high, scale=scale)
    mark = " (t)" if found.method == "t on log time" else ""
    return _with_interval(text, low, high, separator) + mark


def ratio(found: Ratio | None, *, scale: float = 1.0, digits: int = 2, separator: str = " ") -> str:
    """Returns a ratio with its interval."""
    if found is None:
        return NO_VALUE
    text = number(found.value, scale=scale, digits=digits)
    if found.low is None or found.high is None:
        return text
    low, high = (number(end, scale=scale, digits=digits) for end in (found.low, found.high))
    return _with_interval(text, low, high, separator)


Figure = Callable[[TrainingResult], float | None]


def median_of(lines: Sequence[ResultLine], figure: Figure) -> float | None:
    """Returns the median of a figure over the runs that recorded it; None without such runs."""
    values = [figure(line.result) for line in lines]
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def accuracy(result: TrainingResult) -> float | None:
    """Returns the accuracy on held-out data as a fraction; None without held-out data."""
    return result.eval.accuracy if result.eval else None


def same_configuration(reason: str) -> str:
    """Returns the verdict on a tuned cell that is its stock cell: neither a ratio nor a test."""
    return f"{SAME_CONFIGURATION}: {reason}"


def incomplete(summary: CellSummary) -> list[str]:
    """Returns the number of unsuccessful runs of a cell for each status, as text."""
    return [f"{n} {status}" for status, n in summary.statuses.items() if status != "ok"]


def marks(summary: CellSummary) -> list[str]:
    """Returns the warnings about a cell's figures, as short texts."""
    found = []
    if summary.shared:
        found.append(f"{SAME_CONFIGURATION} as stock ({summary.shared.reason})")
    if summary.cell.independent:
        found.append("base case: loss and accuracy are of one copy")
    if summary.cell.oversubscribed:
        found.append("oversubscribed")
    if summary.mixed:
        found.append(f"runs differ in {pooling.names(summary.mixed)}")
    if lost := len(summary.ok) - len(summary.valid):
        found.append(f"{ALL_DISTURBED} in {lost} of {len(summary.ok)}: not in the figures")
    if summary.disturbed:
        found.append(f"{summary.disturbed} of {len(summary.ok)} disturbed")
    unknown = sum(line.result.disturbed is None for line in summary.ok)
    if unknown:
        found.append(f"outside load unknown for {unknown}")
    if summary.examples_per_second_without_outliers is not None:
        without = number(summary.examples_per_second_without_outliers)
        found.append(f"{counted(len(summary.outliers), 'outlier')} (without: {without} examples/s)")
    return found + incomplete(summary)
