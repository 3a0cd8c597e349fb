"""Shows the progress of jobs."""

import os
import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from isoscale.common.processes.job_line import Key, Line

_QUIET_SECONDS = 30.0


class JobProgress:
    """Shows a bar on a terminal; without a terminal, prints a line every 30 seconds at most."""

    def __init__(self, title: str, total: int, *, name: Callable[[Key], str], kept: int = 0):
        """Prepares the bar; entering the context shows it.

        Args:
          title: title of the bar.
          total: number of jobs.
          name: key of a job -> its name in messages.
          kept: number of jobs that an earlier session finished.
        """
        self._name = name
        self._kept = kept
        console = Console(stderr=True, highlight=False)
        self._total, self._console = total, console
        self._began = self._said = time.monotonic()
        self._failed: set[str] = set()
        self._bar = Progress(
            TextColumn(title),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            refresh_per_second=2,
        )
        self._task = self._bar.add_task("", total=total, completed=kept)

    def __enter__(self) -> "JobProgress":
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def show(self, lines: Sequence[Line], doing: Sequence[str]) -> None:
        """Shows the finished jobs and the activities of the running workers.

        Names each failed job and its log once.
        """
        for line in lines:
            name = self._name(line.job)
            if line.error and name not in self._failed:
                self._failed.add(name)
                # The summary at the end has the cause; here it would be printed a second time.
                log = f" (log: {os.path.relpath(line.log)})" if line.log else ""
                self._console.print(Text(f"failed: {name}{log}"), soft_wrap=True)
        self._bar.update(self._task, completed=len(lines), description="; ".join(doing))
        now = time.monotonic()
        done = len(lines) - self._kept
        if not self._console.is_terminal and now - self._said >= _QUIET_SECONDS and done:
            self._said = now
            left = (now - self._began) * (self._total - len(lines)) / done
            eta = f"{int(left // 60)}:{int(left % 60):02d}"
            what = "; ".join(doing)
            self._console.print(
                Text(f"[{len(lines)}/{self._total}, ETA {eta}] {what}"), soft_wrap=True
            )
