"""Texts of a study do not tell about its user."""

from pathlib import Path

import pytest

from isoscale.common.machine.private import Private, prefix_of


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> Private:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SOME_FLAGS", "--dump=/secret/place on")
    folders = {"/data/out/s": ".", "/data/out": "(out_dir)", "/opt/venv": "python"}
    return Private(folders, ["SOME_FLAGS", "NOT_SET"])


@pytest.mark.parametrize(
    "text, cleaned",
    [
        ("/data/out/s/cells/a/log.txt", "./cells/a/log.txt"),
        ("/data/out/s2/log.txt", "(out_dir)/s2/log.txt"),  # another study
        ("/data/outer", "/data/outer"),
        ('File "/opt/venv/lib/x.py", line 3', 'File "python/lib/x.py", line 3'),
        ("see /home/me/.cache, /home/me: /home/mean", "see ~/.cache, ~: /home/mean"),
        ("Unknown flag: --dump=/secret/place", "Unknown flag: (SOME_FLAGS)"),
        ("turned on", "turned on"),
    ],
)
def test_a_text_loses_folders_values_and_the_home(
    text: str, cleaned: str, private: Private
) -> None:
    assert private.clean(text) == cleaned


def test_a_file_is_cleaned_in_its_place_and_other_bytes_stay(
    private: Private, tmp_path: Path
) -> None:
    path, link = tmp_path / "log.txt", tmp_path / "link.txt"
    path.write_bytes(b"\xff\x00 /opt/venv/bin\n")
    link.symlink_to(path)
    private.clean_file(link)
    assert path.read_bytes() == b"\xff\x00 /opt/venv/bin\n", "a link was followed"
    private.clean_file(path)
    assert path.read_bytes() == b"\xff\x00 python/bin\n"
    private.clean_file(tmp_path / "missing.txt")


def test_the_installation_of_an_interpreter() -> None:
    assert prefix_of("/opt/venv/bin/python") == "/opt/venv"
    assert prefix_of("/opt/tools/python") == "/opt/tools"


def test_a_user_without_a_home_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert Private({"/data": "(out_dir)"}).clean("/data/x /root/y") == "(out_dir)/x /root/y"
