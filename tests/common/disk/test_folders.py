"""Folders for temporary files, and folders of commands."""

import tempfile
from pathlib import Path

import pytest

from isoscale.common.config.errors import FolderError
from isoscale.common.disk.folders import scratch_folder


def test_a_scratch_folder_is_removed_at_the_end() -> None:
    with scratch_folder("isoscale-test-") as folder:
        (folder / "x").write_text("")
        assert folder.name.startswith("isoscale-test-")
    assert not folder.exists()


def test_without_any_folder_for_temporary_files_the_message_names_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null/none")
    expected = pytest.raises(FolderError, match=r"set TMPDIR to a folder that can$")
    with expected, scratch_folder("isoscale-test-"):
        pass


def test_an_error_inside_the_context_is_not_about_the_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), scratch_folder("isoscale-test-"):
        (tmp_path / "nothing").read_text()
