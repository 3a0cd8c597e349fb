"""Runs that take turns: the contract with the study, warm-up by time, and the record of rounds."""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import Any, Protocol

from isoscale.common.config.records import OMIT_DEFAULT

WARMUP_PARTS = 4
"""A warm-up window lasts this part of a measured window."""
_LEAST_WINDOWS, _MOST_WINDOWS = 6, 40
_STABLE = 0.97
STABLE_RULE = (
    "warm-up windows last a quarter of --min_seconds; the step time is stable when the median of "
    f"the last three windows is at least {100 * _STABLE:.0f} % of the median of the three before"
)
NEAR_ZERO = 0.02
"""Share of one core that a waiting run may use; above it, the report says so."""


class Turns(Protocol):
    """The run's side of its turns (``common/processes/turns.py``)."""

    def wait(self) -> dict[str, Any]:
        """Blocks until the study says what to do next: the key ``do``, and its arguments."""

    def say(self, did: str, **facts: Any) -> None:
        """Tells the study what this run has done."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoundFigures:
    """The window of a run in one round.

    Attributes:
      round: number of the round in its group, from 0.
      seconds_per_step: of the window.
      steps: of the window.
      outside_load_share: time that other programs and other guests of the machine used on all
        cores during the window, divided by the window's time; None if unknown.
      disturbed: whether that share is above ``DISTURBED_SHARE``, or a core was slow
        (``common/machine/frequency.py``); None if unknown.
      frequency_ratio: frequency of the slowest core at the end of the window, divided by its median
        over the windows of the run; None if unknown.
      throttles: how often heat throttled a core during the window; None if unknown.
    """

    round: int
    seconds_per_step: float
    steps: int
    outside_load_share: float | None = None
    disturbed: bool | None = None
    frequency_ratio: float | None = dataclasses.field(default=None, metadata=OMIT_DEFAULT)
    throttles: int | None = dataclasses.field(default=None, metadata=OMIT_DEFAULT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TurnsFigures:
    """How a run took turns with the other runs of its group.

    Attributes:
      rounds: its windows.
      group: identifies the group: its number, and when it began.
      members: number of runs in the group.
      place: place of this run in the order in which the group started.
      waiting_cpu_share: processor time of all its processes while it waited / time of waiting.
      warmup_stable: whether the step time was stable at the end of warm-up, by ``STABLE_RULE``.
      losses: step (a power of two, as text) -> its loss, in nats. Runs whose windows go by time
        train different numbers of steps; their losses can be compared at equal steps only.
    """

    rounds: list[RoundFigures]
    group: str
    members: int
    place: int
    waiting_cpu_share: float | None
    warmup_stable: bool
    losses: dict[str, float | None]

    @property
    def outside_load_share(self) -> float | None:
        """The mean over the rounds in which the share is known; None if it is never known."""
        known = [r.outside_load_share for r in self.rounds if r.outside_load_share is not None]
        return statistics.fmean(known) if known else None


def losses_at_powers(losses: Sequence[float]) -> dict[str, float | None]:
    """Returns step -> loss for the steps 1, 2, 4, ...; None for a loss that is not finite."""
    steps = (2**power for power in range(len(losses).bit_length()))
    return {
        str(step): losses[step] if math.isfinite(losses[step]) else None
        for step in steps
        if step < len(losses)
    }


def steps_for(seconds: float, *, seconds_per_step: float, block: int) -> int:
    """Returns the least number of whole blocks of steps that last ``seconds``, in steps."""
    return block * max(1, math.ceil(seconds / max(seconds_per_step, 1e-9) / block))


def is_stable(seconds_per_step: Sequence[float]) -> bool | None:
    """Returns whether the step time is stable; None: one more warm-up window is needed.

    Args:
      seconds_per_step: of the warm-up windows so far.
    """
    if len(seconds_per_step) < _LEAST_WINDOWS:
        return None
    before, last = seconds_per_step[-6:-3], seconds_per_step[-3:]
    if statistics.median(last) >= _STABLE * statistics.median(before):
        return True
    return False if len(seconds_per_step) >= _MOST_WINDOWS else None
