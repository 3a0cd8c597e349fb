"""How a study within a time budget spends its time: groups, and rounds of a group."""

import dataclasses
import statistics
from collections.abc import Iterable, Sequence

from isoscale.common.config.counts import counted
from isoscale.common.config.flags import Flags

FIRST_GROUPS = 3
"""Groups after which a study plans the rest: the least number from which variances are known."""
LEAST_ROUNDS = 5
"""Least number of rounds of a later group: disturbed ones may be lost."""
ABOUT_DIVISION = (
    f"After {FIRST_GROUPS} groups, the rest of this time is divided between groups and rounds by "
    "the noise of the first (with --rounds: all groups have that many)."
)


def divides(fv: Flags, budget_seconds: float | None) -> bool:
    """Returns whether a study whose runs take turns divides its time between groups and rounds.

    With ``--target_ci`` it does not. Stein's interval has the spread of the first stage alone:
    later groups with more rounds would not narrow it, and with fewer rounds its proof would not
    hold.

    Args:
      fv: the flags of the study.
      budget_seconds: its time budget; None: it has none.
    """
    return budget_seconds is not None and not fv.given("rounds") and fv.target_ci is None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pace:
    """The plan of a study for its time, as ``study.json`` records it.

    Variances are of log ratios of the planned pairs of cells (means over the pairs).

    Attributes:
      first_groups, first_rounds: number of the groups that had run, and of the rounds of each.
      groups, rounds: number of the groups to come, and of the rounds of each.
      start_seconds: measured seconds of a group of each setting besides its rounds.
      round_seconds: measured seconds of one round of each setting.
      within_variance: of one round of a group; estimated.
      between_variance: between groups, which no number of rounds reduces; estimated.
      expected_half_width: of the 95 % intervals of the planned pairs in the end, in log ratio;
        estimated.
      pairs: number of pairs from which the variances are estimated.
    """

    first_groups: int
    first_rounds: int
    groups: int
    rounds: int
    start_seconds: float
    round_seconds: float
    within_variance: float
    between_variance: float
    expected_half_width: float
    pairs: int

    def __post_init__(self) -> None:
        if min(self.first_groups, self.first_rounds) < 1 or min(self.groups, self.rounds) < 0:
            raise ValueError("the numbers of a plan for the time must not be negative")

    def rounds_within(self, seconds: float, times: tuple[float, float] | None) -> int:
        """Returns the rounds of the next group; 0 if not even the least number fits.

        It depends on measured times only, never on a ratio.

        Args:
          seconds: what is left of the budget.
          times: seconds of a group besides its rounds, and of a round, in this session; None: those
            of the plan.
        """
        start, each = times or (self.start_seconds, self.round_seconds)
        fitting = int((seconds - start) / each + 1e-9)
        return min(self.rounds, fitting) if fitting >= LEAST_ROUNDS else 0

    @property
    def text(self) -> str:
        """The plan in one sentence."""
        within, between = (
            f"{100 * variance**0.5:.1f} %"
            for variance in (self.within_variance, self.between_variance)
        )
        noise = (
            f"after {self.first_groups} groups of {self.first_rounds} rounds, ratios of planned "
            f"pairs differed by {within} from round to round and by {between} between groups "
            f"(standard deviations, estimated; mean variances of {counted(self.pairs, 'pair')})"
        )
        groups = "group" if self.groups == 1 else "groups"
        if not self.groups:
            return f"{noise}: no further group fits into the time budget"
        return (
            f"{noise}; a group took {self.start_seconds:.0f} s and {self.round_seconds:.1f} s for "
            f"each round: {self.groups} more {groups} of {self.rounds} rounds give the narrowest "
            f"intervals within the time budget (expected: ±{100 * self.expected_half_width:.1f} %)"
        )


class Times:
    """Measured times of the groups of one session."""

    def __init__(self) -> None:
        self._found: dict[int, list[tuple[float, float]]] = {}

    def add(self, setting: int, *, seconds: float, ends: Sequence[float]) -> None:
        """Notes a group.

        Args:
          setting: identifies the setting.
          seconds: of the whole group.
          ends: seconds from the beginning of the group to the end of each of its rounds.
        """
        if len(ends) > 1:
            each = (ends[-1] - ends[0]) / (len(ends) - 1)
            self._found.setdefault(setting, []).append((seconds - each * len(ends), each))

    def of_groups(self, settings: Iterable[int]) -> tuple[float, float] | None:
        """Returns seconds besides rounds, and of one round, of a group of each setting.

        Medians over the groups; None if a setting had no group in this session.
        """
        start = each = 0.0
        for setting in set(settings):
            known = self._found.get(setting)
            if not known:
                return None
            start += max(0.0, statistics.median(start for start, _ in known))
            each += statistics.median(each for _, each in known)
        return (start, each) if each > 0 else None
