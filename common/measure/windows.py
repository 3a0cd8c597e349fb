"""Typed records of measurements; the names contain the units."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from isoscale.common.measure.result import Summary


@dataclasses.dataclass(frozen=True, kw_only=True)
class Window:
    """Consecutive steps between two synchronised clock readings.

    Attributes:
      phase: ``compile`` (the first step), ``warmup``, ``refill`` (unclocked steps at the beginning
        of a turn), ``throughput`` or ``latency``.
      first_step, steps: number of the first step, and number of steps.
      seconds: of ``rank_seconds``: the maximum; of an independent run, whose ranks do not wait for
        each other and whose rates add up, the harmonic mean.
      rank_seconds: time of each rank.
      losses: metrics of each step.
      round: of the runs that take turns; None outside rounds.
    """

    phase: str
    first_step: int
    steps: int
    seconds: float
    rank_seconds: tuple[float, ...]
    losses: tuple[dict[str, float], ...]
    round: int | None = None

    @property
    def seconds_per_step(self) -> float:
        return self.seconds / self.steps


def summarize(values: Sequence[float]) -> Summary:
    """Returns the distribution of some values."""
    if not values:
        return Summary()
    p10, median, p90 = np.percentile(values, [10, 50, 90])
    return Summary(
        median=float(median),
        mean=float(np.mean(values)),
        p10=float(p10),
        p90=float(p90),
        n=len(values),
    )
