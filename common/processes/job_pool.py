"""Worker processes that each run many jobs, one after the other.

A command plans jobs and gives them to a ``JobPool``. Jobs of one group share a process, or the
ranks of one run. The pool writes the jobs of a group to a folder and starts the jobs' own module
with this folder. The module calls ``serve``, which writes one line of results for each job. If a
process fails, the pool adds an error line for the current job and restarts the process for the
remaining jobs. An interrupted session keeps its finished jobs, and the next session resumes it.
"""

import abc
import contextlib
import dataclasses
import gc
import hashlib
import itertools
import json
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from subprocess import Popen
from typing import Any, Generic, TypeVar

from isoscale.common.config.counts import counted
from isoscale.common.config.errors import ConfigError, FolderError, in_one_line
from isoscale.common.config.read import MEBIBYTE
from isoscale.common.config.records import from_record, to_record
from isoscale.common.disk.json_files import from_json, read_json, to_json, write_json
from isoscale.common.disk.writing import about_disk, remove_leftovers, writing
from isoscale.common.machine.cores import available_cores
from isoscale.common.machine.own_version import own_version
from isoscale.common.processes import launch, ranks
from isoscale.common.processes.frame import leave_at_once
from isoscale.common.processes.heartbeat import Heartbeat, doing, path_for
from isoscale.common.processes.job_line import Key, Line
from isoscale.common.processes.limits import Limits
from isoscale.common.processes.lock import VanishedError
from isoscale.common.processes.supervise import POLL_SECONDS, Supervision, wait_for_an_end

JOBS, RESULTS = "jobs.json", "results.jsonl"
_REQUEST, _LOG = "request.json", "log.txt"
_LARGEST_REQUEST = 64 * MEBIBYTE
WORK = ".work"
"""Folder of the workers, in a command's folder."""
OUTPUTS = "outputs"
"""Folder of the jobs' outputs, in ``WORK``."""
FAILED = "failed"
"""File in the output folder of a failed job: jobs that wait for this job stop waiting."""

L = TypeVar("L", bound=Line)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job(abc.ABC, Generic[L]):
    """One unit of work. Its fields are plain values, because the process receives them as JSON."""

    @property
    @abc.abstractmethod
    def key(self) -> Key:
        """Identifies the job."""

    @property
    @abc.abstractmethod
    def group(self) -> str:
        """Name of the group; all jobs of a group share a process."""

    @property
    @abc.abstractmethod
    def output(self) -> Path | None:
        """Output folder, in ``OUTPUTS``, for other jobs; None: no job waits for this job."""

    @abc.abstractmethod
    def has_output(self) -> bool:
        """Returns whether ``output`` holds everything that other jobs wait for."""

    def is_done(self, line: L) -> bool:
        """Returns whether a job with these results need not run again."""
        return not line.error and self.has_output()

    def clear(self) -> None:
        """Removes the output of an interrupted attempt."""
        if self.output:
            shutil.rmtree(self.output, ignore_errors=True)

    def note_failure(self) -> None:
        """Writes ``FAILED``, so that the jobs that wait for this job stop waiting."""
        if self.output:
            self.output.mkdir(parents=True, exist_ok=True)
            (self.output / FAILED).touch()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Launch:
    """Describes how the process of some jobs starts.

    Attributes:
      python: interpreter of the process.
      environment: the whole environment of the process, besides the variables of its rank.
      ranks: number of ranks that run the jobs together; None: one process without a rank.
    """

    python: str
    environment: dict[str, str]
    ranks: int | None


