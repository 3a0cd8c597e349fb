import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isoscale.common.config.errors import FolderError
from isoscale.common.disk.json_files import to_json, write_atomically


def test_json_is_strict() -> None:
    record = {"a": float("nan"), "b": [np.float32(1.5), float("inf")], "c": (np.int64(3), True)}
    assert json.loads(to_json(record)) == {"a": None, "b": [1.5, None], "c": [3, True]}
    with pytest.raises(TypeError, match="object"):
        to_json({"a": object()})


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch) -> None:
    path = tmp_path / "x.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(FolderError, match=rf"^cannot write {path}: no space left on device$"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_file_is_synced_before_it_replaces_the_old_file(tmp_path: Path, monkeypatch) -> None:
    """Otherwise a power failure could leave an empty file under the new name."""
    path = tmp_path / "x.json"
    path.write_text("old")
    seen: list[tuple[str, ...]] = []

    def watch(name: str) -> None:
        call: Callable[..., Any] = getattr(os, name)

        def note(*arguments: Any) -> Any:
            temporary = [file.read_text() for file in tmp_path.glob(".writing.x.json.*")]
            seen.append((name, *temporary, path.read_text()))
            return call(*arguments)

        monkeypatch.setattr(os, name, note)

    watch("fsync")
    watch("replace")
    write_atomically(path, "new")
    # The last one syncs the folder: otherwise the old name could come back.
    assert seen == [("fsync", "new", "old"), ("replace", "new", "old"), ("fsync", "new")]
    assert path.read_text() == "new"
    seen.clear()
    write_atomically(path, "view", durable=False)
    assert seen == [("replace", "view", "new")]
