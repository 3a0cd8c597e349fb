"""What is written about a run beside its figures: its identity, or why it has none."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from isoscale.common.config.run_config import RunConfig
from isoscale.common.disk.json_files import write_json
from isoscale.common.machine.own_version import own_version
from isoscale.common.machine.private import Private
from isoscale.common.measure.result import RESULT, RunIdentity, RunOutcome, Status
from isoscale.common.program.startup import process_age
from isoscale.common.registry import environments, extra, lookup


def write_failure(
    config: RunConfig, run_dir: Path, error: str, *, status: Status = "failed"
) -> None:
    """Writes the result of a run that has no figures.

    Raises:
      FolderError, OSError: it cannot be written.
    """
    outcome = RunOutcome(status=status, error=private(run_dir).clean(error))
    result = lookup.scenario(config.scenario).assemble(identity(config, run_dir), outcome)
    write_json(run_dir / RESULT, result.to_record())


def private(run_dir: Path) -> Private:
    """Returns what removes paths outside the run folder, and secrets, from the texts of a run."""
    folders = {
        str(lookup.ROOT): "isoscale",
        sys.prefix: "python",
        str(run_dir): run_dir.name,
        str(run_dir.absolute()): run_dir.name,
        **extra.private_folder(),
    }
    return Private(folders, environments.private_variables())


def identity(config: RunConfig, run_dir: Path) -> RunIdentity:
    """Returns the fields of a result that are known before the run."""
    started = datetime.now(UTC) - timedelta(seconds=process_age())
    batch = config.examples_per_step
    return RunIdentity(
        started=started.isoformat(timespec="milliseconds"),
        cell=config.cell(),
        seed=config.seed,
        parameters=config.spec.parameter_count,
        flops_per_step=config.spec.training_flops(global_batch_size=batch),
        run_dir=run_dir.name,  # without its place: a study is often published
        isoscale=own_version(),
    )


def lost_all_checkpoints(result: dict[str, Any] | None) -> bool:
    """Returns whether a run tried to save checkpoints and saved none."""
    found = (result or {}).get("checkpoints") or {}
    return bool(found.get("failures")) and not found.get("saved_steps")
