"""Values that TensorBoard can store: finite numbers, steps and times."""

from datetime import datetime
from typing import Any

from isoscale.common.report.study.data import StudyData

DIFF = "isoscale diff"
"""TensorBoard's run with the differences of several studies; studies' names have no blank."""
_LARGEST_STEP = 2**62


def finite(value: Any) -> float | None:
    """Returns the value as a finite number; None for any other value."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # TensorBoard stores float32 and would show a larger number as infinite.
    return float(value) if abs(value) < 3.4e38 else None


def scaled(value: float | None, factor: float) -> float | None:
    """Returns the product; None for None."""
    return None if value is None else value * factor


def whole_step(value: Any) -> int | None:
    """Returns the value if it is a whole number that can be a step; otherwise None."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < _LARGEST_STEP else None


def seconds_of(text: Any) -> float | None:
    """Returns an ISO date as seconds since 1970; None for any other text."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except (ValueError, OverflowError):
        return None


def study_seconds(study: StudyData) -> float:
    """Returns the start of a study's last run, in seconds since 1970; 0 if unknown."""
    texts = [line.result.started for line in study.lines]
    texts += [session.started for session in study.record.sessions]
    return max((s for s in map(seconds_of, texts) if s is not None), default=0.0)
