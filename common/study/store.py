"""A study on disk: its settings, its runs, and one line per run in ``results.jsonl``.

The run directories are the truth; ``results.jsonl`` is the index made from them.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.analysis.scaling import cell_key
from common.config.errors import ConfigError
from common.measure.records import to_json, write_atomically, write_json

RESULTS = "results.jsonl"
SETTINGS = "study.json"


class Store:
    """Reads and writes one study's folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._lines: dict[tuple[str, int], dict[str, Any]] = {}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes out of the study.

        Raises:
          ConfigError: another process works on it.
        """
        with (self.folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(
                    f"study '{self.folder.name}' is in use by another process"
                ) from None
            yield

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
                line = json.loads(text)
                self._lines[cell_key(line["cell"]), line["run"]] = line
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigError(f"{path}:{number} is not a result line ({error})") from None

    def lines(self) -> list[dict[str, Any]]:
        return list(self._lines.values())

    def is_ok(self, cell: dict[str, Any], run: int) -> bool:
        return self._lines.get((cell_key(cell), run), {}).get("status") == "ok"

    def add(self, line: dict[str, Any]) -> None:
        """Adds a run's line, or replaces the line of an earlier attempt.

        The whole file is replaced, atomically: a crash at any moment leaves whole lines only.
        """
        plain = json.loads(to_json(line))
        self._lines[cell_key(plain["cell"]), plain["run"]] = plain
        text = "".join(to_json(entry) + "\n" for entry in self._lines.values())
        write_atomically(self.folder / RESULTS, text)

    def settings(self) -> dict[str, Any]:
        """Raises ConfigError if the folder holds no study."""
        path = self.folder / SETTINGS
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"{self.folder} holds no {SETTINGS}: not a study") from None
        except ValueError as error:
            raise ConfigError(f"{path} cannot be read ({error})") from None

    def write_settings(self, settings: dict[str, Any]) -> None:
        write_json(self.folder / SETTINGS, settings)


def read_result(run_dir: Path) -> dict[str, Any] | None:
    """Returns a run's result record, or None while there is none."""
    try:
        return json.loads((run_dir / "result.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def set_aside(run_dir: Path) -> None:
    """Moves an earlier attempt's folder out of the way; nothing that ran is deleted."""
    if not run_dir.exists():
        return
    attempt = 1
    while (target := run_dir.with_name(f"{run_dir.name}.attempt_{attempt}")).exists():
        attempt += 1
    run_dir.rename(target)
