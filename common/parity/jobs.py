"""Jobs that train a case: their flags, processes and configuration."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from isoscale.common.config.errors import ConfigError, require_choice
from isoscale.common.config.flags import Flags
from isoscale.common.config.framework_info import ProcessModel
from isoscale.common.config.run_config import PLATFORMS, STOCK, TUNED, RunConfig
from isoscale.common.config.setting_flags import define_flag
from isoscale.common.disk.folders import check_folder
from isoscale.common.disk.writing import is_leftover
from isoscale.common.machine.variables import parse_handed
from isoscale.common.measure.runner import Runner
from isoscale.common.parity.cases import Case, all_cases, make_config
from isoscale.common.processes import job_pool
from isoscale.common.processes.heartbeat import Heartbeat
from isoscale.common.processes.job_line import Line
from isoscale.common.processes.job_pool import WORK, Job, JobPool, L, Launch
from isoscale.common.processes.limits import Limits, define_limit_flags
from isoscale.common.processes.lock import LOCK
from isoscale.common.registry import environments, extra, lookup
from isoscale.common.registry.interpreters import define_interpreter_flags, package_versions
from isoscale.common.tuning.tweaks import read_wish

MOST_STEPS = 100_000
"""Most steps of a job: it keeps every step in memory, for the comparison."""


def define_job_flags(fv: Flags, *, out_dir: str, holds: str) -> None:
    """Defines the flags of jobs; ``read_job_flags`` reads them.

    Args:
      fv: takes the flags.
      out_dir: default folder.
      holds: names of the files that the command writes there, for the help text.
    """
    define_flag(fv, "tuning")
    fv.names("tweaks", [], "[list] +name adds a tweak to --tuning, -name removes one")
    fv.boolean(
        "quick_compile",
        True,
        "XLA compiles the same program without optimising the machine code, to save time; "
        "--noquick_compile: compile as isoscale compare does",
    )
    fv.text("platform", "cpu", "|".join(PLATFORMS))
    define_flag(fv, "env")
    fv.text("out_dir", out_dir, f"folder for {holds}")
    fv.boolean("resume", False, "continue an interrupted session; repeat failed runs")
    define_limit_flags(fv)
    define_interpreter_flags(fv)
    extra.define_extra_flag(fv)


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobFlags:
    """The validated flags of a command's jobs.

    Attributes:
      tuning, tweaks, platform, env, quick_compile: settings of every job.
      folder: folder for the results.
      called: name of the folder in messages.
      resume: whether to continue an interrupted session.
      limits: longest times without a heartbeat.
    """

    tuning: str
    tweaks: list[str]
    platform: str
    env: list[str]
    quick_compile: bool
    folder: Path
    called: str
    resume: bool
    limits: Limits

    @property
    def work(self) -> Path:
        """Returns the folder of the workers."""
        return self.folder.resolve() / WORK


def read_job_flags(fv: Flags, kind: type[Job], *, result: str) -> JobFlags:
    """Returns the flags that ``define_job_flags`` defined.

    Args:
      fv: the parsed flags.
      kind: class of the jobs.
      result: name of the command's result file; a folder with this file may be overwritten.

    Raises:
      ConfigError: the value of a flag is invalid, or ``--out_dir`` holds other files.
    """
    require_choice("platform", fv.platform, PLATFORMS)
    require_choice("tuning", fv.tuning, (STOCK, TUNED))
    read_wish(fv.tweaks, lookup.tweak_names())
    parse_handed(fv.env, families=environments.families())
    folder = check_folder(fv.out_dir, flag="--out_dir")
    names = {path.name for path in folder.glob("*")} - {LOCK}
    there = {name for name in names if not is_leftover(name)}
    # A session that ended before it wrote its request, on a full disk for example.
    if all(is_leftover(path.name) for path in (folder / WORK).glob("*")):
        there.discard(WORK)
    ours = result in there or job_pool.module_at_work(folder / WORK) == kind.__module__
    if there and not ours:  # the command would replace these files
        raise ConfigError(
            f"--out_dir={fv.out_dir} holds '{min(there)}' but no {result}; choose an empty folder"
        )
    return JobFlags(
        tuning=fv.tuning,
        tweaks=fv.tweaks,
        platform=fv.platform,
        env=sorted(fv.env),
        quick_compile=fv.quick_compile,
        folder=folder,
        called=f"--out_dir={fv.out_dir}",
        resume=fv.resume,
        limits=Limits.read(fv),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingJob(Job[L]):
    """One training of a case.

    Attributes:
      case, framework, strategy, devices, dtype, tuning, tweaks, platform, env: the configuration.
      global_batch_size: examples per step: the case's number, rounded up to fit the devices.
      steps: number of steps; None: the case's own number.
      quick_compile: whether XLA skips optimisation of the machine code, to compile faster.
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
    env: list[str]
    quick_compile: bool

    @property
    def group(self) -> str:
        # A process either is a rank or is not: jobs of both process models cannot share one.
        return f"{self.framework}-{self.devices}-{self.process_model}"

    @property
    def process_model(self) -> ProcessModel:
        """Returns how the job's strategy uses processes."""
        return lookup.strategy_info(self.framework, self.strategy).process_model

    def of_case(self) -> Case:
        """Returns the case with the job's batch size."""
        case = all_cases()[self.case]
        return dataclasses.replace(case, global_batch_size=self.global_batch_size)

    def config(self, case: Case) -> RunConfig:
        """Returns the configuration of the job; raises ConfigError if it is invalid."""
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
            env=self.env,
        )


