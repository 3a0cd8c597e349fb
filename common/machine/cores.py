"""CPU cores: the usable ones, and the cores of each CPU device."""

import functools
import os
from pathlib import Path


def available_cores() -> list[int]:
    """Returns one CPU of each physical core that this process may use.

    A second hardware thread does not count as a core: two devices on one core would share all of
    its resources.
    """
    if hasattr(os, "sched_getaffinity"):
        cpus = sorted(os.sched_getaffinity(0))
    else:
        cpus = list(range(os.cpu_count() or 1))
    cores = {_siblings(cpu): cpu for cpu in reversed(cpus)}
    return sorted(cores.values())


@functools.cache
def _siblings(cpu: int) -> str:
    """Returns a name of the physical core of a CPU; the CPU's number if the core is unknown."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    return path.read_text().strip() if path.exists() else str(cpu)


def cores_of_devices(
    cores: list[int], *, first_device: int, devices: int, threads_per_device: int
) -> list[int]:
    """Returns the cores of consecutive CPU devices.

    Device d has ``threads_per_device`` cores, starting at index d * threads_per_device. After the
    last core the count restarts at the first one: those devices share cores (oversubscription).

    Args:
      cores: the usable cores.
      first_device: index of the first device.
      devices: number of devices.
      threads_per_device: cores per device.
    """
    start = first_device * threads_per_device
    count = devices * threads_per_device
    return sorted({cores[(start + i) % len(cores)] for i in range(count)})


def pin(cores: list[int]) -> bool:
    """Restricts this process to ``cores``; must run before a framework is imported.

    Returns:
      Whether the operating system supports pinning (Linux does).
    """
    if not hasattr(os, "sched_setaffinity"):
        return False
    os.sched_setaffinity(0, cores)
    return True