class _Worker(Generic[L]):
    """The process (or ranks) of one group of jobs; restarts after a failure."""

    def __init__(
        self,
        jobs: Sequence[Job[L]],
        line_type: type[L],
        *,
        launch_of: Callable[[Sequence[Any]], Launch],
        work: Path,
        limits: Limits,
    ):
        """The arguments are those of ``JobPool``; ``jobs`` are the jobs of one group, in order."""
        self._remaining = list(jobs)
        self._line_type = line_type
        self._launch_of = launch_of
        self._work, self._limits = work, limits
        self.lines: list[L] = []
        self.processes: list[Popen] = []
        self._name = jobs[0].group
        self._held = contextlib.ExitStack()  # removes the ranks' meeting file

    @property
    def doing(self) -> str:
        return doing(self._folder)

    def start(self) -> None:
        """Starts a process for the remaining jobs."""
        names = (f"{self._name}-{attempt}" for attempt in itertools.count())
        self._folder = next(self._work / name for name in names if not (self._work / name).exists())
        with writing(self._folder):
            self._folder.mkdir()
            jobs = json.dumps([to_record(job) for job in self._remaining])
            (self._folder / JOBS).write_text(jobs)
            (self._folder / _LOG).touch()
        self._read = 0
        how = self._launch_of(self._remaining)
        module = type(self._remaining[0]).__module__
        own: list[dict[str, str]] = [{}]
        if how.ranks is not None:
            own = self._held.enter_context(ranks.environments(how.ranks, folder=self._folder))
        self.processes = [
            launch.start(
                launch.module_command(how.python, module, str(self._folder)),
                environment={**how.environment, **rank},
                log=self._folder / _LOG,
            )
            for rank in own
        ]
        self._supervision = Supervision(self.processes, run_dir=self._folder, limits=self._limits)

    def poll(self) -> bool:
        """Reads new lines; returns whether all jobs have results."""
        outcome = self._supervision.poll()
        lines, self._read = _whole_lines(self._folder, self._line_type, self._read)
        self.lines += lines
        del self._remaining[: len(lines)]
        if outcome is None:
            return False
        self.end()
        if self._remaining:  # without remaining jobs, the exit code does not matter
            self._fail(outcome.explain(self._folder / _LOG, otherwise="exited without a result"))
            if self._remaining:
                self.start()
                return False
        return True

    def _fail(self, error: str) -> None:
        """Adds a line with the error of the current job.

        Raises:
          FolderError: the folder of the workers has vanished or cannot be written.
        """
        check_exists(self._work)  # otherwise note_failure would create a part of it again
        job = self._remaining.pop(0)
        log = str(self._folder / _LOG)
        self.lines.append(self._line_type(job=job.key, error=error, log=log))
        with writing(self._work):
            job.note_failure()

    def end(self) -> None:
        launch.end(self.processes)
        self.processes = []
        self._held.close()


def _whole_lines(folder: Path, line_type: type[L], start: int = 0) -> tuple[list[L], int]:
    """Returns (complete lines of a worker's results from byte ``start`` on, byte of their end)."""
    path, log = folder / RESULTS, str(folder / _LOG)
    if not path.exists():
        return [], start
    with path.open("rb") as file:
        file.seek(start)
        text = file.read()
    whole = text[: text.rfind(b"\n") + 1]
    lines = [from_record(line_type, from_json(entry)) for entry in whole.splitlines()]
    return [dataclasses.replace(entry, log=log) for entry in lines], start + len(whole)


def check_exists(work: Path) -> None:
    """Checks that the folder of the workers is still there.

    Raises:
      VanishedError: it was removed.
    """
    if not (work / _REQUEST).exists():
        raise VanishedError(f"{work} has vanished: it was removed while isoscale used it")


def module_at_work(work: Path) -> str | None:
    """Returns the module of an unfinished session's jobs; None: no session is unfinished."""
    request = _read_request(work)
    return None if request is None else request.get("module")


def _read_request(work: Path) -> dict[str, Any] | None:
    """Returns the request of an unfinished session; None without one, or if it is damaged."""
    try:
        request = read_json(work / _REQUEST, most=_LARGEST_REQUEST)
    except FolderError:
        return None
    return request if isinstance(request, dict) else None


