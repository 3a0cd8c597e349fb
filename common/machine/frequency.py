"""The frequency of cores, and how often heat throttled them, where the operating system says so.

Both are outside indicators: they tell that a core was slow without the time of any step.
"""

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path

ROOT = Path("/sys/devices/system/cpu")
DROP = 0.05
"""A window is slowed if a core's frequency was lower than its median by more than this share."""
UNSTEADY_SHARE = 0.2
"""If more than this share of the windows would be slowed, the frequency changes all the time."""
RULE = (
    f"the frequency of a core of the run was more than {100 * DROP:.0f} % below its median over "
    "the windows of the group, or heat throttled a core"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """What the operating system said about a run's cores at the end of a window.

    Attributes:
      hertz: frequency of each core; None: unknown.
      throttles: how often heat throttled a core during the window; None: unknown.
    """

    hertz: tuple[float, ...] | None = None
    throttles: int | None = None


def frequencies(cores: Sequence[int]) -> tuple[float, ...] | None:
    """Returns the present frequency of each core, in hertz; None if one is unknown.

    Only ``cpufreq`` counts, which many virtual machines lack: what psutil returns there instead is
    the nominal frequency of the processor.
    """
    found = [_number(core, "cpufreq/scaling_cur_freq") for core in cores]
    known = [1e3 * kilohertz for kilohertz in found if kilohertz]
    return tuple(known) if known and len(known) == len(cores) else None


def throttle_count(cores: Sequence[int]) -> int | None:
    """Returns how often heat has throttled some cores since the start; None if unknown."""
    found = [_number(core, "thermal_throttle/core_throttle_count") for core in cores]
    known = [count for count in found if count is not None]
    return sum(known) if known and len(known) == len(cores) else None


def _number(core: int, name: str) -> int | None:
    try:
        return int((ROOT / f"cpu{core}" / name).read_text())
    except (OSError, ValueError):
        return None


def ratios(readings: Sequence[Reading | None]) -> list[float | None]:
    """Returns, for each window, its slowest core's frequency divided by that core's median.

    None: unknown. Frequencies that never change are nominal, not measured: unknown, too.

    Args:
      readings: at the end of each window of a run; None: there is no window.
    """
    known = [reading.hertz for reading in readings if reading is not None and reading.hertz]
    if len(set(known)) < 2:
        return [None] * len(readings)
    medians = [statistics.median(core) for core in zip(*known, strict=True)]
    return [
        round(min(h / m for h, m in zip(reading.hertz, medians, strict=True)), 3)
        if reading is not None and reading.hertz
        else None
        for reading in readings
    ]


def slowed(readings: Sequence[Reading | None]) -> list[bool | None]:
    """Returns whether each window was slowed, by ``RULE``; None: unknown.

    If more than a fifth of the windows have a low frequency, it changes all the time (or the system
    tells that of a core at rest): then it singles out no window. Nor do throttles of so many.

    Args:
      readings: as for ``ratios``.
    """
    found = ratios(readings)
    low = [ratio is not None and ratio < 1 - DROP for ratio in found]
    if sum(low) > UNSTEADY_SHARE * len(low):
        low, found = [False] * len(low), [None] * len(low)
    hot = [reading is not None and bool(reading.throttles) for reading in readings]
    if sum(hot) > UNSTEADY_SHARE * len(hot):
        hot = [False] * len(hot)
    return [
        None
        if reading is None or (ratio is None and reading.throttles is None)
        else is_low or is_hot
        for reading, ratio, is_low, is_hot in zip(readings, found, low, hot, strict=True)
    ]
