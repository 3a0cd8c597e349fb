"""Processes that each serve many jobs of one framework and number of devices, one after the other.

A job is a frozen dataclass of plain values that derives from ``Job``. A worker writes its jobs to a
folder and starts the jobs' module with it, whose main function is ``serve``; it reads a line of
results for each, and starts the process again for what is owed if one fails. What an interrupted
session has finished is kept, for ``--resume``.
"""

import dataclasses
import gc
import hashlib
import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from isoscale.common.config.errors import ConfigError, require_choice
from isoscale.common.config.flags import Flags, define_tuning_flag
from isoscale.common.config.run_config import PLATFORMS, STOCK, TUNED, RunConfig
from isoscale.common.disk.folders import check_folder
from isoscale.common.disk.json_files import to_json, write_json
from isoscale.common.machine.cores import available_cores
from isoscale.common.measure.runner import Runner
from isoscale.common.parity.cases import Case, all_cases, make_config
from isoscale.common.parity.trace import FAILED
from isoscale.common.processes import launch, ranks
from isoscale.common.processes.heartbeat import Heartbeat, last_beat, path_for
from isoscale.common.processes.lock import LOCK
from isoscale.common.registry import lookup
from isoscale.common.registry.interpreters import define_interpreter_flags
from isoscale.common.tuning.tweaks import read_wish

JOBS, RESULTS = "jobs.json", "results.jsonl"
_REQUEST = "request.json"
WORK, LEAVES = ".work", "leaves"
"""In a command's folder the one of its workers; in that, what jobs leave for others."""
COMPILE_SECONDS = 60.0
"""How long a step may be silent beyond the watchdog's patience: the first one compiles."""


def define_job_flags(fv: Flags, *, out_dir: str, holds: str) -> None:
    """Defines how jobs run; ``check_job_flags`` reads them.

    Args:
      out_dir: default folder.
      holds: what is written there.
    """
    define_tuning_flag(fv.text, STOCK)
    fv.names("tweaks", [], "[list] +name, -name: change what --tuning switches on")
    fv.boolean(
        "quick_compile",
        True,
        "XLA compiles the same program without optimising the machine code; --noquick_compile: as "
        "runs do, which takes twice as long",
    )
    fv.text("platform", "cpu", "|".join(PLATFORMS))
    fv.text("out_dir", out_dir, f"folder for {holds}")
    fv.boolean("resume", False, "go on where the same command was interrupted, or a run failed")
    fv.integer("watchdog_seconds", 300, "end a process that makes no progress for so long")
    define_interpreter_flags(fv)