class JobPool(Generic[L]):
    """Runs the jobs of one command in worker processes."""

    def __init__(
        self,
        jobs: Sequence[Job[L]],
        line_type: type[L],
        *,
        work: Path,
        launch_of: Callable[[Sequence[Any]], Launch],
        pythons: Mapping[str, str],
        code: Mapping[str, str],
    ):
        """Stores the arguments; ``run`` starts processes and writes files.

        Args:
          jobs: jobs of one class, in order. A job may wait for earlier jobs of its own group, and
            for jobs of groups whose first job comes before the first job of its group.
          line_type: class of the results.
          work: folder for logs and results.
          launch_of: jobs of one group -> how their process starts.
          pythons: all interpreters. A session reuses only results from the same interpreters.
          code: part of the program -> its digest or version. A session reuses only results of the
            same code.
        """
        self._jobs, self._line_type = jobs, line_type
        self.work = work
        self._launch_of = launch_of
        self._pythons, self._code = dict(pythons), dict(code)

    def _request(self) -> dict[str, Any]:
        """Returns the facts that must be equal for a session to reuse earlier results."""
        return {
            "module": type(self._jobs[0]).__module__,
            "jobs": [to_record(job) for job in self._jobs],
            # Digests: the path of an interpreter tells about the user.
            "pythons": {
                name: hashlib.sha256(path.encode()).hexdigest()
                for name, path in self._pythons.items()
            },
            "code": self._code,
        }

    def check_resumable(self, *, called: str) -> None:
        """Checks that ``run`` can resume an interrupted session.

        Args:
          called: name of the folder in messages.

        Raises:
          ConfigError: no session was interrupted, or it had other jobs, interpreters or code.
        """
        before, now = _read_request(self.work), self._request()
        if before is None:
            raise ConfigError(
                f"--resume: {called} contains no interrupted session; start without --resume"
            )
        known = before.get("code")  # an earlier isoscale wrote none
        known = known if isinstance(known, dict) else dict.fromkeys(self._code, "")
        changed = [name for name, text in self._code.items() if known.get(name, text) != text]
        if changed:
            raise ConfigError(
                f"--resume: the code has changed since {called} was interrupted "
                f"({', '.join(changed)}); start again without --resume"
            )
        if before != now:
            raise ConfigError(
                f"--resume: {called} was interrupted with other jobs or interpreters; use the same "
                "flags and the same Python, or start again without --resume"
            )

    def _done(self) -> dict[Key, L]:
        """Returns key -> results, for the jobs that need not run again."""
        known = {job.key: job for job in self._jobs}
        paths = self.work.glob(f"*/{RESULTS}")
        found = [line for path in paths for line in _whole_lines(path.parent, self._line_type)[0]]
        return {line.job: line for line in found if known[line.job].is_done(line)}

    def run(
        self,
        *,
        resume: bool,
        processes: int | None,
        limits: Limits,
        title: str,
        name: Callable[[Key], str],
    ) -> tuple[list[L], int]:
        """Runs the jobs, each group in its own process.

        Args:
          resume: continue the session that ``check_resumable`` accepted; otherwise the folder is
            emptied first.
          processes: number of workers at the same time; None: one more than the cores, because
            some workers wait.
          limits: longest times without a heartbeat.
          title: title of the progress bar.
          name: key of a job -> its name in messages.

        Returns:
          The results of all jobs, and the number of results that an earlier session produced.

        Raises:
          FolderError: the disk is full, or the folder has vanished. All processes have ended.
        """
        from isoscale.common.processes.progress import JobProgress  # imports rich: needed only here

        remove_leftovers(self.work.parent)
        if not resume:
            shutil.rmtree(self.work, ignore_errors=True)
            with writing(self.work):
                self.work.mkdir()
            write_json(self.work / _REQUEST, self._request())
        remove_leftovers(self.work, deep=True)
        kept = self._done()
        workers = self._workers(kept, limits=limits)
        waiting, running = list(workers), list[_Worker[L]]()
        slots = processes or len(available_cores()) + 1

        def lines() -> list[L]:
            return [*kept.values(), *(line for worker in workers for line in worker.lines)]

        try:
            with (
                self.keeping(),
                JobProgress(title, len(self._jobs), name=name, kept=len(kept)) as progress,
            ):
                while waiting or running:
                    check_exists(self.work)
                    while waiting and len(running) < slots:
                        running.append(waiting.pop(0))
                        running[-1].start()
                    running = [worker for worker in running if not worker.poll()]
                    progress.show(lines(), [worker.doing for worker in running])
                    living = [one for worker in running for one in worker.processes]
                    wait_for_an_end(living, seconds=POLL_SECONDS)
        except KeyboardInterrupt as error:
            error.add_note(f"{self._kept()}; repeat the command with --resume to continue")
            raise
        finally:
            for worker in running:
                worker.end()
        return lines(), len(kept)

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """Adds to a FolderError how to go on; the results are kept until ``finish``.

        Raises:
          FolderError: one was raised in the context.
        """
        try:
            yield
        except VanishedError:
            raise
        except FolderError as error:
            check_exists(self.work)
            raise FolderError(
                f"{error}; {self._kept()}; remove the cause, then repeat the command with --resume"
            ) from None

    def _kept(self) -> str:
        """Returns how many runs need not run again, and where they are."""
        total = len(self._jobs)
        are = "is" if total == 1 else "are"
        return f"{len(self._done())} of {counted(total, 'run')} {are} kept in {self.work}"

    def _workers(self, kept: Mapping[Key, L], *, limits: Limits) -> list[_Worker[L]]:
        """Returns a worker for each group that has remaining jobs.

        The groups have the order of their first jobs, done or not: with few workers at a time, a
        group then never waits for one that has not started.
        """
        groups: dict[str, list[Job[L]]] = {job.group: [] for job in self._jobs}
        for job in self._jobs:
            if job.key not in kept:
                job.clear()
                groups[job.group].append(job)
        return [
            _Worker(
                jobs,
                self._line_type,
                launch_of=self._launch_of,
                work=self.work,
                limits=limits,
            )
            for jobs in groups.values()
            if jobs
        ]

    def finish(self) -> None:
        """Ends the session; call it after writing the results to their final place.

        If every job is done, only logs and results remain. Otherwise ``--resume`` can run the
        failed jobs again.
        """
        if len(self._done()) < len(self._jobs):
            return
        with writing(self.work):
            (self.work / _REQUEST).unlink()
        shutil.rmtree(self.work / OUTPUTS, ignore_errors=True)


