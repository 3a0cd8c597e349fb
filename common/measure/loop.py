"""The timed loop. It exists once; every framework is measured by it."""

import time
from collections.abc import Callable, Iterable

from isoscale.common.measure.runner import Handle, Placed, Runner


def timed_window(
    runner: Runner,
    window: Iterable[Placed],
    *,
    max_in_flight: int,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, list[Handle]]:
    """Runs consecutive training steps between two synchronised clock readings.

    Nothing but steps runs between the two clocks, and nothing blocks but the bound on steps in
    flight (which costs nothing measurable; without one, JAX on CPU can hang). If ``window`` is a
    generator that places each batch, the placing is inside: that is ``--input_pipeline=timed``.

    Returns:
      Seconds on this rank, and the handles of the steps.
    """
    handles: list[Handle] = []
    runner.barrier()  # outside the clocks: ranks start together
    runner.wait()
    start = clock()
    for i, batch in enumerate(window):
        if i >= max_in_flight:
            runner.wait_for(handles[i - max_in_flight])
        handles.append(runner.step(batch))
    runner.wait()
    return clock() - start, handles
