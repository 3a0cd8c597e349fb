"""The matrix at the top of a report says what the verdicts say, and no more."""

import dataclasses
from pathlib import Path

import pytest

from isoscale.common.report.study.answers.matrix import Line, Matrix, make_matrix
from isoscale.common.report.study.data import load_study
from tests.common.report.fake_study import make_cell, make_line, write_study
from tests.common.report.study.answers.test_setting import SPREAD, Cell, study

THREE: dict[Cell, float] = {
    ("jax", "bare", 1): 0.010,
    ("tensorflow", "bare", 1): 0.012,
    ("torch", "bare", 1): 0.020,
}


def matrix(folder: Path, seconds: dict[Cell, float], **options) -> Matrix:
    found = study(folder, seconds, **options)
    return make_matrix(found, [(f"s{i}", setting) for i, setting in enumerate(found.settings)])


def lines_of(found: Matrix, name: str, *, devices: int = 1) -> list[Line]:
    (block,) = found.blocks
    return block.rows[name][found.devices.index(devices)]


def test_the_fastest_and_its_distance_to_the_others(tmp_path: Path) -> None:
    found = matrix(tmp_path, THREE)
    assert lines_of(found, "jax") == [("6400 [6272, 6531] bare", "plain"), ("FASTEST", "fastest")]
    assert lines_of(found, "torch")[1] == ("0.50x [0.49, 0.51] of the highest", "plain")
    assert found.columns == ["model", "framework", "1 device"]


def test_what_shows_no_difference_is_pale(tmp_path: Path) -> None:
    found = matrix(tmp_path, {**THREE, ("tensorflow", "bare", 1): 0.01005})
    # torch is shown to be slower, so something is shown about jax; but jax is not the fastest.
    assert lines_of(found, "jax")[1] == ("highest", "plain")
    text, shade = lines_of(found, "tensorflow")[1]
    assert text.endswith("of the highest, no difference shown")
    assert shade == "pale"
    alike = matrix(tmp_path / "alike", dict.fromkeys(THREE, 0.01))
    assert {lines_of(alike, name)[1][1] for name in ("jax", "tensorflow", "torch")} == {"pale"}


@pytest.mark.parametrize("runs", [1, 2])
def test_without_verdicts_everything_is_pale(tmp_path: Path, runs: int) -> None:
    found = matrix(tmp_path, THREE, runs=runs)
    for name in ("jax", "tensorflow", "torch"):
        figure, (text, shade) = lines_of(found, name)
        assert "[" not in figure[0]
        assert shade == "pale"
        assert text == "highest" or text.endswith("no verdict")


def test_nothing_is_fastest_while_a_faster_cell_lacks_runs(tmp_path: Path) -> None:
    """The framework has another cell with enough runs, which is its champion."""
    cells = [("jax", "bare", 6, 0.010), ("torch", "bare", 6, 0.020), ("torch", "ddp", 2, 0.001)]
    lines = [
        make_line(make_cell(framework, strategy, 1), run, seconds * SPREAD[run], sequence=run)
        for framework, strategy, runs, seconds in cells
        for run in range(runs)
    ]
    found = load_study(write_study(tmp_path / "s", lines, steps=0))
    shown = make_matrix(found, [("s0", found.settings[0])])
    assert lines_of(shown, "jax")[1] == ("highest", "plain")
    assert all("FASTEST" not in text for row in shown.texts() for text in row)


def test_speedup_stands_in_the_column_of_its_devices(tmp_path: Path) -> None:
    found = matrix(
        tmp_path,
        {
            **THREE,
            ("jax", "pmap", 2): 0.005,
            ("tensorflow", "mirrored", 2): 0.01201,
            ("torch", "ddp", 4): 0.001,
        },
    )
    assert found.devices == [1, 2]  # with 4 devices on 2 cores, cells show overhead only
    assert lines_of(found, "jax", devices=2)[-1] == ("speedup 2.00x [1.96, 2.04]", "plain")
    text, shade = lines_of(found, "tensorflow", devices=2)[-1]
    assert (text[:7], text[-21:], shade) == ("speedup", ", no difference shown", "pale")
    assert lines_of(found, "torch", devices=2) == [("-", "pale")]


def test_with_one_framework_each_strategy_has_a_row(tmp_path: Path) -> None:
    found = matrix(tmp_path, {("jax", "bare", 1): 0.01, ("jax", "pmap", 1): 0.012})
    (block,) = found.blocks
    assert list(block.rows) == ["jax bare", "jax pmap"]
    assert lines_of(found, "jax pmap")[1] == ("0.83x [0.82, 0.85] of the highest", "plain")


def test_cells_that_must_not_be_compared_are_left_out(tmp_path: Path) -> None:
    found = study(tmp_path, THREE, runs=3)
    (setting,) = found.settings
    apart = dataclasses.replace(found.losses[setting.title], alarm="losses differ")
    changed = dataclasses.replace(found, losses={setting.title: apart})
    assert len(make_matrix(found, [("s0", setting)]).blocks) == 1
    assert make_matrix(changed, [("s0", setting)]).blocks == []
