"""A study on disk: its settings, its runs, and one line per run in ``results.jsonl``.

The run directories are the truth; ``results.jsonl`` is the index made from them.
"""

import json
from pathlib import Path
from typing import Any

from isoscale.common.analysis.scaling import cell_key
from isoscale.common.config.errors import ConfigError
from isoscale.common.disk.json_files import from_json, to_json, write_atomically, write_json
from isoscale.common.processes.lock import LOCK

RESULTS = "results.jsonl"
SETTINGS = "study.json"


STATUSES = ("ok", "diverged", "failed", "skipped")
_CELL = {
    "model": str,
    "overrides": dict,
    "framework": str,
    "strategy": str,
    "devices": int,
    "processes": int,
    "global_batch_size": int,
    "dtype": str,
    "compile_mode": str,
    "oversubscribed": bool,
}


_FIGURES = (
    "items_per_second",
    "tokens_per_second",
    "compile_seconds",
    "loss_first",
    "loss_last",
    "peak_memory_bytes",
    "outside_load_share",
    "wall_seconds",
    "clock_reading_seconds",
)
_SUMMARIES = ("step_seconds", "latency_seconds", "eval")


def _checked(line: dict[str, Any], number: int) -> dict[str, Any]:
    """Returns a line that every view can be made from; what may be missing is filled in.

    Args:
      line: of ``results.jsonl``.
      number: of the line; stands for an order that was not recorded.

    Raises:
      ValueError, KeyError, TypeError: it is not one of ours.
    """
    for name, kind in _CELL.items():
        if not isinstance(line["cell"][name], kind):
            raise ValueError(f"{name} of its cell is {line['cell'][name]!r}")
    if line["cell"]["devices"] < 1 or line["cell"]["global_batch_size"] < 1:
        raise ValueError("a cell without devices or examples")
    if not isinstance(line["run"], int) or line["status"] not in STATUSES:
        raise ValueError(f"run {line['run']!r} with status {line['status']!r}")
    for name in _FIGURES:
        if not isinstance(line.get(name), int | float | None):
            raise ValueError(f"{name} is {line[name]!r}")
    for name in _SUMMARIES:
        values = line.get(name) or {}
        if not all(isinstance(value, int | float | None) for value in values.values()):
            raise ValueError(f"{name} is {line[name]!r}")
    latency = (line.get("latency_seconds") or {}).get("median")
    if line["status"] == "ok" and not (
        line["items_per_second"] > 0
        and line["step_seconds"]["median"] > 0
        and (latency is None or latency > 0)
    ):
        raise ValueError("a successful run without a speed")
    order = line.get("sequence")
    return {**line, "sequence": order if isinstance(order, int) else number}


class Store:
    """Reads and writes one study's folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._lines: dict[tuple[str, int], dict[str, Any]] = {}
        self._texts: dict[tuple[str, int], str] = {}

    def load(self) -> None:
        """Reads the lines that are there.

        Raises:
          ConfigError: the file is not one that we wrote.
        """
        path = self.folder / RESULTS
        if not path.exists():
            return
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                line = _checked(from_json(text), number)
                self._keep(line, text)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ConfigError(f"{path}:{number} is not a result line ({error})") from None

    def lines(self) -> list[dict[str, Any]]:
        return list(self._lines.values())

    def is_ok(self, cell: dict[str, Any], run: int) -> bool:
        return self._lines.get((cell_key(cell), run), {}).get("status") == "ok"

    @property
    def exists(self) -> bool:
        """Whether there is anything of a study; a folder that holds nothing yet is none."""
        return any(path.name != LOCK for path in self.folder.glob("*"))

    def rounds(self, cell: dict[str, Any]) -> int:
        """Returns how many rounds the cell has been part of."""
        key = cell_key(cell)
        return max((run + 1 for other, run in self._lines if other == key), default=0)

    def durations(self, cells: list[dict[str, Any]]) -> list[float]:
        """Returns how long the runs of some cells took, from start to end, in seconds."""
        keys = {cell_key(cell) for cell in cells}
        lines = (line for (key, _), line in self._lines.items() if key in keys)
        return [line["wall_seconds"] for line in lines if line.get("wall_seconds")]

    def next_sequence(self) -> int:
        """Returns the number of the next run in the order of execution, retries included."""
        return 1 + max((line.get("sequence", -1) for line in self._lines.values()), default=-1)

    def add(self, line: dict[str, Any]) -> None:
        """Adds a run's line, or replaces the line of an earlier attempt.

        The whole file is replaced, atomically: a crash at any moment leaves whole lines only.
        """
        text = to_json(line)
        self._keep(json.loads(text), text)
        write_atomically(self.folder / RESULTS, "".join(self._texts.values()))

    def _keep(self, line: dict[str, Any], text: str) -> None:
        key = cell_key(line["cell"]), line["run"]
        self._lines[key] = line
        self._texts[key] = text + "\n"  # made once, however often the file is written

    def settings(self) -> dict[str, Any]:
        """Raises ConfigError if the folder holds no study."""
        path = self.folder / SETTINGS
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
            if settings["scaling"] not in ("strong", "weak") or not settings["sessions"]:
                raise ValueError("no scaling or no session")
            for session in settings["sessions"]:
                if not isinstance(session["flags"], list) or session["rounds"] < 1:
                    raise ValueError("a session without flags or rounds")
                machine = session["machine"]
                if not isinstance(machine["cpu_model"], str) or not all(
                    isinstance(machine[name], list) for name in ("available_cores", "gpus")
                ):
                    raise ValueError("a session without a machine")
        except FileNotFoundError:
            raise ConfigError(f"{self.folder} holds no {SETTINGS}: not a study") from None
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is not one of ours ({error!r})") from None
        return settings

    def write_settings(self, settings: dict[str, Any]) -> None:
        write_json(self.folder / SETTINGS, settings)


def set_aside(run_dir: Path) -> None:
    """Moves an earlier attempt's folder out of the way; nothing that ran is deleted."""
    if not run_dir.exists():
        return
    attempt = 1
    while (target := run_dir.with_name(f"{run_dir.name}.attempt_{attempt}")).exists():
        attempt += 1
    run_dir.rename(target)
