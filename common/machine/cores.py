"""CPU cores: which may be used, and which make a device."""

import os


def available_cores() -> list[int]:
    """Returns the cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


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
