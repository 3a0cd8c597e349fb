import errno
import os
import shutil
from pathlib import Path

import pytest

from isoscale.common.config.errors import FolderError
from isoscale.common.processes.lock import LOCK, VanishedError, locked


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
        pytest.raises(FolderError, match=r"cannot write to .*nothing: no such file"),
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


@pytest.mark.parametrize("how", ["removed", "renamed", "replaced", "only its lock"])
def test_a_folder_that_vanishes_while_it_is_locked_is_noticed(how: str, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    with locked(folder, called="study 'a'") as lock:
        lock.check()
        if how == "renamed":
            folder.rename(tmp_path / "elsewhere")
        elif how == "only its lock":
            (folder / LOCK).unlink()
        else:
            shutil.rmtree(folder)
        if how == "replaced":
            folder.mkdir()
            (folder / LOCK).touch()
        place = folder if how in ("removed", "renamed") else folder / LOCK
        with pytest.raises(VanishedError, match=f"^study 'a' has vanished: {place} was removed"):
            lock.check()


def test_a_lock_on_a_full_disk_holds_without_the_name_of_its_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "")

    monkeypatch.setattr(os, "pwrite", full)
    with (
        locked(tmp_path, called="x"),
        pytest.raises(FolderError, match="x is in use by another process"),
        locked(tmp_path, called="x"),
    ):
        pass
