"""The appearances of a cell in several studies."""

import math

import pytest

from isoscale.common.analysis.history import histories, throughput, tracks
from isoscale.common.analysis.scaling import CellSummary, summarize_cells
from tests.common.report.fake_study import grid_lines, make_cell, read_lines, turns_lines


def summaries(seconds: float, *, runs: int = 6, noise: float = 0.01, **cell) -> list[CellSummary]:
    lines = grid_lines(devices=(1,), runs=runs, noise=noise, seconds=lambda _: seconds, **cell)
    return summarize_cells(read_lines(lines), scaling="strong")


def test_a_cell_is_followed_through_studies_that_lack_it() -> None:
    first, second, third = summaries(0.01), summaries(0.02), summaries(0.03)
    found = tracks([first, [c for c in second if c.cell.framework == "jax"], third])
    numbers = {next(iter(t.values())).cell.framework: list(t) for t in found}
    assert numbers == {"jax": [0, 1, 2], "tensorflow": [0, 2], "torch": [0, 2]}


def test_a_cell_whose_tweaks_changed_is_the_same_cell() -> None:
    tuned = {"tuning": "tuned"}
    found = tracks([summaries(0.01, **tuned), summaries(0.009, **tuned, tweaks=["x"])])
    assert [list(track) for track in found] == [[0, 1]] * 7


def test_each_study_is_compared_with_the_one_before_in_the_given_order() -> None:
    studies = [summaries(s) for s in (0.010, 0.008, 0.010)]
    (forward, *_) = histories(tracks(studies), order=lambda n, _: n, threshold=0.05)
    assert [entry.study for entry in forward] == [0, 1, 2]
    assert forward[0].difference is None
    ratios = [e.difference.ratio.value for e in forward[1:] if e.difference and e.difference.ratio]
    assert ratios == pytest.approx([1.25, 0.8], rel=0.02)
    (backward, *_) = histories(tracks(studies), order=lambda n, _: -n, threshold=0.05)
    assert [entry.study for entry in backward] == [2, 1, 0]


def test_all_steps_of_all_cells_are_one_family() -> None:
    studies = [summaries(s, noise=0.04) for s in (0.0100, 0.0103)]
    found = tracks(studies)
    alone = histories(found[:1], order=lambda n, _: n, threshold=0.05)[0][1].difference
    together = histories(found, order=lambda n, _: n, threshold=0.05)[0][1].difference
    assert alone is not None
    assert together is not None
    assert alone.p is not None
    assert together.p is not None
    assert together.p > alone.p


def test_the_throughput_is_the_geometric_mean_with_a_t_interval() -> None:
    (cell, *_) = summaries(0.01, runs=4, noise=0.1)
    found = throughput(cell)
    logs = [math.log(x) for x in cell.throughputs]
    mean = sum(logs) / 4
    error = math.sqrt(sum((x - mean) ** 2 for x in logs) / 3 / 4)
    assert found is not None
    assert found.n == 4
    assert found.value == pytest.approx(math.exp(mean))
    assert found.high == pytest.approx(math.exp(mean + 3.182446 * error))
    assert found.low == pytest.approx(math.exp(mean - 3.182446 * error))


def test_two_runs_have_no_interval_and_groups_without_valid_rounds_no_throughput() -> None:
    (cell, *_) = summaries(0.01, runs=2)
    found = throughput(cell)
    assert found is not None
    assert (found.low, found.high, found.n) == (None, None, 2)
    lines = turns_lines([(make_cell("jax", "bare", 1), 0.01)], disturbed=lambda *_: True)
    (spoilt,) = summarize_cells(read_lines(lines), scaling="strong")
    assert throughput(spoilt) is None


def test_runs_under_different_conditions_have_no_interval() -> None:
    lines = grid_lines(devices=(1,))
    lines[0]["versions"] = {**lines[0]["versions"], "jax": "9"}
    (cell, *_) = summarize_cells(read_lines(lines), scaling="strong")
    found = throughput(cell)
    assert cell.mixed
    assert found is not None
    assert (found.low, found.high, found.n) == (None, None, 6)
