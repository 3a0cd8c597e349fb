"""Where the efficiency of several devices goes: factors that multiply to it.

Throughput per device falls from one base case to the next, and each step has a cause:

  bare -> strategy on one device          wrapper
  -> one device with its share of the     smaller batch (strong scaling only: under weak scaling
     batch, alone                         the share is the whole batch of one device)
  -> all devices at the same time,        hardware: shared memory bandwidth, caches, clocks
     without communication
  -> all devices with one model           communication and waiting
"""

import dataclasses
import math
from collections.abc import Sequence

from isoscale.common.analysis.estimates import LEAST_RUNS, Ratio
from isoscale.common.analysis.scaling import CellSummary, Scaling, compared
from isoscale.common.analysis.settings import Setting, cell_name

WRAPPER = "wrapper"
SMALLER_BATCH = "smaller batch"
HARDWARE = "hardware"
COMMUNICATION = "communication and waiting"
CAUSES = (WRAPPER, SMALLER_BATCH, HARDWARE, COMMUNICATION)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Factor:
    """One cause of lost efficiency.

    Attributes:
      names: its cause; several if the base cases between them were not measured.
      ratio: throughput per device after it / before it; 1: nothing is lost.
    """

    names: tuple[str, ...]
    ratio: Ratio

    @property
    def name(self) -> str:
        return " + ".join(self.names)

    @property
    def loses(self) -> bool:
        """Whether the interval is below 1."""
        return self.ratio.high is not None and self.ratio.high < 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Factors:
    """The efficiency of a cell on several devices, and its factors.

    Attributes:
      name: of the cell in its setting.
      cell: the cell.
      base: the cell that efficiency 1 stands for, N times: bare, or the strategy on one device.
      speedup: throughput / throughput of ``base``.
      without_communication: throughput of the independent devices / throughput of ``base``: the
        speedup of a link that costs nothing.
      factors: in the order of the base cases.
    """

    name: str
    cell: CellSummary
    base: CellSummary
    speedup: Ratio
    without_communication: Ratio
    factors: list[Factor]

    @property
    def devices(self) -> int:
        return self.cell.cell.devices

    @property
    def efficiency(self) -> Ratio:
        """Speedup / N."""
        return scaled(self.speedup, 1 / self.devices)

    @property
    def fall_needed(self) -> float | None:
        """The share by which exposed communication must fall for the speedup to become 1.

        A step takes 1 / speedup now and 1 / ``without_communication`` without communication, in
        steps of ``base`` for as many examples. None if the speedup is above 1, or if no link
        suffices.
        """
        now, free = 1 / self.speedup.value, 1 / self.without_communication.value
        if now <= 1 or free >= 1:
            return None
        return (now - 1) / (now - free)

    @property
    def product(self) -> float:
        """The product of the factors. Each is a trimmed mean, so it can miss ``efficiency``."""
        return math.prod(factor.ratio.value for factor in self.factors)

    def find(self, name: str) -> Ratio | None:
        """Returns the factor of one cause alone; None if it was not measured."""
        found = (factor.ratio for factor in self.factors if factor.names == (name,))
        return next(found, None)

    @property
    def for_any_processes(self) -> bool:
        """Whether every factor has an interval over 3 groups or runs, or more."""
        return all(
            factor.ratio.low is not None and min(factor.ratio.n) >= LEAST_RUNS
            for factor in self.factors
        )

    @property
    def losses(self) -> list[Factor]:
        """The factors whose interval is below 1, the largest loss first."""
        found = [factor for factor in self.factors if factor.loses]
        return sorted(found, key=lambda factor: factor.ratio.value)

    @property
    def is_largest_sure(self) -> bool:
        """Whether the interval of the largest loss lies below those of all other factors."""
        first, *_ = self.losses
        others = [f.ratio.low for f in self.factors if f is not first]
        assert first.ratio.high is not None
        return all(low is not None and first.ratio.high < low for low in others)

    @property
    def compute_to_communication(self) -> Ratio | None:
        """R = time of compute / time of exposed communication and waiting, in each step.

        With the factor c of communication and waiting: compute takes c of the step, so R is
        c / (1 - c); infinite where nothing is lost. None if c was not measured.
        """
        factor = self.find(COMMUNICATION)
        if factor is None:
            return None
        low, high = (
            None if end is None else _share_to_ratio(end) for end in (factor.low, factor.high)
        )
        value = _share_to_ratio(factor.value)
        return Ratio(value=value, low=low, high=high, n=factor.n, unsound=factor.unsound)


def _share_to_ratio(share: float) -> float:
    return math.inf if share >= 1 else share / (1 - share)  # NaN, which is unknown, stays


def factors_of(setting: Setting, *, scaling: Scaling) -> list[Factors]:
    """Returns the factors of each cell on several devices whose base cases were measured.

    Cells whose devices shared cores are left out: they show overhead, not scaling. A base case
    without a successful run joins the causes before and after it.

    Args:
      setting: the setting.
      scaling: ``strong`` or ``weak``.
    """
    found = []
    for series, cells in setting.series.items():
        one = next((cell for cell in cells if cell.cell.devices == 1 and cell.valid), None)
        for cell in cells:
            if cell.cell.devices > 1 and cell.valid and not cell.cell.oversubscribed:
                name = cell_name(series, cell.cell.devices)
                factors = _factors(name, cell, one, setting.independent, scaling)
                found += [factors] if factors is not None else []
    return found


def _factors(
    name: str,
    cell: CellSummary,
    one: CellSummary | None,
    independent: Sequence[CellSummary],
    scaling: Scaling,
) -> Factors | None:
    devices = cell.cell.devices
    own = {
        base.cell.independent: base
        for base in independent
        if base.valid
        and base.cell.devices == devices
        and (base.cell.framework, base.cell.strategy) == (cell.cell.framework, cell.cell.strategy)
        and (base.cell.tuning, base.cell.compile_mode) == (cell.cell.tuning, cell.cell.compile_mode)
    }
    together = own.get(devices)
    if together is None:
        return None
    # (cause of the step to this base case, the base case, devices that compute in it)
    bare = cell.base if cell.base is not None and cell.base.valid else None
    chain = [("", bare, 1), (WRAPPER, one, 1)]
    if scaling == "strong":
        chain.append((SMALLER_BATCH, own.get(1), 1))
    chain += [(HARDWARE, together, devices), (COMMUNICATION, cell, devices)]
    steps: list[tuple[tuple[str, ...], CellSummary, CellSummary, float]] = []
    before: tuple[CellSummary, int] | None = None
    causes: list[str] = []
    for cause, case, active in chain:
        causes += [cause] if before is not None else []
        if case is None:
            continue
        if before is not None:
            steps.append((tuple(causes), case, before[0], before[1] / active))
        before, causes = (case, active), []
    base = bare or one
    if base is None:
        return None
    pairs = [(case, earlier) for _, case, earlier, _ in steps]
    *ratios, whole, free = compared([*pairs, (cell, base), (together, base)])
    return Factors(
        name=name,
        cell=cell,
        base=base,
        speedup=whole,
        without_communication=free,
        factors=[
            Factor(names=causes, ratio=scaled(ratio, per_device))
            for (causes, _, _, per_device), ratio in zip(steps, ratios, strict=True)
        ],
    )


def scaled(ratio: Ratio, factor: float) -> Ratio:
    """Returns a ratio times a number; its test was of another hypothesis and is left out."""
    low, high = (None if end is None else end * factor for end in (ratio.low, ratio.high))
    return dataclasses.replace(ratio, value=ratio.value * factor, low=low, high=high, p=None)
