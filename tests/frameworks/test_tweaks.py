"""Tests the tweaks of each framework."""

import dataclasses
import re
import subprocess

import pytest

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.run_config import RunConfig
from isoscale.common.registry import lookup
from isoscale.frameworks.torch_runner import tweaks as torch_tweaks


@pytest.mark.parametrize("framework", lookup.frameworks())
def test_every_tweak_has_all_texts_and_valid_fields(framework) -> None:
    known = lookup.tweaks(framework)
    assert len({tweak.name for tweak in known}) == len(known) >= 3
    for tweak in known:
        texts = (tweak.what, tweak.why, tweak.where, tweak.needs)
        assert all(texts), tweak.name
        assert tweak.source.startswith("https://"), tweak.name
        assert re.fullmatch(r"[a-z0-9-]+", tweak.name)
        if tweak.kind == "option":
            fields = {field.name for field in dataclasses.fields(RunConfig)}
            assert set(tweak.changes) <= fields


@pytest.mark.skipif(torch_tweaks._preload_missing() is not None, reason="no C compiler")
def test_the_preloaded_library_is_built_once_and_reports_an_intel_cpu(
    monkeypatch, tmp_path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tweak,) = (t for t in torch_tweaks.TWEAKS if t.name == "mkl-as-intel")
    path = tweak.environment()["LD_PRELOAD"]
    import ctypes

    assert ctypes.CDLL(path).mkl_serv_intel_cpu_true() == 1
    before = [p.stat().st_mtime_ns for p in (tmp_path / "isoscale").iterdir()]
    assert tweak.environment() == {"LD_PRELOAD": path}
    assert [p.stat().st_mtime_ns for p in (tmp_path / "isoscale").iterdir()] == before
    assert len(before) == 1


def test_a_failed_build_of_the_preloaded_library_is_one_line(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    (tweak,) = (t for t in torch_tweaks.TWEAKS if t.name == "mkl-as-intel")

    def fails(command, **options):
        raise subprocess.CalledProcessError(1, command, stderr=b"cc: no space\nmore")

    monkeypatch.setattr(torch_tweaks.subprocess, "run", fails)
    with pytest.raises(ConfigError, match=r"cannot be built: cc: no space$"):
        tweak.environment()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "with space"))
    assert "set XDG_CACHE_HOME" in tweak.missing()
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/none")
    assert "'/dev/null/none/isoscale' cannot be written" in tweak.missing()
    monkeypatch.setattr(torch_tweaks.shutil, "which", lambda name: None)
    assert "C compiler" in tweak.missing()