def check_job_flags(fv: Flags, kind: type["Job"], *, result: str) -> Path:
    """Returns the folder of ``--out_dir``.

    Args:
      fv: has been parsed.
      kind: of the jobs.
      result: file in the folder that says whose it is.

    Raises:
      ConfigError: one of the flags has a value that it cannot have, or the folder is of others.
    """
    require_choice("platform", fv.platform, PLATFORMS)
    require_choice("tuning", fv.tuning, (STOCK, TUNED))
    read_wish(fv.tweaks, lookup.tweak_names())
    folder = check_folder(fv.out_dir, flag="--out_dir")
    there = {path.name for path in folder.glob("*")} - {LOCK}
    request = _read_request(folder / WORK)
    ours = result in there or (request is not None and request["module"] == kind.__module__)
    if there and not ours:  # what is in it is replaced
        raise ConfigError(
            f"--out_dir={fv.out_dir} holds '{min(there)}', and no {result}; choose another folder"
        )
    return folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One training of a case.

    Attributes:
      case, framework, strategy, devices, dtype, tuning, tweaks, platform: what runs.
      global_batch_size: the case's, or more where the devices want it.
      steps: how many; None: as many as the case has.
      quick_compile: whether compiled code may be slow, as long as it is compiled soon.
    """

    case: str
    framework: str
    strategy: str
    devices: int
    dtype: str
    global_batch_size: int
    steps: int | None
    tuning: str
    tweaks: list[str]
    platform: str
    quick_compile: bool

    @property
    def key(self) -> tuple[Any, ...]:
        """What the job's line of results is known by."""
        raise NotImplementedError

    @property
    def leaves(self) -> Path | None:
        """Folder, in ``LEAVES``, of what other jobs wait for; None: none does."""
        raise NotImplementedError

    def is_there(self) -> bool:
        """Returns whether ``leaves`` holds all that other jobs wait for."""
        raise NotImplementedError

    def is_done(self, line: dict[str, Any]) -> bool:
        """Returns whether a job with this line of results need not be run again."""
        return not line["error"] and self.is_there()

    def clear(self) -> None:
        """Removes what an attempt that was interrupted has left."""
        if self.leaves:
            shutil.rmtree(self.leaves, ignore_errors=True)

    def note_failure(self) -> None:
        """Tells jobs of other processes not to wait for this one."""
        if self.leaves:
            self.leaves.mkdir(parents=True, exist_ok=True)
            (self.leaves / FAILED).touch()

    def of_case(self) -> Case:
        case = all_cases()[self.case]
        return dataclasses.replace(case, global_batch_size=self.global_batch_size)

    def config(self, case: Case) -> RunConfig:
        """Raises ConfigError if the case cannot be run so."""
        return make_config(
            case,
            framework=self.framework,
            strategy=self.strategy,
            devices=self.devices,
            dtype=self.dtype,
            steps=self.steps,
            tuning=self.tuning,
            tweaks=self.tweaks,
            platform=self.platform,
        )


class _Worker:
    """The process (or ranks) of one framework and device count, started again after a failure."""

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        python: str,
        work: Path,
        watchdog_seconds: float,
    ):
        """Args:
        jobs: of one framework and number of devices, in order.
        python: the framework's interpreter.
        work: folder for logs and results.
        watchdog_seconds: longest time without a sign of life.
        """
        self._owed = list(jobs)
        self._python = python
        self._work, self._watchdog_seconds = work, watchdog_seconds
        self.lines: list[dict[str, Any]] = []
        self._processes: list[Any] = []
        self._name = f"{jobs[0].framework}-{jobs[0].devices}"
        self._per_device = any(
            lookup.strategy_info(job.framework, job.strategy).process_model == "per_device"
            for job in jobs
        )

    @property
    def _log(self) -> str:
        return str(self._folder / "log.txt")

    @property
    def doing(self) -> str:
        return last_beat(self._folder)[1]

    def start(self) -> None:
        """Starts what is owed."""
        first = self._owed[0]
        names = (f"{self._name}-{attempt}" for attempt in itertools.count())
        self._folder = next(self._work / name for name in names if not (self._work / name).exists())
        self._folder.mkdir()
        self._read = 0
        records = [dataclasses.asdict(job) for job in self._owed]
        (self._folder / JOBS).write_text(json.dumps(records))
        environment: dict[str, str] = {}
        for job in self._owed:
            environment |= lookup.tweak_environment(job.config(job.of_case()))
        places = ranks.environments(first.devices) if self._per_device else [{}]
        self._processes = [
            launch.start(
                launch.module_command(self._python, type(first).__module__, str(self._folder)),
                environment={**environment, **place},
                log=Path(self._log),
            )
            for place in places
        ]
        self._supervision = launch.Supervision(
            self._processes, run_dir=self._folder, watchdog_seconds=self._watchdog_seconds
        )

    def poll(self) -> bool:
        """Reads what is new; returns whether nothing is owed any more."""
        outcome = self._supervision.poll()
        lines, self._read = _whole_lines(self._folder / RESULTS, self._read)
        self.lines += [{**line, "log": self._log} for line in lines]
        del self._owed[: len(lines)]
        if outcome is None:
            return False
        self.end()
        if self._owed:  # else all was done: how it left is no matter
            self._fail(outcome.error or "left without a result")
            if self._owed:
                self.start()
                return False
        return True

    def _fail(self, error: str) -> None:
        """Notes that the job at work failed."""
        job = self._owed.pop(0)
        said = launch.last_line(Path(self._log))
        if said and "watchdog" not in error:
            error += f"; last line of its log: {said}"
        line = {"job": list(job.key), "seconds": None, "error": error}
        self.lines.append({**line, "log": self._log})
        job.note_failure()

    def end(self) -> None:
        launch.end(self._processes)
        self._processes = []


