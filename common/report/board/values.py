"""Figures of a result line as TensorBoard can keep them: finite numbers, steps and times."""

from datetime import datetime
from typing import Any

from isoscale.common.report.study.data import StudyData

_LARGEST_STEP = 2**62


def finite(value: Any) -> float | None:
    """Returns a finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # TensorBoard keeps float32 and would show a larger number as infinite.
    return float(value) if abs(value) < 3.4e38 else None


def scaled(value: float | None, factor: float) -> float | None:
    """Returns the product; None for None."""
    return None if value is None else value * factor


def whole_step(value: Any) -> int | None:
    """Returns a whole number that can be a step, or None for anything else."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < _LARGEST_STEP else None


def seconds_of(text: Any) -> float | None:
    """Returns an ISO date as seconds since 1970; None for anything else."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except (ValueError, OverflowError):
        return None


def study_seconds(study: StudyData) -> float:
    """Returns when the last run of a study started, in seconds since 1970; 0 if unknown."""
    texts = [line.get("started") for line in study.lines]
    texts += [session.get("started") for session in study.record["sessions"]]
    return max((s for s in map(seconds_of, texts) if s is not None), default=0.0)
