"""A tuned cell that is the same configuration as stock has the runs of stock, and no test of its
own."""

from typing import Any

import pytest

from isoscale.common.analysis import correction
from isoscale.common.analysis.scaling import CellSummary, summarize_cells
from isoscale.common.analysis.settings import split_into_settings
from isoscale.common.analysis.verdicts import judge
from isoscale.common.analysis.waterfall import Lanes, compare_lanes
from isoscale.common.study.records import SharedCell
from tests.common.analysis.test_waterfall import SECONDS, TWEAKS, of
from tests.common.report.fake_study import (
    ladder_lines,
    make_cell,
    make_line,
    read_lines,
    without_copies,
)

NONE: dict[str, dict[str, float]] = {"jax": {}, "tensorflow": {}, "torch": {}}


def summaries(lines: list[dict[str, Any]], **changes: Any) -> list[CellSummary]:
    kept, shared = without_copies(lines, **changes)
    cells = [SharedCell(**entry) for entry in shared]
    return summarize_cells(read_lines(kept), scaling="strong", shared=cells)


def lanes_and_tests(found: list[CellSummary]) -> tuple[Lanes, correction.Tests]:
    """Returns the lanes, and the tests of a whole report."""
    settings = split_into_settings(found, scaling="strong")
    ((_, (lanes,)), tests) = correction.in_one_family(
        lambda family: (
            judge(settings, family),
            compare_lanes(found, scaling="strong", tests=family),
        )
    )
    return lanes, tests


def test_a_shared_cell_has_the_figures_of_its_stock_cell_in_the_other_lane() -> None:
    found = summaries(ladder_lines(TWEAKS, SECONDS))
    (shared,) = (cell for cell in found if cell.shared)
    (stock,) = (cell for cell in found if cell.cell == shared.measured)
    assert (shared.cell.framework, shared.cell.tuning) == ("tensorflow", "tuned")
    assert (stock.cell.tuning, stock.shared, stock.measured) == ("stock", None, stock.cell)
    assert shared.cell.without("tuning") == stock.cell.without("tuning")
    assert shared.ok is stock.ok
    assert shared.step_seconds == stock.step_seconds


def test_tuned_against_stock_is_not_compared_for_one_configuration() -> None:
    lanes, _ = lanes_and_tests(summaries(ladder_lines(TWEAKS, SECONDS)))
    waterfall = of(lanes, "tensorflow")
    assert [step.lane for step in waterfall.steps] == ["stock", "tuned"]
    assert waterfall.same == waterfall.steps[1].same == "tuned adds no tweak"
    assert waterfall.steps[0].same is None
    assert waterfall.total is None
    assert waterfall.steps[1].change is None
    assert waterfall.strays == []
    # A framework with tweaks is compared as before.
    assert of(lanes, "jax").same is None
    assert of(lanes, "jax").total is not None


def test_shared_cells_add_no_test_to_the_family() -> None:
    """jax: 3 steps and the total; torch: a step. Pairs of frameworks: 3 in stock, 3 in tuned."""
    lines = ladder_lines(TWEAKS, SECONDS)
    _, both = lanes_and_tests(summarize_cells(read_lines(lines), scaling="strong"))
    _, once = lanes_and_tests(summaries(lines))
    assert (both.count, once.count) == (4 + 1 + 1 + 6, 4 + 1 + 6)
    # Without any tweak, the two lanes are one: 3 pairs of frameworks.
    _, one = lanes_and_tests(summaries(ladder_lines(NONE, SECONDS)))
    assert one.count == 3


def test_a_cell_is_never_tested_against_its_own_runs() -> None:
    found = summaries(ladder_lines(NONE, SECONDS))
    (shared,) = (c for c in found if c.shared and c.cell.framework == "jax")
    (stock,) = (c for c in found if c.cell == shared.measured)
    with pytest.raises(ValueError, match="have the same runs"):
        correction.Tests().ask(shared, stock)


def test_frameworks_are_compared_in_the_tuned_lane_with_the_runs_of_stock() -> None:
    lanes, _ = lanes_and_tests(summaries(ladder_lines({"jax": {"t": 0.2}, "torch": {}}, SECONDS)))
    (gap,) = lanes.gaps
    assert set(gap.members) == {"jax", "torch"}
    assert not gap.same
    assert gap.stock.order == ["torch", "jax"]
    assert gap.tuned.order == ["jax", "torch"]
    change = gap.tuned.changes["jax", "torch"]
    assert change.ratio.value == pytest.approx(0.02 / 0.008)
    assert change.outcome == "faster"
    assert gap.left is not None
    assert gap.reversals() == {("torch", "jax"): True}


@pytest.mark.parametrize("middle, same", [({}, True), ({"t": 0.9}, True), ({"t": 0.1}, False)])
def test_the_gap_between_two_shared_cells_is_one_gap(middle: dict, same: bool) -> None:
    tweaks = {"jax": {}, "tensorflow": {}, "torch": middle}
    lanes, _ = lanes_and_tests(summaries(ladder_lines(tweaks, SECONDS)))
    (gap,) = lanes.gaps
    assert gap.same == same
    assert (gap.left is None) == same
    if same:
        assert gap.stock.widest == gap.tuned.widest


def test_a_speedup_in_the_tuned_lane_has_a_shared_base() -> None:
    """ddp has a tweak on two devices, bare has none: bare of the tuned lane is that of stock."""
    lines = []
    for run in range(3):
        for strategy, devices, tweak, seconds in (
            ("bare", 1, [], 0.02),
            ("ddp", 2, [], 0.016),
            ("ddp", 2, ["one"], 0.01),
        ):
            lane = {"tuning": "tuned", "tweaks": tweak} if tweak else {}
            cell = make_cell("torch", strategy, devices, **lane)
            lines.append(make_line(cell, run, seconds, sequence=len(lines)))
    copy = make_line(make_cell("torch", "bare", 1, tuning="tuned"), 0, 0.02, sequence=99)
    found = summaries([*lines, copy])
    (tuned,) = (cell for cell in found if cell.cell.tweaks)
    assert tuned.speedup.value == pytest.approx(2.0)
    assert tuned.base.shared is not None
    assert tuned.base.cell.tuning == "tuned"


def test_a_tuned_cell_with_runs_of_its_own_stays_as_it_is() -> None:
    """Results from before cells were shared."""
    lines = ladder_lines(TWEAKS, SECONDS)
    _, shared = without_copies(lines)
    cells = [SharedCell(**entry) for entry in shared]
    found = summarize_cells(read_lines(lines), scaling="strong", shared=cells)
    assert found == summarize_cells(read_lines(lines), scaling="strong")
    lanes, _ = lanes_and_tests(found)
    assert of(lanes, "tensorflow").total.outcome == "no difference shown"


@pytest.mark.parametrize("framework, lane", [("absent", "stock"), ("jax", "tuned")])
def test_a_shared_cell_needs_a_stock_cell_with_results(framework: str, lane: str) -> None:
    lines = read_lines(ladder_lines(TWEAKS, SECONDS))
    names = {(line.cell.framework, line.cell.tuning): line.cell.id for line in lines}
    shared = [SharedCell(cell_id=names.get((framework, lane), "absent"), lane="tuned")]
    found = summarize_cells(lines, scaling="strong", shared=shared)
    assert not any(cell.shared for cell in found)
