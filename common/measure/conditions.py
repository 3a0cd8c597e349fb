"""Measures the conditions of a run: memory, load from other programs, clock resolution."""

import itertools
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from isoscale.common.machine.cores import available_cores
from isoscale.common.measure.result import Memory
from isoscale.common.measure.runner import Runner

DISTURBED_SHARE = 0.1
DISTURBED = (
    "on the run's cores, other programs together used more than "
    f"{100 * DISTURBED_SHARE:.0f} % of one core's time"
)
"""When a run is disturbed."""
LEAST_SECONDS = 0.5
"""The system counts in ticks of 10 ms: in a shorter time, a share of 10 % would be a guess."""
LOAD_UNKNOWN = (
    "whether other programs used the run's cores is unknown, because the steps took less than "
    f"{LEAST_SECONDS:g} s or the system does not count the time of each core; such a run is never "
    "called disturbed"
)
"""Why the load from outside is unknown, and what follows."""


def peak_memory(runner: Runner, *, holds_pool: bool) -> Memory:
    """Returns the peak memory of a run so far; every rank must call it.

    Args:
      runner: runner of the run.
      holds_pool: whether the devices hold two copies of the batches.
    """
    devices = runner.accelerator_peak_bytes()
    if devices is not None:
        return Memory(
            kind="peak bytes allocated by the framework, largest device",
            per_device_bytes=[bytes_ for rank in runner.gather(devices) for bytes_ in rank],
        )
    kind = "peak resident memory, summed over processes; includes the framework itself"
    if holds_pool:
        kind += ", and the batches twice (singly, and for blocks of steps)"
    return Memory(kind=kind, per_process_bytes=runner.gather(peak_resident_bytes()))


def peak_resident_bytes() -> int:
    """Returns the peak resident set size of this process, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage also counts the launcher's peak, which survives exec.
        (line,) = (text for text in status.read_text().splitlines() if text.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def clock_reading_seconds(clock: Callable[[], float]) -> float:
    """Returns the median time between two consecutive clock readings, in seconds."""
    readings = [clock() for _ in range(101)]
    gaps = sorted(later - earlier for earlier, later in itertools.pairwise(readings))
    return gaps[len(gaps) // 2]


class OutsideLoad:
    """Measures how much of this run's cores other programs use, from construction on."""

    def __init__(self, runner: Runner):
        self._runner = runner
        self._start, self._wall = _used_seconds(), time.monotonic()

    def share(self) -> float | None:
        """Returns the time that other programs used, divided by the run's time; None if unknown.

        The times of all cores of a rank are added: a step waits for its slowest device, so that use
        of any core can slow the step. Of several ranks, the largest share counts. Runs below
        ``LEAST_SECONDS`` return None.
        """
        (busy, own), wall = _used_seconds(), time.monotonic() - self._wall
        if busy is None or self._start[0] is None or wall < LEAST_SECONDS:
            found = None
        else:
            found = (available_cores(), busy - self._start[0], own - self._start[1], wall)
        ranks = self._runner.gather(found)
        if None in ranks:
            return None
        shares = []
        for cores, busy_seconds, _, seconds in ranks:
            # Ranks that share cores are not other programs to each other.
            ours = sum(own for other, _, own, _ in ranks if set(other) & set(cores))
            shares.append(max(0.0, busy_seconds - ours) / seconds)
        return max(shares)


def _used_seconds() -> tuple[float | None, float]:
    """Returns processor seconds (of all programs on this process's cores, of this process)."""
    own = os.times()
    return busy_seconds(available_cores()), own.user + own.system


def is_disturbed(share: float | None, slowed: bool | None) -> bool | None:
    """Returns whether a window was disturbed, by outside indicators only; None: unknown.

    Args:
      share: the share of one core's time that other programs used; None: unknown.
      slowed: whether a core was slow (``common/machine/frequency.py``); None: unknown.
    """
    if slowed:
        return True
    return None if share is None else share > DISTURBED_SHARE


def busy_seconds(cores: Sequence[int]) -> float | None:
    """Returns the processor seconds of all programs, and of other guests, on some cores.

    None: the system does not count the time of these cores, or there are none.
    """
    times = psutil.cpu_times(percpu=True) if cores else []
    if not cores or max(cores) >= len(times):
        return None
    idle = ("idle", "iowait", "guest", "guest_nice")
    return sum(
        seconds
        for core in cores
        for name, seconds in times[core]._asdict().items()
        if name not in idle
    )