def _whole_lines(path: Path, start: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Returns the lines of results from a place on, and the place after them."""
    if not path.exists():
        return [], start
    with path.open("rb") as file:
        file.seek(start)
        text = file.read()
    whole = text[: text.rfind(b"\n") + 1]
    return [{"error": None, **json.loads(line)} for line in whole.splitlines()], start + len(whole)


def _done(jobs: Sequence[Job], work: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Returns key -> line of the jobs that need not be run again."""
    known = {job.key: job for job in jobs}
    found = [line for path in work.glob(f"*/{RESULTS}") for line in _whole_lines(path)[0]]
    keyed = [(tuple(line["job"]), line) for line in found]
    return {key: line for key, line in keyed if known[key].is_done(line)}


def _describe(jobs: Sequence[Job], pythons: dict[str, str]) -> dict[str, Any]:
    """Returns what must be equal so that a session can go on with another one's results."""
    code = hashlib.sha256()
    for top in ("common", "models", "frameworks"):
        for path in sorted((lookup.ROOT / top).rglob("*.py")):
            code.update(path.read_bytes())
    return {
        "module": type(jobs[0]).__module__,
        "jobs": [dataclasses.asdict(job) for job in jobs],
        "pythons": pythons,
        "code_sha256": code.hexdigest(),
    }


def _read_request(work: Path) -> dict[str, Any] | None:
    """Returns what an unfinished session was to do; None: there is none."""
    path = work / _REQUEST
    return json.loads(path.read_text()) if path.exists() else None


def check_resumable(
    work: Path, jobs: Sequence[Job], *, pythons: dict[str, str], called: str
) -> None:
    """Checks that ``run_jobs`` can go on where an earlier session stopped.

    Args:
      work: folder of the earlier session's workers.
      jobs, pythons: as ``run_jobs`` will be given them.
      called: what users know the folder as.

    Raises:
      ConfigError: nothing was interrupted there, or it was something else, or by other code.
    """
    before, now = _read_request(work), _describe(jobs, pythons)
    if before is None:
        raise ConfigError(f"--resume: {called} holds nothing that was interrupted")
    if before["code_sha256"] != now["code_sha256"]:
        raise ConfigError(
            f"--resume: the code has changed since {called} was interrupted; start it again "
            "without --resume"
        )
    if before != now:
        raise ConfigError(f"--resume: {called} was interrupted with other flags than these")


def run_jobs(
    jobs: Sequence[Job],
    *,
    pythons: dict[str, str],
    work: Path,
    resume: bool,
    processes: int | None,
    watchdog_seconds: float,
    title: str,
    name: Callable[[Sequence[Any]], str],
) -> tuple[list[dict[str, Any]], int]:
    """Runs jobs in a process for each framework and number of devices, some at a time.

    Args:
      jobs: in an order in which none waits for one that comes after it.
      pythons: framework -> its interpreter.
      work: folder for logs and results; what is in it goes, unless ``resume``.
      resume: go on with what ``check_resumable`` has seen.
      processes: at work at the same time; None: one more than cores, as some wait for others.
      watchdog_seconds: longest time without a sign of life.
      title: of the progress bar.
      name: what a job's key is shown as.

    Returns:
      A line for each job, and how many of them an earlier session has made.
    """
    from isoscale.common.processes.progress import JobProgress  # rich, needed here only

    if not resume:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        write_json(work / _REQUEST, _describe(jobs, pythons))
    kept = _done(jobs, work)
    groups: dict[tuple[str, int], list[Job]] = {}
    for job in jobs:
        if job.key not in kept:
            job.clear()
            groups.setdefault((job.framework, job.devices), []).append(job)
    waiting = [
        _Worker(
            some,
            python=pythons[framework],
            work=work,
            watchdog_seconds=watchdog_seconds,
        )
        for (framework, _), some in groups.items()
    ]
    workers = list(waiting)
    running: list[_Worker] = []
    slots = processes or len(available_cores()) + 1

    def lines() -> list[dict[str, Any]]:
        return [*kept.values(), *(line for worker in workers for line in worker.lines)]

    try:
        with JobProgress(title, len(jobs), name=name, kept=len(kept)) as progress:
            while waiting or running:
                while waiting and len(running) < slots:
                    running.append(waiting.pop(0))
                    running[-1].start()
                running = [worker for worker in running if not worker.poll()]
                progress.show(lines(), [worker.doing for worker in running])
                time.sleep(launch.POLL_SECONDS)
    except KeyboardInterrupt:
        count = len(_done(jobs, work))
        print(
            f"isoscale: {count} of {len(jobs)} runs are kept in {work}; the same command with "
            "--resume goes on",
            file=sys.stderr,
        )
        raise
    finally:
        for worker in running:
            worker.end()
    return lines(), len(kept)


def finish(jobs: Sequence[Job], work: Path) -> None:
    """Called when all is written: if every job is done, only logs and results stay in ``work``."""
    if len(_done(jobs, work)) < len(jobs):
        return  # --resume tries again
    (work / _REQUEST).unlink()
    shutil.rmtree(work / LEAVES, ignore_errors=True)


def exit_code(comparisons: Sequence[dict[str, Any]], runs: Sequence[dict[str, Any]]) -> int:
    """Returns what comparisons and runs come to: 1 out of bounds, 3 a run failed, else 0."""
    if any(figure["first_outside"] for found in comparisons for figure in found["figures"]):
        return 1
    return 3 if any(run["error"] for run in runs) else 0


def serve(
    make_job: Callable[..., Job],
    run: Callable[[Any, Case, RunConfig, Heartbeat], tuple[Runner | None, dict[str, Any]]],
) -> None:
    """The main function of a worker's process: runs all jobs and leaves a line for each.

    Args:
      make_job: of the fields of a job.
      run: runs a job; returns its runner (None: it did not come to that, on any rank) and what its
        line says.
    """
    launch.die_with_launcher()
    folder = Path(sys.argv[1])
    jobs = [make_job(**job) for job in json.loads((folder / JOBS).read_text())]
    # Not pinned, unlike runs: nothing is timed, and the processes share the cores better so.
    first = jobs[0].config(jobs[0].of_case())
    os.environ.update(lookup.framework_environment(first.framework, first))
    quick = lookup.framework_info(first.framework).quick_compile
    if jobs[0].quick_compile and quick:
        variable, word = quick
        os.environ[variable] = f"{os.environ.get(variable, '')} {word}".strip()
    rank = ranks.own().rank
    beat = Heartbeat(path_for(folder, rank))
    for job in jobs:
        began = time.monotonic()
        case = job.of_case()
        runner, line = run(job, case, job.config(case), beat)
        if rank == 0:
            seconds = time.monotonic() - began
            with (folder / RESULTS).open("a", encoding="utf-8") as file:
                file.write(to_json({"job": list(job.key), **line, "seconds": seconds}) + "\n")
        if runner is not None:
            runner.barrier()
        del runner, line
        gc.collect()  # a runner holds itself through its compiled functions
    sys.stdout.flush()
    os._exit(0)  # see common/program/main.py: native threads may outlive us
