import os
from pathlib import Path

import pytest

from isoscale.common.config.errors import FolderError
from isoscale.common.processes.lock import LOCK, locked


def test_two_processes_cannot_share_a_folder(tmp_path: Path) -> None:
    with (
        locked(tmp_path, called="study 'a'"),
        pytest.raises(
            FolderError, match=rf"study 'a' is in use by process {os.getpid()} since 2\d\d\d-"
        ),
        locked(tmp_path, called="study 'a'"),
    ):
        pass
    with locked(tmp_path, called="study 'a'"):
        pass


def test_a_lock_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(FolderError, match=r"cannot write to .*nothing: No such file"),
        locked(tmp_path / "nothing", called="x"),
    ):
        pass


@pytest.mark.parametrize("kind", ["link", "dangling link", "hard link", "fifo", "folder"])
def test_a_lock_that_is_no_plain_file_is_refused_and_its_target_unchanged(
    kind: str, tmp_path: Path
) -> None:
    target, lock = tmp_path / "target", tmp_path / "study" / LOCK
    lock.parent.mkdir()
    if kind != "dangling link":
        target.write_text("precious")
    if kind in ("link", "dangling link"):
        lock.symlink_to(target)
    elif kind == "hard link":
        lock.hardlink_to(target)
    elif kind == "fifo":
        os.mkfifo(lock)
    else:
        lock.mkdir()
    with pytest.raises(FolderError, match=LOCK), locked(lock.parent, called="x"):
        pass
    assert target.exists() == (kind != "dangling link")
    assert kind == "dangling link" or target.read_text() == "precious"
