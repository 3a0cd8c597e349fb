"""The flags of checkpoints: what a run goes on from, and what it leaves."""

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
from isoscale.common.config.run_config import RunConfig
from isoscale.common.disk.folders import check_folder
from isoscale.common.measure.result import ResumedFrom
from isoscale.common.measure.runner import Runner
from isoscale.common.registry import lookup


def define_checkpoint_flags(fv: Flags) -> None:
    fv.text(
        "save_checkpoint",
        None,
        f"folder for checkpoints: one at the end, and with --save_every between; the last "
        f"{files.KEPT} are kept",
    )
    fv.integer("save_every", None, "steps between checkpoints (windows end where one is due)")
    fv.text(
        "resume_from",
        None,
        "checkpoint to go on from, of any framework, strategy and number of devices; or a folder "
        f"of some; {files.LATEST}: the newest of --save_checkpoint, step 0 if there is none yet",
    )


@dataclasses.dataclass(kw_only=True)
class Checkpoints:
    """What a run was told about checkpoints, validated.

    Attributes:
      folder: takes new ones; None: none are saved.
      every: steps between them; None: at the end only.
      source: the one to go on from; None: the run starts at step 0.
      manifest, state: its content; ``restore`` lets go of the state.
      complete: it has done all steps already.
      newest: (step, path) of the last one that the folder holds; None: it holds none.
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
        """Reads the flags, and the checkpoint to go on from; nothing is written.

        Raises:
          ConfigError: there is no such checkpoint, it does not fit or is damaged, or the folder
            holds what this run would mix up with its own.
        """
        folder = None
        if fv.save_checkpoint is not None:
            folder = check_folder(fv.save_checkpoint, flag="--save_checkpoint")
        elif fv.save_every is not None:
            raise ConfigError(
                f"--save_every={fv.save_every} needs --save_checkpoint=FOLDER for its checkpoints"
            )
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
            # A supervisor that gives the same command again and again must come to an end.
            complete = fv.resume_from == files.LATEST and manifest.step == config.total_steps
            if manifest.step >= config.total_steps and not complete:
                raise ConfigError(
                    f"{called} has done {manifest.step} steps, and the run ends after "
                    f"{config.total_steps} (compiling, warm-up and latency included): nothing is "
                    f"left; --steps={config.steps + manifest.step - config.total_steps + 1} or "
                    "more would go on"
                )
            state = files.read_state(source, manifest)
        newest = files.newest_in(folder) if folder else None
        if newest and manifest is None:
            raise ConfigError(
                f"--save_checkpoint={folder} holds '{newest[1].name}' already: go on from it with "
                f"--resume_from={files.LATEST}, or choose a new folder"
            )
        if newest and manifest and newest[0] > manifest.step:
            raise ConfigError(
                f"--save_checkpoint={folder} holds '{newest[1].name}', which is after step "
                f"{manifest.step} that this run goes on from: choose a new folder"
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
        """Raises ConfigError where a run's folder would hold its checkpoints: it must be empty."""
        if self.folder and self.folder.resolve().is_relative_to(run_dir.resolve()):
            raise ConfigError(
                f"--save_checkpoint={self.folder} lies in --run_dir={run_dir}, which is new for "
                "each run; checkpoints need a folder that stays"
            )

    def check_unchanged(self) -> None:
        """Raises ConfigError if another run has saved since this one looked; now it cannot."""
        assert self.folder is not None
        if files.newest_in(self.folder) != self.newest:
            raise ConfigError(f"--save_checkpoint={self.folder}: another run has just saved there")

    @property
    def first_step(self) -> int:
        return self.manifest.step if self.manifest else 0

    def restore(self, runner: Runner) -> None:
        """Puts a runner where the checkpoint was, once; does nothing where there is none.

        Raises:
          RuntimeError: the ranks found different checkpoints.
        """
        steps = runner.gather(self.first_step)
        if len(set(steps)) > 1:
            raise RuntimeError(f"the ranks go on from different checkpoints: steps {steps}")
        if self.manifest is None or self.state is None:
            return
        restore(runner, self.state, step=self.manifest.step)
        self.state = None  # it is not of the run's memory

    def saver(
        self, config: RunConfig, *, batches: Sequence[Arrays], versions: dict[str, str]
    ) -> Saver | None:
        """Returns what saves this run's checkpoints; None: nothing does."""
        if self.folder is None:
            return None
        written_by = {
            "framework": config.framework,
            "strategy": config.strategy,
            "devices": config.devices,
            "versions": versions,
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
        """Returns how to go on after an interruption; nothing where there is no checkpoint."""
        newest = files.newest_in(self.folder) if self.folder else None
        return f"; go on from step {newest[0]} with --resume_from={files.LATEST}" if newest else ""

    def facts(self) -> ResumedFrom | None:
        """Returns what a result says of the checkpoint that its run went on from."""
        if self.manifest is None:
            return None
        return ResumedFrom(
            path=str(self.source),
            step=self.manifest.step,
            written_by=self.manifest.written_by,
        )
