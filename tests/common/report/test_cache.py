"""matplotlib's cache lies in the study, not in the home, and only for a while."""

import os
from pathlib import Path

import pytest

from isoscale.common.report.drawing.cache import cache_inside


@pytest.mark.parametrize("given", [None, "/somewhere/else"])
def test_the_cache_is_in_the_folder_and_then_gone(given, monkeypatch, tmp_path: Path) -> None:
    if given is None:
        monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    else:
        monkeypatch.setenv("MPLCONFIGDIR", given)
    with cache_inside(tmp_path):
        cache = Path(os.environ["MPLCONFIGDIR"])
        assert cache.is_absolute()
        assert cache.parent == tmp_path
        (cache / "fontlist-v1.json").write_text("{}")
    assert os.environ.get("MPLCONFIGDIR") == given
    assert not list(tmp_path.iterdir())


def test_a_list_of_fonts_in_the_home_is_read_and_not_changed(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    known = tmp_path / "home" / "matplotlib" / "fontlist-v1.json"
    known.parent.mkdir(parents=True)
    known.write_text("known")
    (tmp_path / "study").mkdir()
    with cache_inside(tmp_path / "study"):
        (copy,) = Path(os.environ["MPLCONFIGDIR"]).iterdir()
        assert copy.read_text() == "known"
        copy.write_text("more")
    assert known.read_text() == "known"


def test_a_user_without_a_home_needs_none(monkeypatch, tmp_path: Path) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("MPLCONFIGDIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with cache_inside(tmp_path):
        assert Path(os.environ["MPLCONFIGDIR"]).is_dir()
