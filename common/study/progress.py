"""Progress of a study: a bar with ETA on a terminal, one line per finished run elsewhere."""

import time
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text


class _Eta(ProgressColumn):
    """Time left, from the mean duration of the runs so far: each is a fresh process."""

    def render(self, task: Task) -> Text:
        if not task.completed or task.total is None or task.elapsed is None:
            return Text("ETA unknown")
        left = (task.total - task.completed) * task.elapsed / task.completed
        minutes, seconds = divmod(round(left), 60)
        return Text(f"ETA {minutes}:{seconds:02d}")


class Progress:
    """A context manager; ``plan``, then ``start_run`` and ``finish_run`` for each run."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live = self._console.is_terminal
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            _Eta(),
            console=self._console,
            disable=not self._live,
            refresh_per_second=1,  # it runs on the cores that are measured
        )
        self._task = self._bar.add_task("starting", total=None)
        self._planned = 0
        self._done = 0
        self._began = time.monotonic()

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def plan(self, runs: int) -> None:
        """Announces that ``runs`` more runs are known to come."""
        self._planned = self._done + runs
        self._bar.update(self._task, total=self._planned)

    def start_run(self, cell: str, run: int) -> None:
        self._bar.update(self._task, description=f"round {run + 1}: {cell}")

    def finish_run(self, line: dict[str, Any]) -> None:
        """Counts a run and, without a terminal, prints a line about it."""
        self._done += 1
        self._bar.advance(self._task)
        if self._live:
            return
        elapsed = time.monotonic() - self._began
        left = (self._planned - self._done) * elapsed / self._done
        cell = line["cell"]
        if line["status"] == "ok":
            said = f"{1e3 * line['step_seconds']['median']:.3f} ms/step"
            said += ", oversubscribed" if cell["oversubscribed"] else ""
            said += ", disturbed" if line["disturbed"] else ""
        else:
            said = f"{line['status']}: {line['error']}"
        print(
            f"[{self._done}/{self._planned}, ETA {left:.0f} s] {cell['model']} "
            f"{cell['framework']} {cell['strategy']} devices={cell['devices']} "
            f"run {line['run']}: {said}",
            flush=True,
        )
