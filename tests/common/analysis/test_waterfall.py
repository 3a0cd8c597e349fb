from typing import Any

import numpy as np
import pytest

from isoscale.common.analysis.correction import in_one_family
from isoscale.common.analysis.estimates import corrected, ratio_estimates
from isoscale.common.analysis.scaling import summarize_cells
from isoscale.common.analysis.waterfall import Gap, Lanes, Waterfall, compare_lanes
from isoscale.common.config.cell import Cell
from tests.common.report.fake_study import ladder_lines, make_cell, make_line, read_lines

TWEAKS = {
    "jax": {"pages": 0.8, "dense": 0.5, "nothing": 1.0},
    "tensorflow": {},
    "torch": {"mkl": 0.75},
}
SECONDS = {"jax": 0.04, "tensorflow": 0.01, "torch": 0.02}


def lanes(lines: list[dict[str, Any]]) -> list[Lanes]:
    return compare_lanes(summarize_cells(read_lines(lines), scaling="strong"), scaling="strong")


def only(lines: list[dict[str, Any]]) -> Lanes:
    (found,) = lanes(lines)
    return found


def of(found: Lanes, framework: str, strategy: str = "bare") -> Waterfall:
    (waterfall,) = (
        w for w in found.waterfalls if (w.framework, w.strategy) == (framework, strategy)
    )
    return waterfall


def gap(lines: list[dict[str, Any]]) -> Gap:
    (found,) = only(lines).gaps
    return found


def two(stock: tuple[float, float], tuned: tuple[float, float], **options: Any) -> list:
    """Returns the lines of a study of jax and torch with one tweak each."""
    names = ("jax", "torch")
    tweaks = {name: {"t": b / a} for name, a, b in zip(names, stock, tuned, strict=True)}
    return ladder_lines(tweaks, dict(zip(names, stock, strict=True)), **options)


def without(lines: list, **unwanted: Any) -> list:
    """Returns the lines without the cells that have all the values."""
    return [
        line
        for line in lines
        if any(line["cell"].get(name) != value for name, value in unwanted.items())
    ]


def failed(lines: list, **wanted: Any) -> list:
    """Returns the lines with failed runs for the cells that have all the values."""
    return [
        {**line, "status": "failed", "error": "broke"}
        if all(line["cell"].get(name) == value for name, value in wanted.items())
        else line
        for line in lines
    ]


def test_every_step_is_compared_with_the_previous_step() -> None:
    found = of(only(ladder_lines(TWEAKS, SECONDS)), "jax")
    assert [(step.lane, step.added) for step in found.steps] == [
        ("stock", ()),
        ("ladder", ("pages",)),
        ("ladder", ("dense",)),
        ("tuned", ("nothing",)),
    ]
    assert found.steps[0].change is None
    changes = [step.change for step in found.steps[1:] if step.change]
    assert [change.ratio.value for change in changes] == pytest.approx([1.25, 2.0, 1.0])
    assert [c.outcome for c in changes] == ["faster", "faster", "no difference shown"]
    for change in changes:
        assert change.ratio.low < change.ratio.value < change.ratio.high
    assert found.total is not None
    assert found.total.ratio.value == pytest.approx(2.5)
    medians = [step.cell.step_seconds.median for step in found.steps if step.cell]
    assert medians == pytest.approx([0.04, 0.032, 0.016, 0.016])
    assert found.tweaks == ["pages", "dense", "nothing"]


def test_a_tweak_that_adds_time_has_the_verdict_slower() -> None:
    found = of(only(ladder_lines({"jax": {"bad": 1.3}}, SECONDS)), "jax")
    assert found.steps[1].change.outcome == "slower"


def test_stock_and_tuned_without_tweaks_show_no_difference() -> None:
    found = of(only(ladder_lines(TWEAKS, SECONDS)), "tensorflow")
    assert [(step.lane, step.added) for step in found.steps] == [("stock", ()), ("tuned", ())]
    assert found.total.outcome == "no difference shown"


def test_p_values_of_all_comparisons_of_a_study_are_corrected_together() -> None:
    lines = ladder_lines(TWEAKS, SECONDS)
    other = ladder_lines(TWEAKS, SECONDS, model="gpt_tiny")
    summaries = summarize_cells(read_lines([*lines, *other]), scaling="strong")
    both, tests = in_one_family(lambda t: compare_lanes(summaries, scaling="strong", tests=t))
    # jax: 3 steps and the total. Other frameworks: one step, equal to the total. Pairs: 2 x 3.
    assert tests.count == 2 * (4 + 1 + 1 + 6)
    raw = [answer.ratio.p for answer in (tests._answers or {}).values()]
    expected = dict(zip(raw, corrected(raw), strict=True))
    for found in both:
        for change in found.changes:
            assert change.p == pytest.approx(expected[change.ratio.p])
    alone = of(only(lines), "jax").steps[1].change
    among = of(both[0], "jax").steps[1].change
    assert alone.ratio == among.ratio
    assert alone.p < among.p


