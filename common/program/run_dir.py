"""The folder of a run: what may stand in it before, and the files that the run writes."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.records import to_record
from isoscale.common.config.run_config import RunConfig
from isoscale.common.disk.folders import check_folder
from isoscale.common.disk.json_files import to_json, write_atomically, write_json
from isoscale.common.disk.writing import is_leftover
from isoscale.common.machine.own_version import own_version
from isoscale.common.measure.result import RESULT, read_record
from isoscale.common.measure.windows import Window
from isoscale.common.processes import heartbeat, ranks, turns
from isoscale.common.processes.log_lines import LOG


def check_run_dir(text: str | None, config: RunConfig) -> Path:
    """Returns the run directory; writes nothing.

    Raises:
      ConfigError: the folder contains files other than a log, or cannot be created. The result
        of an interrupted run of the same cell does not count: this run continues it.
    """
    if text is None:
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        return Path("runs/out/by_hand") / f"{config.cell().id}-{now}"
    path = check_folder(text, flag="--run_dir")
    continues = is_interrupted(path, config)
    if (path / RESULT).exists() and not continues:
        raise ConfigError(f"--run_dir={text} contains another run's result; choose a new folder")
    ours = (LOG, heartbeat.FILE_NAME, ranks.FOLDER, turns.PIPES, *([RESULT] if continues else []))
    foreign = [
        p.name for p in path.glob("*") if not p.name.startswith(ours) and not is_leftover(p.name)
    ]
    if foreign:
        raise ConfigError(f"--run_dir={text} is not empty ({foreign[0]}); choose a new folder")
    return path


def is_interrupted(run_dir: Path, config: RunConfig) -> bool:
    """Returns whether the folder has only the result of an interrupted run of the same cell."""
    record = read_record(run_dir) or {}
    cell = to_record(config.cell())
    return record.get("status") == "interrupted" and record.get("cell") == cell


def write_run_dir(
    run_dir: Path,
    config: RunConfig,
    *,
    machine: dict[str, Any],
    environment: dict[str, str],
    versions: dict[str, str],
    windows: list[Window],
) -> None:
    """Writes every file of a run except its result.

    Args:
      run_dir: the folder.
      config, machine, environment, versions, windows: contents of the files.

    Raises:
      FolderError: a file cannot be written.
    """
    write_json(run_dir / "config.json", config.to_json())
    write_json(run_dir / "machine.json", machine)
    write_json(run_dir / "environment.json", environment)
    write_json(run_dir / "versions.json", {"isoscale": own_version(), **versions})
    window_lines, step_lines = [], []
    for index, window in enumerate(windows):
        record = {"window": index, **vars(window)}
        losses = record.pop("losses")
        window_lines.append(to_json(record))
        for offset, loss in enumerate(losses):
            step = {"step": window.first_step + offset, "phase": window.phase, "window": index}
            step_lines.append(to_json({**step, **loss}))
    write_atomically(run_dir / "windows.jsonl", "\n".join(window_lines) + "\n")
    write_atomically(run_dir / "steps.jsonl", "\n".join(step_lines) + "\n")
