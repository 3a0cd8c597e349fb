import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from isoscale.common.config.errors import FolderError
from isoscale.common.disk.json_files import write_atomically
from isoscale.common.disk.writing import (
    RANKS,
    WRITING,
    about_disk,
    is_leftover,
    old_name,
    remove_leftovers,
    temporary_file,
    temporary_folder,
)
from isoscale.common.processes.heartbeat import Heartbeat, path_for
from isoscale.common.processes.lock import locked
from tests.conftest import environment_of

NOT_OURS = (
    ".writing.notes", ".writing", "writing.x.json.abcdefgh", ".x.json.abcdefgh", ".x.json.swp",
    ".old.step_5", ".old.abcdefgh", ".ranks-mine", ".ranks-", ".lock", ".drawn", "a.json~",
)  # fmt: skip


def test_names_of_temporary_files_are_known(tmp_path: Path) -> None:
    names = [temporary_file(tmp_path / "x.json")[1], old_name(tmp_path / "step_000000005")]
    names += [temporary_folder(tmp_path, prefix=prefix)[1] for prefix in (WRITING, RANKS)]
    assert all(is_leftover(path.name) for path in names)
    assert not any(map(is_leftover, NOT_OURS))


@pytest.mark.parametrize("deep", [False, True])
def test_only_leftovers_of_killed_processes_are_removed(deep: bool, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "cells/run_0"):
        folder.mkdir(parents=True, exist_ok=True)
        for name in NOT_OURS:
            (folder / name).write_text("mine")
        (folder / ".writing.link.abcdefgh").symlink_to(tmp_path / "cells")
        os.close(temporary_file(folder / "x.json")[0])
        descriptor, left = temporary_folder(folder, prefix=RANKS)
        (left / "store").touch()
        os.close(descriptor)
    _, held = temporary_file(tmp_path / "cells/run_0/x.json")
    before = set(tmp_path.rglob("*"))
    remove_leftovers(tmp_path, deep=deep)
    gone = before - set(tmp_path.rglob("*"))
    # An x.json and a folder of ranks with its file.
    assert len(gone) == (6 if deep else 3)
    assert not [path for path in gone if path.name in NOT_OURS or path.is_symlink()]
    assert held.exists()


WRITE_FOR_EVER = """
import sys
from pathlib import Path
from isoscale.common.disk.json_files import write_atomically
print("started", flush=True)
while True:
    write_atomically(Path(sys.argv[1]), b"x" * 10_000, durable=False)
"""


@pytest.mark.slow
def test_leftovers_are_removed_while_another_process_writes_and_after_its_kill(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-P", "-c", WRITE_FOR_EVER, str(tmp_path / "x.json")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment_of(), stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        end = time.monotonic() + 2
        while time.monotonic() < end:
            remove_leftovers(tmp_path)
        assert process.poll() is None, process.stderr and process.stderr.read()
        left = 0
        process.kill()
    left = len(list(tmp_path.iterdir()))
    assert left >= 1
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    assert (tmp_path / "x.json").stat().st_size == 10_000


def test_errors_of_the_disk_are_one_line_with_path_and_reason(tmp_path: Path) -> None:
    with pytest.raises(FolderError) as found:
        write_atomically(tmp_path / "gone" / "x.json", "")
    line = f"cannot write {tmp_path / 'gone/x.json'}: no such file or directory"
    assert about_disk(found.value) == str(found.value) == line
    assert about_disk(OSError(28, "", "/a/b")) == "cannot write /a/b: no space left on device"
    assert about_disk(OSError(122, "")) == "cannot write output: disk quota exceeded"
    assert about_disk(FileNotFoundError(2, "", "a bug")) is None
    assert about_disk(ValueError("a bug")) is None


@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_new_files_and_folders_follow_the_umask(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "x.json", "{}")
        folder = temporary_folder(tmp_path, prefix=WRITING)[1]
        private = temporary_folder(tmp_path, prefix=RANKS)[1]
        with locked(tmp_path, called="it"):
            pass
        Heartbeat(path_for(tmp_path, 0)).beat("starting")
    finally:
        os.umask(before)
    found = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert found.pop(private.name) == 0o700
    assert found.pop(folder.name) == mode | (mode & 0o444) >> 2
    assert len(found) == 4
    assert set(found.values()) == {mode}, found
