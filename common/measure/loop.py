"""The timed loop, which measures every framework."""

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from isoscale.common.measure.runner import Handle, Runner

Item = TypeVar("Item")


def timed_window(
    runner: Runner,
    window: Iterable[Item],
    *,
    issue: Callable[[Item], Handle],
    max_in_flight: int,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, list[Handle]]:
    """Issues one call after the other between two synchronised clock readings.

    Between the two readings, only these calls run. Only the bound on calls in flight blocks. The
    bound has no measurable cost; without it, JAX on CPU can hang. If ``window`` is a generator that
    places each batch, the window includes the placing (``--input_pipeline=timed``).

    Args:
      runner: synchronises the devices and ranks.
      window: the argument of each call.
      issue: starts the work of one item and returns without waiting; ``runner.step`` in training.
      max_in_flight: largest number of issued calls that have not finished.
      clock: returns seconds.

    Returns:
      Seconds on this rank, and the handles of the calls.
    """
    handles: list[Handle] = []
    runner.barrier()  # before the first reading: all ranks start together
    runner.wait()
    start = clock()
    for i, item in enumerate(window):
        if i >= max_in_flight:
            runner.wait_for(handles[i - max_in_flight])
        handles.append(issue(item))
    runner.wait()
    return clock() - start, handles