J = TypeVar("J", bound=Job)


def serve(
    kind: type[J],
    run: Callable[[J, Heartbeat, Callable[[Line], None]], None],
    *,
    prepare: Callable[[Sequence[J]], None],
) -> None:
    """Runs all jobs of the folder in ``sys.argv[1]``: the main function of a worker process.

    Args:
      kind: class of the jobs.
      run: runs a job and reports its results; may then wait for other ranks.
      prepare: called with all jobs before the first job runs.
    """
    launch.die_with_launcher()
    folder = Path(sys.argv[1])
    jobs = [from_record(kind, record) for record in from_json((folder / JOBS).read_text())]
    prepare(jobs)
    rank = ranks.own().rank
    beat = Heartbeat(path_for(folder, rank))
    for job in jobs:
        began = time.monotonic()

        def report(line: Line, began: float = began) -> None:
            if rank == 0:
                seconds = time.monotonic() - began
                line = dataclasses.replace(line, seconds=seconds, isoscale=own_version())
                path = folder / RESULTS
                with writing(path), path.open("a", encoding="utf-8") as file:
                    file.write(to_json(to_record(line)) + "\n")

        try:
            run(job, beat, report)
        except Exception as error:
            # This is the outermost frame: the pool records any failure and starts a new process.
            said = about_disk(error)
            with contextlib.suppress(OSError):  # the log may lie on the same full disk
                beat.fail(said or in_one_line(error))
                if said is None:
                    traceback.print_exc()
            leave_at_once(1 if said is None else FolderError.exit_code)
        gc.collect()  # a framework's compiled functions hold cycles of references
    leave_at_once(0)
