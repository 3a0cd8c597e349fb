"""The checkpoint flags: where a run resumes, and where it saves its checkpoints."""

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from isoscale.common.checkpoint import files
from isoscale.common.checkpoint.files import State
from isoscale.common.checkpoint.manifest import Manifest, check_agrees, describe_training, identify
from isoscale.common.checkpoint.saver import Saver, restore
from isoscale.common.config.errors import ConfigError
from isoscale.common.config.flags import Flags
from isoscale.common.config.model_spec import Arrays
from isoscale.common.config.run_config import MOST_STEPS, RunConfig
from isoscale.common.disk.folders import check_folder
from isoscale.common.machine.own_version import own_version
from isoscale.common.measure.result import ResumedFrom
from isoscale.common.measure.runner import Runner
from isoscale.common.registry import lookup


def define_checkpoint_flags(fv: Flags) -> None:
    fv.text(
        "save_checkpoint",
        None,
        f"folder for checkpoints: saves one at the end, and more with --save_every; keeps the "
        f"last {files.KEPT}",
    )
    fv.integer(
        "save_every",
        None,
        "steps between checkpoints; a window ends at each checkpoint",
        maximum=MOST_STEPS,
    )
    fv.text(
        "resume_from",
        None,
        "checkpoint to resume from, saved by any framework, strategy and number of devices; or a "
        f"folder of checkpoints (takes the newest); {files.LATEST}: the newest in "
        "--save_checkpoint, or step 0 if that folder has no checkpoint yet",
    )


@dataclasses.dataclass(kw_only=True)
class Checkpoints:
    """The validated checkpoint flags of a run, with the checkpoint that the run resumes.

    Attributes:
      folder: the run saves its checkpoints here; None: the run saves none.
      every: steps between checkpoints; None: the run saves one at its end.
      source: path of the checkpoint to resume from; None: the run starts at step 0.
      manifest, state: content of ``source``; ``restore`` sets ``state`` to None.
      complete: ``source`` already contains all steps of the run.
      newest: (step, path) of the newest checkpoint in ``folder``; None: the folder has none.
    """

    folder: Path | None
    every: int | None
    source: Path | None
    manifest: Manifest | None
    state: State | None
    complete: bool
    newest: tuple[int, Path] | None

    @classmethod
    def read(cls, fv: Flags, config: RunConfig) -> Self:
        """Returns the validated flags and reads the checkpoint to resume from; writes nothing.

        Raises:
          ConfigError: the checkpoint does not exist, does not fit the run or is damaged; or
            ``folder`` already has checkpoints that this run does not continue.
        """
        folder = None
        for name in ("save_checkpoint", "resume_from"):
            if config.independent and getattr(fv, name) is not None:
                raise ConfigError(
                    f"--{name}={getattr(fv, name)} with --independent={config.independent}: the "
                    "copies of an independent run differ, and none is a training to continue"
                )
        if fv.save_checkpoint is not None:
            folder = check_folder(fv.save_checkpoint, flag="--save_checkpoint")
        elif fv.save_every is not None:
            raise ConfigError(f"--save_every={fv.save_every} needs --save_checkpoint=FOLDER")
        source = manifest = state = None
        complete = False
        if fv.resume_from is not None:
            source = files.find(fv.resume_from, folder=folder)
        if source is not None:
            called = f"checkpoint '{source}'"
            manifest = files.read_manifest(source)
            check_agrees(
                manifest,
                describe_training(config, family=lookup.family_of(config.spec)),
                config.spec,
                batches=lambda: lookup.load_dataset(config).batches,
                called=called,
            )
            # A supervisor may repeat the same command: after the last step it must succeed.
            complete = fv.resume_from == files.LATEST and manifest.step == config.total_steps
            if manifest.step >= config.total_steps and not complete:
                raise ConfigError(
                    f"{called} is at step {manifest.step}, but the run ends at step "
                    f"{config.total_steps} (compile, warm-up and latency steps included); use "
                    f"--steps={config.steps + manifest.step - config.total_steps + 1} or more"
                )
            state = files.read_state(source, manifest)
        newest = files.newest_in(folder) if folder else None
        if newest and manifest is None:
            raise ConfigError(
                f"--save_checkpoint={folder} already contains '{newest[1].name}': resume "
                f"from it with --resume_from={files.LATEST}, or choose a new folder"
            )
        if newest and manifest and newest[0] > manifest.step:
            raise ConfigError(
                f"--save_checkpoint={folder} contains '{newest[1].name}', which is later than step "
                f"{manifest.step}, where this run resumes: choose a new folder"
            )
        return cls(
            folder=folder,
            every=fv.save_every,
            source=source,
            manifest=manifest,
            state=state,
            complete=complete,
            newest=newest,
        )

    def check_apart(self, run_dir: Path) -> None:
        """Raises ConfigError if ``folder`` lies in the run directory, which must start empty."""
        if self.folder and self.folder.resolve().is_relative_to(run_dir.resolve()):
            raise ConfigError(
                f"--save_checkpoint={self.folder} lies in --run_dir={run_dir}, which is new for "
                "each run; choose a folder outside of it"
            )

    def check_unchanged(self) -> None:
        """Raises ConfigError if another run has saved in ``folder`` since ``read``.

        Call it while holding the lock of ``folder``: then no other run can save there.
        """
        assert self.folder is not None
        if files.newest_in(self.folder) != self.newest:
            raise ConfigError(
                f"--save_checkpoint={self.folder}: another run has just saved a checkpoint "
                "there; wait for that run, or choose a new folder"
            )

    @property
    def first_step(self) -> int:
        """Number of the first step that the run trains."""
        return self.manifest.step if self.manifest else 0

    def restore(self, runner: Runner) -> None:
        """Loads the checkpoint into a runner and frees the state; does nothing without one.

        Raises:
          RuntimeError: the ranks resume from different checkpoints.
        """
        steps = runner.gather(self.first_step)
        if len(set(steps)) > 1:
            raise RuntimeError(f"the ranks resume from different checkpoints: steps {steps}")
        if self.manifest is None or self.state is None:
            return
        restore(runner, self.state, step=self.manifest.step)
        self.state = None  # otherwise it would count in the run's peak memory

    def saver(
        self, config: RunConfig, *, batches: Sequence[Arrays], versions: dict[str, str]
    ) -> Saver | None:
        """Returns the saver of this run's checkpoints; None: the run saves none."""
        if self.folder is None:
            return None
        written_by = {
            "framework": config.framework,
            "strategy": config.strategy,
            "devices": config.devices,
            "versions": {"isoscale": own_version(), **versions},
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return Saver(
            self.folder,
            every=self.every,
            last_step=config.total_steps,
            about={
                **describe_training(config, family=lookup.family_of(config.spec)),
                **identify(batches),
                "written_by": written_by,
            },
        )

    def hint(self) -> str:
        """Returns how to resume after an interruption; an empty text without a checkpoint."""
        newest = files.newest_in(self.folder) if self.folder else None
        return f"; resume at step {newest[0]} with --resume_from={files.LATEST}" if newest else ""

    def facts(self) -> ResumedFrom | None:
        """Returns the result's facts about the checkpoint the run resumed; None without one."""
        if self.manifest is None or self.source is None:
            return None
        return ResumedFrom(
            path=self.source.resolve().name,  # without its place: results are often published
            step=self.manifest.step,
            written_by=self.manifest.written_by,
        )
