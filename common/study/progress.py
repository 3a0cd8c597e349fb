"""Shows the progress of a study: a live view on a terminal, otherwise a few plain lines."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from isoscale.common.config.cell import Cell
from isoscale.common.config.counts import counted
from isoscale.common.processes.heartbeat import doing
from isoscale.common.processes.log_lines import LOG
from isoscale.common.study.records import ResultLine

SHOWN_RUNS = 8
"""Number of finished runs that the live view shows."""
QUIET_SECONDS = 30.0
"""Without a terminal: least time between two lines; failures are printed immediately."""


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _said(line: ResultLine) -> str:
    result = line.result
    if not line.ok:
        return f"{result.status}: {result.error}"
    marks = [
        text
        for flag, text in (
            (line.cell.oversubscribed, "oversubscribed"),
            (result.disturbed, "disturbed"),
        )
        if flag
    ]
    step = f"{1e3 * result.median_step_seconds:.3f} ms/step"
    return ", ".join([step, f"{result.speed:.0f} examples/s", *marks])


# What a name says besides framework and devices, if cells of the same name would differ in it.
_SAID: dict[str, Callable[[Cell], str]] = {
    "overrides": lambda cell: " ".join(
        f"{name}={','.join(map(str, size)) if isinstance(size, list) else size}"
        for name, size in cell.overrides.items()
    ),
    "global_batch_size": lambda cell: f"batch={cell.global_batch_size}",
    "dtype": lambda cell: cell.dtype,
    "compile_mode": lambda cell: cell.compile_mode,
    "tuning": lambda cell: cell.tuning,
    "tweaks": lambda cell: " ".join(f"+{name}" for name in cell.tweaks),
}


def _differing(cells: Iterable[Cell]) -> list[str]:
    """Returns the fields in which cells of the same model, framework and devices differ."""
    alike: dict[str, list[Cell]] = {}
    for cell in cells:
        alike.setdefault(_name(cell), []).append(cell)
    return [
        field
        for field in _SAID
        if any(
            getattr(cell, field) != getattr(group[0], field)
            for group in alike.values()
            for cell in group
        )
    ]


def _name(cell: Cell, fields: Sequence[str] = ()) -> str:
    said = [_SAID[field](cell) for field in fields]
    first = [cell.model, cell.framework, cell.strategy, f"devices={cell.devices}"]
    first += [f"independent={cell.independent}"] if cell.independent else []
    return " ".join(text for text in (*first, *said) if text)


def _grid(cell: RenderableType) -> Table:
    table = Table.grid()
    table.add_row(cell)
    return table


class StudyProgress:
    """A context manager that shows progress.

    Call ``plan``, then ``start_run`` and ``finish_run`` for each run.
    """

    def __init__(
        self,
        *,
        cells: Iterable[Cell] = (),
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Prepares the view; entering the context shows it.

        Args:
          cells: all cells of the study; the name of a run says in which fields they differ.
          console: output; None: standard error (standard output gets results only).
          clock: returns seconds; a wall clock would make durations wrong when it is set.
        """
        self._console = console or Console(stderr=True, highlight=False)
        self._clock = clock
        self._named = _differing(cells)
        self._began = clock()
        self._said = self._began
        self._planned = self._done = self._bad = 0
        self._skipped: set[str] = set()
        self._ran: list[float] = []
        self._latest: deque[tuple[str, str]] = deque(maxlen=SHOWN_RUNS)
        self._running: tuple[str, Path | None, float] | None = None
        self._doing = ""
        self._live = Live(
            get_renderable=self._render,
            console=self._console,
            # The view uses the measured cores: it refreshes only every two seconds.
            refresh_per_second=0.5,
            transient=True,
        )

    def __enter__(self) -> "StudyProgress":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live.is_started:
            self._live.stop()
        if self._done:
            self._print(
                f"{counted(self._done, 'run')} in {_minutes(self._elapsed())}, {self._bad} not ok"
            )

    def plan(self, runs: int) -> None:
        """Sets the number of remaining runs."""
        self._planned = self._done + runs

    def start_run(self, cell: Cell, run: int, run_dir: Path) -> None:
        """Shows a run as running; ``run_dir`` holds its heartbeat file."""
        self._running = (f"{_name(cell, self._named)}, run {run}", run_dir, self._clock())
        self._refresh()

    def start_group(self, cells: Sequence[Cell], run: int) -> None:
        """Shows a group of runs that take turns."""
        models = ", ".join(dict.fromkeys(cell.model for cell in cells))
        name = f"{models}, group {run}: {len(cells)} runs in turns"
        self._running, self._doing = (name, None, self._clock()), "starting"
        self._refresh()

    def say_round(self, done: int, planned: int) -> None:
        """Shows how many rounds of the group are done."""
        self._doing = f"{done} of {planned} rounds"
        self._refresh()

    def finish_run(self, line: ResultLine, *, seconds: float | None = None) -> None:
        """Counts a finished run.

        Args:
          line: its result line.
          seconds: its duration; None: since ``start_run``.
        """
        self._done += 1
        _, run_dir, since = self._running or ("", None, self._clock())
        self._running = None
        bad = not line.ok
        self._bad += bad
        name, said = f"{_name(line.cell, self._named)} run {line.run}", _said(line)
        log = run_dir / LOG if run_dir else None
        if bad and log and log.exists():
            said += f" (log: {os.path.relpath(log)})"
        self._latest.append((name, said))
        if line.result.status == "skipped":
            # Each reason is printed once: a missing framework is missing in every cell.
            bad = said not in self._skipped
            self._skipped.add(said)
        else:
            self._ran.append(self._clock() - since if seconds is None else seconds)
        if self._live.is_started:
            self._refresh()
        elif bad or self._clock() - self._said >= QUIET_SECONDS:
            self._print(f"[{self._done}/{self._planned}, ETA {self._eta()}] {name}: {said}")

    def _print(self, text: str) -> None:
        self._said = self._clock()
        self._console.print(Text(text), soft_wrap=True)

    def _refresh(self) -> None:
        if self._live.is_started:
            self._live.refresh()

    def _elapsed(self) -> float:
        return self._clock() - self._began

    def _eta(self) -> str:
        """Returns the remaining time: remaining runs times the mean duration so far."""
        if not self._ran:
            return "unknown"
        return _minutes((self._planned - self._done) * sum(self._ran) / len(self._ran))

    def _render(self) -> RenderableType:
        head = f"{self._done} of {counted(self._planned, 'run')} done"
        head += f", {self._bad} not ok" if self._bad else ""
        parts: list[RenderableType] = [
            Text(f"{head}   {_minutes(self._elapsed())} elapsed   ETA {self._eta()}", style="bold"),
            # In its own table: without one, the next line would follow the bar on the same line.
            _grid(ProgressBar(total=max(1, self._planned), completed=self._done, width=60)),
        ]
        if self._running:
            name, run_dir, since = self._running
            said = doing(run_dir) if run_dir else self._doing
            parts.append(Text(f"now  {name}: {said} ({_minutes(self._clock() - since)})"))
        if self._latest:
            table = Table.grid(padding=(0, 2))
            for row in reversed(self._latest):
                table.add_row(*(Text(cell) for cell in row))
            parts.append(table)
        return Group(*parts)
