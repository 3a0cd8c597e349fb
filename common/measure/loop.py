"""The timed loop. It exists once; every framework is measured by it."""

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
    """Issues calls one after the other between two synchronised clock readings.

    Nothing but these calls runs between the two clocks, and nothing blocks but the bound on calls
    in flight (which costs nothing measurable; without one, JAX on CPU can hang). If ``window`` is a
    generator that places each batch, the placing is inside: that is ``--input_pipeline=timed``.

    Args:
      runner: synchronises its devices and ranks.
      window: what each call is given.
      issue: starts the work of one item and returns without waiting; ``runner.step`` in training.
      max_in_flight: calls issued and not yet finished, at most.
      clock: in seconds.

    Returns:
      Seconds on this rank, and the handles of the calls.
    """
    handles: list[Handle] = []
    runner.barrier()  # outside the clocks: ranks start together
    runner.wait()
    start = clock()
    for i, item in enumerate(window):
        if i >= max_in_flight:
            runner.wait_for(handles[i - max_in_flight])
        handles.append(issue(item))
    runner.wait()
    return clock() - start, handles