def test_ratios_are_computed_as_in_verdicts() -> None:
    found = only(ladder_lines(TWEAKS, SECONDS))
    waterfall = of(found, "torch")
    stock, tuned = (step.cell.throughputs for step in waterfall.steps)
    assert [waterfall.total.ratio] == ratio_estimates([(tuned, stock)])


def test_lanes_without_a_ladder_make_one_step() -> None:
    lines = without(ladder_lines(TWEAKS, SECONDS), tuning="ladder")
    found = of(only(lines), "jax")
    assert [step.added for step in found.steps] == [(), ("pages", "dense", "nothing")]
    assert found.steps[1].change.ratio.value == pytest.approx(2.5)


def test_a_study_with_one_lane_has_no_waterfall() -> None:
    lines = ladder_lines(TWEAKS, SECONDS)
    for lane in ("stock", "tuned"):
        assert lanes([line for line in lines if line["cell"]["tuning"] == lane]) == []


def test_steps_that_were_not_measured_have_no_cell_and_no_change() -> None:
    lines = ladder_lines(TWEAKS, SECONDS)
    found = of(only(without(lines, tweaks=["pages"])), "jax")
    assert [step.added for step in found.steps] == [(), ("pages",), ("dense",), ("nothing",)]
    assert found.steps[1].cell is None
    assert [step.change is None for step in found.steps] == [True, True, True, False]
    assert found.total is not None
    no_tuned = of(only(without(lines, tuning="tuned", framework="jax")), "jax")
    assert [step.lane for step in no_tuned.steps] == ["stock", "ladder", "ladder", "tuned"]
    assert no_tuned.tweaks == ["pages", "dense"]
    assert no_tuned.cell("tuned") is None
    assert no_tuned.total is None
    no_stock = of(only(without(lines, tuning="stock", framework="jax")), "jax")
    assert no_stock.steps[0].cell is None
    assert no_stock.steps[1].change is None


def test_a_step_that_failed_has_no_change() -> None:
    found = of(only(failed(ladder_lines(TWEAKS, SECONDS), tweaks=["pages"])), "jax")
    assert found.steps[1].cell.statuses == {"failed": 6}
    assert [step.change is None for step in found.steps] == [True, True, True, False]


@pytest.mark.parametrize("runs", [1, 2])
def test_too_few_runs_have_no_verdict_and_no_share(runs: int) -> None:
    found = only(two((0.04, 0.01), (0.02, 0.01), runs=runs))
    assert {change.outcome for change in found.changes} == {"no verdict"}
    assert {change.p for change in found.changes} == {None}
    (only_gap,) = found.gaps
    assert only_gap.left is None
    assert only_gap.stock.widest.ratio.value == pytest.approx(4.0)


def test_a_cell_that_is_no_step_from_stock_to_tuned_is_a_stray() -> None:
    lines = ladder_lines(TWEAKS, SECONDS)
    cell = make_cell("jax", "bare", 1, tuning="ladder", tweaks=["other"])
    lines.insert(0, make_line(cell, 0, 0.03, sequence=len(lines)))
    found = of(only(lines), "jax")
    assert [stray.cell for stray in found.strays] == [Cell.from_record(cell)]
    assert len(found.steps) == 4


def test_compile_mode_and_dispatch_are_part_of_tuning() -> None:
    lines = [
        make_line(
            make_cell("tensorflow", "bare", 1, tuning=lane, compile_mode=mode, **extra),
            run,
            0.01 * (1 + 0.01 * run),
            sequence=0,
        )
        for run in range(3)
        for lane, mode, extra in (
            ("stock", "graph", {}),
            ("tuned", "xla", {"tweaks": ["xla", "several"], "steps_per_dispatch": 10}),
        )
    ]
    assert len(only(lines).waterfalls) == 1


def test_the_remaining_share_of_a_gap_is_a_ratio_of_logarithms() -> None:
    """The gap shrinks from 4x to 2x: half of its logarithm remains."""
    found = gap(two((0.04, 0.01), (0.02, 0.01)))
    assert found.stock.order == found.tuned.order == ["torch", "jax"]
    assert found.stock.widest.ratio.value == pytest.approx(4.0)
    assert found.tuned.widest.ratio.value == pytest.approx(2.0)
    assert found.left.value == pytest.approx(0.5)
    assert 0.45 < found.left.low < 0.5 < found.left.high < 0.55
    assert found.reversals() == {}


def test_the_interval_of_the_remaining_share_contains_the_true_share() -> None:
    """In simulated studies with known gaps, at least 90 % of the intervals contain the share."""
    random = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        lines = two((0.013, 0.01), (0.011, 0.01))
        for line in lines:
            line["examples_per_second"] *= float(np.exp(0.02 * random.normal()))
        left = gap(lines).left
        assert left is not None
        held += left.low <= np.log(1.1) / np.log(1.3) <= left.high
    assert held >= 0.9 * 200


