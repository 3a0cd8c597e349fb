"""CPU cores: which may be used, and which make a device."""

import functools
import os
from pathlib import Path


def available_cores() -> list[int]:
    """Returns one CPU of each physical core this process may run on.

    A second hardware thread of a core is no core: two devices on it would share everything.
    """
    if hasattr(os, "sched_getaffinity"):
        cpus = sorted(os.sched_getaffinity(0))
    else:
        cpus = list(range(os.cpu_count() or 1))
    cores = {_siblings(cpu): cpu for cpu in reversed(cpus)}
    return sorted(cores.values())


@functools.cache
def _siblings(cpu: int) -> str:
    """Returns a name of the physical core of a CPU; the CPU itself where Linux does not say."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    return path.read_text().strip() if path.exists() else str(cpu)


def cores_of_devices(
    cores: list[int], *, first_device: int, devices: int, threads_per_device: int
) -> list[int]:
    """Returns the cores that make consecutive CPU devices.

    Device d has the ``threads_per_device`` cores from index d * threads_per_device on. Past the
    last core the count starts again: those devices share cores (oversubscription).
    """
    start = first_device * threads_per_device
    count = devices * threads_per_device
    return sorted({cores[(start + i) % len(cores)] for i in range(count)})


def pin(cores: list[int]) -> bool:
    """Restricts this process to ``cores``; must run before a framework is imported.

    Returns:
      Whether the system has such a thing (Linux does).
    """
    if not hasattr(os, "sched_setaffinity"):
        return False
    os.sched_setaffinity(0, cores)
    return True
