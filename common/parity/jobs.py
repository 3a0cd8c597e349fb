"""Jobs that train a case: their flags, their processes, and their configuration."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from isoscale.common.config.errors import ConfigError, require_choice
from isoscale.common.config.flags import Flags, define_flag
from isoscale.common.config.run_config import PLATFORMS, STOCK, TUNED, RunConfig
from isoscale.common.disk.folders import check_folder
from isoscale.common.measure.runner import Runner
from isoscale.common.parity.cases import Case, all_cases, make_config
from isoscale.common.processes import job_pool
from isoscale.common.processes.heartbeat import Heartbeat
from isoscale.common.processes.job_pool import WORK, Job, JobPool, L, Launch, Line
from isoscale.common.processes.lock import LOCK
from isoscale.common.registry import lookup
from isoscale.common.registry.interpreters import define_interpreter_flags
from isoscale.common.tuning.tweaks import read_wish

COMPILE_SECONDS = 60.0
"""How long a step may be silent beyond the watchdog's patience: the first one compiles."""


def define_job_flags(fv: Flags, *, out_dir: str, holds: str) -> None:
    """Defines the flags that say how jobs run; ``read_job_flags`` reads them.

    Args:
      fv: takes the flags.
      out_dir: default folder.
      holds: names the files that are written there.
    """
    define_flag(fv, "tuning")
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobFlags:
    """How the jobs of a command run, validated.

    Attributes:
      tuning, tweaks, platform, quick_compile: of every job.
      folder: where results go.
      called: names the folder in messages.
      resume: go on with an interrupted session.
      watchdog_seconds: longest time without a sign of life.
    """

    tuning: str
    tweaks: list[str]
    platform: str
    quick_compile: bool
    folder: Path
    called: str
    resume: bool
    watchdog_seconds: int

    @property
    def work(self) -> Path:
        """The folder of the workers."""
        return self.folder.resolve() / WORK


def read_job_flags(fv: Flags, kind: type[Job], *, result: str) -> JobFlags:
    """Returns the flags that ``define_job_flags`` defined.

    Args:
      fv: has been parsed.
      kind: class of the jobs.
      result: file that marks a folder as one of this command.

    Raises:
      ConfigError: a flag has a value that it cannot have, or ``--out_dir`` holds other files.
    """
    require_choice("platform", fv.platform, PLATFORMS)
    require_choice("tuning", fv.tuning, (STOCK, TUNED))
    read_wish(fv.tweaks, lookup.tweak_names())
    folder = check_folder(fv.out_dir, flag="--out_dir")
    there = {path.name for path in folder.glob("*")} - {LOCK}
    ours = result in there or job_pool.module_at_work(folder / WORK) == kind.__module__
    if there and not ours:  # a run replaces the files of its folder
        raise ConfigError(
            f"--out_dir={fv.out_dir} holds '{min(there)}', and no {result}; choose another folder"
        )
    return JobFlags(
        tuning=fv.tuning,
        tweaks=fv.tweaks,
        platform=fv.platform,
        quick_compile=fv.quick_compile,
        folder=folder,
        called=f"--out_dir={fv.out_dir}",
        resume=fv.resume,
        watchdog_seconds=fv.watchdog_seconds,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingJob(Job[L]):
    """One training of a case.

    Attributes:
      case, framework, strategy, devices, dtype, tuning, tweaks, platform: what runs.
      global_batch_size: the case's, or more where the devices want it.
      steps: how many; None: as many as the case has.
      quick_compile: whether XLA may leave the machine code unoptimised, to compile sooner.
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
    def group(self) -> str:
        return f"{self.framework}-{self.devices}"

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


def make_pool(
    jobs: Sequence[TrainingJob[L]],
    line: type[L],
    *,
    flags: JobFlags,
    pythons: Mapping[str, str],
) -> JobPool[L]:
    """Returns the pool that runs jobs.

    Args:
      jobs: in an order in which no job waits for a later one.
      line: class of their results.
      flags: of the command.
      pythons: framework -> its interpreter.

    Raises:
      ConfigError: ``--resume`` is given, and there is no session to go on with.
    """

    def launch_of(some: Sequence[TrainingJob[L]]) -> Launch:
        first, environment = some[0], dict[str, str]()
        for job in some:
            environment |= lookup.tweak_environment(job.config(job.of_case()))
        models = {lookup.strategy_info(j.framework, j.strategy).process_model for j in some}
        return Launch(
            python=pythons[first.framework],
            environment=environment,
            ranks=first.devices if "per_device" in models else None,
        )

    pool = JobPool(
        jobs,
        line,
        work=flags.work,
        launch_of=launch_of,
        pythons=pythons,
        code_sha256=_code_sha256() if jobs else "",
    )
    if flags.resume:
        pool.check_resumable(called=flags.called)
    return pool


def _code_sha256() -> str:
    """Returns a digest of all code that a job can run."""
    code = hashlib.sha256()
    for top in ("common", "models", "frameworks"):
        for path in sorted((lookup.ROOT / top).rglob("*.py")):
            code.update(path.read_bytes())
    return code.hexdigest()


J = TypeVar("J", bound=TrainingJob)


def serve(
    kind: type[J],
    run: Callable[[J, Case, RunConfig, Heartbeat], tuple[Runner | None, Line]],
) -> None:
    """The main function of a worker's process.

    Args:
      kind: class of the jobs.
      run: runs a job; returns its runner, and its results. A job that ends before it has built its
        runner returns None for it, on every rank.
    """

    def run_job(job: J, beat: Heartbeat, report: Callable[[Line], None]) -> None:
        case = job.of_case()
        runner, line = run(job, case, job.config(case), beat)
        report(line)
        if runner is not None:
            runner.barrier()

    job_pool.serve(kind, run_job, prepare=_set_environment)


def _set_environment(jobs: Sequence[TrainingJob]) -> None:
    """Sets the variables that the framework of the jobs reads when it is imported.

    Unlike runs, the process is not pinned to cores: nothing is timed, and unpinned processes share
    the cores better.
    """
    job = jobs[0]
    config = job.config(job.of_case())
    os.environ.update(lookup.framework_environment(config.framework, config))
    quick = lookup.framework_info(config.framework).quick_compile
    if job.quick_compile and quick:
        variable, word = quick
        os.environ[variable] = f"{os.environ.get(variable, '')} {word}".strip()