def largest_configs(jobs: Sequence[TrainingJob]) -> list[RunConfig]:
    """Returns each framework's configuration of the job with the most devices."""
    largest: dict[str, TrainingJob] = {}
    for job in sorted(jobs, key=lambda job: job.devices):
        largest[job.framework] = job
    return [job.config(job.of_case()) for job in largest.values()]


def make_pool(
    jobs: Sequence[TrainingJob[L]],
    line: type[L],
    *,
    flags: JobFlags,
    pythons: Mapping[str, str],
) -> JobPool[L]:
    """Returns the pool that runs jobs.

    Args:
      jobs: all jobs, in the order that ``JobPool`` describes.
      line: class of their results.
      flags: flags of the command.
      pythons: framework -> path of its interpreter.

    Raises:
      ConfigError: ``--resume`` is given, but the folder holds no session that can continue.
    """

    def launch_of(some: Sequence[TrainingJob[L]]) -> Launch:
        first, environment = some[0], dict[str, str]()
        for job in some:
            environment |= environments.of_run(job.config(job.of_case()))
        return Launch(
            python=pythons[first.framework],
            environment=environment,
            ranks=first.devices if first.process_model == "per_device" else None,
        )

    pool = JobPool(
        jobs,
        line,
        work=flags.work,
        launch_of=launch_of,
        pythons=pythons,
        code=_code(pythons) if jobs else {},
    )
    if flags.resume:
        pool.check_resumable(called=flags.called)
    return pool


def _code(pythons: Mapping[str, str]) -> dict[str, str]:
    """Returns part -> digest or version, of all code that a job can run.

    Args:
      pythons: framework -> path of its interpreter.
    """
    own = hashlib.sha256()
    for top in ("common", "models", "frameworks"):
        for path in sorted((lookup.ROOT / top).rglob("*.py")):
            own.update(path.read_bytes())
    found = {"isoscale": own.hexdigest(), f"--{extra.FLAG}": extra.digest()}
    for framework, python in pythons.items():
        found |= package_versions(framework, python)
    return found


J = TypeVar("J", bound=TrainingJob)


def serve(
    kind: type[J],
    run: Callable[[J, Case, RunConfig, Heartbeat], tuple[Runner | None, Line]],
) -> None:
    """Runs all jobs of a worker; the main function of its process.

    Args:
      kind: class of the jobs.
      run: runs a job; returns its runner and its results. If a job ends before it builds a runner,
        ``run`` returns None as the runner, on every rank.
    """

    def run_job(job: J, beat: Heartbeat, report: Callable[[Line], None]) -> None:
        case = job.of_case()
        runner, line = run(job, case, job.config(case), beat)
        report(line)
        if runner is not None:
            runner.barrier()

    job_pool.serve(kind, run_job, prepare=_set_environment)


def _set_environment(jobs: Sequence[TrainingJob]) -> None:
    """Sets the environment variables that the jobs' framework reads on import.

    Runs pin their process to cores; jobs do not. No job is timed, and processes that are not pinned
    share the cores better.
    """
    job = jobs[0]
    config = job.config(job.of_case())
    os.environ.update(lookup.framework_environment(config.framework, config))
    quick = lookup.framework_info(config.framework).quick_compile
    if job.quick_compile and quick:
        variable, word = quick
        os.environ[variable] = f"{os.environ.get(variable, '')} {word}".strip()