def test_the_remaining_share_of_a_closed_gap_and_of_a_grown_gap() -> None:
    gone = gap(two((0.04, 0.01), (0.01, 0.01)))
    assert gone.left.value == pytest.approx(0.0, abs=1e-9)
    assert gone.left.low == 0.0
    assert gone.tuned.widest.outcome == "no difference shown"
    grown = gap(two((0.02, 0.01), (0.02, 0.005)))
    assert grown.left.value == pytest.approx(2.0)


def test_a_gap_without_a_shown_difference_has_no_remaining_share() -> None:
    found = gap(two((0.0101, 0.01), (0.02, 0.01)))
    assert found.stock.widest.outcome == "no difference shown"
    assert found.left is None
    # Also if the interval alone excludes 1, but the corrected p shows no difference.
    found = gap(two((0.0102, 0.01), (0.02, 0.01)))
    assert found.stock.widest.ratio.low > 1
    assert found.stock.widest.outcome == "no difference shown"
    assert found.left is None


def test_a_changed_order_states_whether_its_differences_are_shown() -> None:
    found = gap(two((0.02, 0.01), (0.005, 0.01)))
    assert found.stock.order == ["torch", "jax"]
    assert found.tuned.order == ["jax", "torch"]
    assert found.reversals() == {("torch", "jax"): True}
    found = gap(two((0.02, 0.01), (0.00999, 0.01)))
    assert found.reversals() == {("torch", "jax"): False}


def test_a_framework_is_compared_with_its_fastest_stock_strategy() -> None:
    """Also if another strategy is faster in the tuned lane."""
    lines = ladder_lines({"jax": {"t": 0.9}, "torch": {"t": 0.9}}, SECONDS)
    lines += ladder_lines({"jax": {"t": 0.1}}, {"jax": 0.05}, strategy="pjit")
    assert gap(lines).members["jax"].strategy == "bare"
    lines += ladder_lines({"jax": {"t": 1.0}}, {"jax": 0.03}, strategy="pmap")
    assert gap(lines).members["jax"].strategy == "pmap"


def test_a_framework_without_results_in_both_lanes_is_left_out_of_the_gap() -> None:
    lines = ladder_lines(TWEAKS, SECONDS)
    for broken in (
        failed(lines, framework="jax", tuning="tuned"),
        without(lines, framework="jax", tuning="tuned"),
        failed(lines, framework="jax", tuning="stock"),
    ):
        found = gap(broken)
        assert set(found.members) == {"tensorflow", "torch"}
        assert [waterfall.name for waterfall in found.absent] == ["jax bare"]
        assert found.stock.widest.ratio.value == pytest.approx(2.0)


def test_a_strategy_with_results_in_both_lanes_comes_before_a_faster_one_without() -> None:
    lines = two((0.02, 0.01), (0.01, 0.01))
    faster = ladder_lines({"jax": {}}, {"jax": 0.005}, runs=1, strategy="pjit")
    lines += [line for line in faster if line["cell"]["tuning"] == "stock"]
    found = gap(lines)
    assert {name: w.strategy for name, w in found.members.items()} == {
        "jax": "bare",
        "torch": "bare",
    }
    assert not found.absent


def test_one_framework_alone_has_no_gap() -> None:
    found = gap(ladder_lines({"jax": {"t": 0.9}}, SECONDS))
    assert list(found.members) == ["jax"]
    assert found.left is None


def test_each_device_count_has_a_gap_unless_devices_share_cores() -> None:
    lines = ladder_lines(TWEAKS, SECONDS)
    lines += ladder_lines(TWEAKS, SECONDS, devices=2)
    lines += ladder_lines(TWEAKS, SECONDS, devices=4, oversubscribed=True)
    found = only(lines)
    assert [each.devices for each in found.gaps] == [1, 2]
    assert len(found.waterfalls) == 6


def test_a_tweak_that_changes_the_loss_raises_an_alarm() -> None:
    lines = ladder_lines(TWEAKS, SECONDS)
    for line in lines:
        if line["cell"].get("tweaks") == ["pages"]:
            line["loss_first"] *= 1.001
    assert "do not compute the same thing" in only(lines).alarm
    assert only(ladder_lines(TWEAKS, SECONDS)).alarm is None


def test_equal_frameworks_rarely_have_a_gap() -> None:
    """Measurements choose the fastest and slowest framework; the correction covers this choice."""
    random = np.random.default_rng(7)
    shown = 0
    for _ in range(100):
        lines = ladder_lines({"jax": {}, "tensorflow": {}, "torch": {}}, dict.fromkeys(SECONDS, 1))
        for line in lines:
            line["examples_per_second"] *= float(np.exp(0.03 * random.normal()))
        shown += gap(lines).stock.widest.outcome == "faster"
    assert shown <= 5
