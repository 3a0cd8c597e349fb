"""Runs legs of relays in one framework; ``isoscale relay`` starts it.

    python -m isoscale.common.parity.relay_probe FOLDER

A leg resumes from the checkpoint of the previous leg, which another process may write. At its end
it writes a checkpoint.
"""

import dataclasses
import time
from pathlib import Path

from isoscale.common.checkpoint import files
from isoscale.common.checkpoint.files import State
from isoscale.common.checkpoint.manifest import check_agrees, describe_training, identify
from isoscale.common.checkpoint.saver import Saver, restore
from isoscale.common.config.run_config import RunConfig
from isoscale.common.measure.runner import Runner
from isoscale.common.parity.cases import Case
from isoscale.common.parity.documents import RelayLine
from isoscale.common.parity.jobs import TrainingJob, serve
from isoscale.common.processes.heartbeat import Heartbeat
from isoscale.common.processes.job_pool import FAILED
from isoscale.common.registry import lookup

_POLL_SECONDS = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelayJob(TrainingJob[RelayLine]):
    """One leg, or an unbroken run.

    Attributes:
      name: identifies its line of results, together with the case.
      source: folder of the checkpoint to resume from; None: the leg begins the training.
      first_step, last_step: the leg trains the steps from ``first_step`` to ``last_step - 1``.
      target: folder for the checkpoint that the leg writes at its end.
    """

    name: str
    source: str | None
    first_step: int
    last_step: int
    target: str

    @property
    def key(self) -> tuple[str, str]:
        return (self.case, self.name)

    @property
    def output(self) -> Path:
        return Path(self.target)

    def has_output(self) -> bool:
        return [step for step, _ in files.checkpoints_in(self.output)] == [self.last_step]


def _wait_for(folder: Path, beat: Heartbeat, what: str) -> Path | None:
    """Waits for the previous leg; returns its checkpoint, or None if that leg failed."""
    while not (found := files.newest_in(folder)):
        if (folder / FAILED).exists():
            return None
        beat.beat(f"{what}: waiting for the previous leg")
        time.sleep(_POLL_SECONDS)
    return found[1]


def run(
    job: RelayJob, case: Case, config: RunConfig, beat: Heartbeat
) -> tuple[Runner | None, RelayLine]:
    """Runs a leg; returns its runner and its results."""
    what = f"{case.name} {job.framework}:{job.strategy}:{job.devices}"
    source = _wait_for(Path(job.source), beat, what) if job.source else None
    if job.source and source is None:
        job.note_failure()
        return None, RelayLine(job=job.key, error="the previous leg failed")
    beat.beat(f"building {what}", compiles=True)
    runner: Runner = lookup.load_runner(config)()
    batches = case.batches(config.parameter_dtype)
    training = describe_training(config, family=lookup.family_of(case.spec))
    if source:
        manifest = files.read_manifest(source)
        called = f"checkpoint '{source}'"
        check_agrees(manifest, training, case.spec, batches=lambda: batches, called=called)
        restore(runner, files.read_state(source, manifest), step=manifest.step)
    else:
        dtype = config.parameter_dtype
        runner.set_parameters({name: v.astype(dtype) for name, v in case.initial().items()})
    metrics: list[dict[str, float]] = []
    for step in range(job.first_step, job.last_step):
        beat.beat(f"step {step} of {what}", compiles=step == job.first_step)
        handle = runner.step(runner.place(batches[step % len(batches)]))
        runner.wait()
        metrics += runner.metrics([handle])
    job.output.mkdir(parents=True, exist_ok=True)
    written_by = {"framework": job.framework, "strategy": job.strategy, "devices": job.devices}
    saver = Saver(
        job.output,
        every=None,
        last_step=job.last_step,
        about={**training, **identify(batches), "written_by": written_by},
    )
    saver.save(runner, job.last_step)
    if saver.failures:  # only on the rank that writes; that rank also reports the results
        job.note_failure()
    error = saver.failures[0] if saver.failures else None
    return runner, RelayLine(job=job.key, error=error, metrics=tuple(metrics))


def read_end(job: RelayJob) -> State:
    """Returns the parameters and optimizer state that a job saved at its end.

    Raises:
      ConfigError: the checkpoint is damaged.
    """
    path = files.find(job.target)
    assert path is not None  # None is possible only for 'latest'
    return files.read_state(path, files.read_manifest(path))


if __name__ == "__main__":
    serve(RelayJob, run)
