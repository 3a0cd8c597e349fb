"""A resumed study does not mix runs of two versions of the user's files without a word."""

from pathlib import Path
from typing import Any

import pytest

from isoscale.common.config.errors import ConfigError
from isoscale.common.machine.own_version import own_version
from isoscale.common.registry import lookup
from isoscale.common.study.changed import check_unchanged
from isoscale.common.study.store import Store
from tests.common.checkpoint import small
from tests.common.report.fake_study import make_cell, make_line, write_study

MODEL, STRATEGY = "extra model mine", "extra strategy mine"
TORCH = small.config()
NOW = {MODEL: "bbb", STRATEGY: "bbb"}


def stored(folder: Path, framework: str, **changes: Any) -> Store:
    line = make_line(make_cell(framework, "bare", 1), 0, 0.01, sequence=0, **changes)
    store = write_study(folder / "s", [line], steps=0)
    store.load()
    return store


@pytest.fixture(autouse=True)
def _own_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "extra_digests", lambda config: NOW)


@pytest.mark.parametrize(
    "framework, before, part",
    [
        ("torch", {MODEL: "aaa"}, MODEL),
        ("jax", {MODEL: "aaa"}, MODEL),  # the next runs are of torch: one model for all
        ("torch", {STRATEGY: "aaa"}, STRATEGY),
        ("jax", {STRATEGY: "aaa"}, None),  # another strategy of the same name
        ("torch", {MODEL: "bbb", "extra data other": "ccc"}, None),
        ("torch", {"torch": "2.13.0"}, None),
    ],
)
def test_runs_of_other_files_are_refused(
    framework: str, before: dict[str, str], part: str | None, tmp_path: Path
) -> None:
    store = stored(tmp_path, framework, versions=before)
    if part is None:
        check_unchanged(store, [TORCH])
        return
    with pytest.raises(ConfigError, match=f"study 's' has .* other files of '{part}' .digest aaa"):
        check_unchanged(store, [TORCH])
    check_unchanged(store, [])  # nothing is about to run


def test_failed_runs_of_other_files_are_repeated(tmp_path: Path) -> None:
    store = stored(tmp_path, "torch", versions={MODEL: "aaa"}, status="failed", error="broke")
    check_unchanged(store, [TORCH])


@pytest.mark.parametrize("recorded", ["0.1.0 (commit 0123456789ab)", own_version(), None])
def test_runs_of_another_isoscale_are_announced(
    recorded: str | None, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    check_unchanged(stored(tmp_path, "torch", isoscale=recorded), [TORCH])
    said = capsys.readouterr().err
    other = recorded not in (None, own_version())
    assert ("gets neither an interval nor a verdict" in said) is other
    assert len(said.splitlines()) == other
