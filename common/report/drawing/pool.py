"""Draws many plots on all cores."""

import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from isoscale.common.machine.cores import available_cores
from isoscale.common.report.drawing.files import Drawn
from isoscale.common.report.drawing.plot import Plot

_to_render: Sequence[Plot] = ()


def _render_one(index: int) -> Drawn:
    return _to_render[index].render()


class Drawing:
    """Context manager that draws plots on all cores of this process."""

    def __init__(self, plots: Sequence[Plot]):
        self._plots = plots
        self._pool: ProcessPoolExecutor | None = None
        self._drawn: Iterator[Drawn] = iter(())

    def __enter__(self) -> "Drawing":
        global _to_render
        workers = min(len(available_cores()), len(self._plots) // 8)
        if workers < 2 or sys.platform != "linux":
            self._drawn = (plot.render() for plot in self._plots)
            return self
        # Forked workers inherit the plots in memory; only the drawings travel between processes.
        _to_render = self._plots
        self._pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork"))
        self._drawn = self._pool.map(_render_one, range(len(self._plots)), chunksize=2)
        return self

    def __exit__(self, *exception: object) -> None:
        global _to_render
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            _to_render = ()

    def result(self) -> dict[str, Drawn]:
        """Waits for all plots and returns slug -> its drawing."""
        return {plot.slug: drawn for plot, drawn in zip(self._plots, self._drawn, strict=True)}
