"""CPU cores: the usable ones, and the cores of each CPU device."""

import contextlib
import functools
import os
from collections.abc import Iterable
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


class Pinning:
    """Keeps all threads of this process on its cores, and finds threads that are elsewhere.

    Libraries move threads after the process was pinned: libgomp, for example, binds the thread that
    loads it to one core if a variable asks for it, and new threads inherit the cores of the thread
    that starts them.
    """

    def __init__(self, cores: list[int] | None = None):
        """Pins this process.

        Args:
          cores: CPUs of this process; None: it is not pinned (accelerators).
        """
        self.cores = cores if cores is not None and pin(cores) else None

    def pin_again(self) -> None:
        """Pins every thread that exists now; call it after an import."""
        if self.cores is None:
            return
        for thread in _threads():
            with contextlib.suppress(ProcessLookupError):  # the thread has ended
                os.sched_setaffinity(thread, self.cores)

    def places(self) -> dict[str, int] | None:
        """Returns the number of threads by the CPUs that they may use, for example ``{"0,1": 12}``.

        None: this process is not pinned.
        """
        if self.cores is None:
            return None
        found: dict[str, int] = {}
        for thread in _threads():
            with contextlib.suppress(ProcessLookupError):
                cpus = _text(os.sched_getaffinity(thread))
                found[cpus] = found.get(cpus, 0) + 1
        return found

    def verify(self) -> None:
        """Checks that every thread may use exactly the cores of this process.

        Raises:
          MovedThreadsError: a thread may use other cores, or only some of them.
        """
        places, right = self.places() or {}, _text(self.cores or ())
        moved = {cpus: count for cpus, count in places.items() if cpus != right}
        if moved:
            listed = ", ".join(f"{count} on CPU {cpus}" for cpus, count in sorted(moved.items()))
            raise MovedThreadsError(
                f"threads left their cores: {listed} of {sum(places.values())} threads, but all "
                f"must be on CPU {right}: a library in this process has bound them, and its "
                "figures would not be those of the stated cores"
            )


class MovedThreadsError(RuntimeError):
    """Threads of a run are not on the cores of the run."""


def _threads() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/task")]


def _text(cpus: Iterable[int]) -> str:
    return ",".join(map(str, sorted(cpus)))
