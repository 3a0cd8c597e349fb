from typing import Any

import numpy as np
import pytest

from isoscale.common.analysis.scaling import summarize_cells
from isoscale.common.analysis.settings import Setting, split_into_settings
from isoscale.common.analysis.verdicts import Verdict, champions, judge, overall
from tests.common.report.fake_study import grid_lines, make_cell, make_line, read_lines


def judged(lines: list[dict[str, Any]]) -> tuple[Setting, list[Verdict]]:
    summaries = summarize_cells(read_lines(lines), scaling="strong")
    (setting,) = split_into_settings(summaries, scaling="strong")
    return setting, judge([setting])[setting.title]


def by_framework(**seconds: float) -> Any:
    def of(cell: dict[str, Any]) -> float:
        return seconds[cell["framework"]] / (1.5 if cell["devices"] == 2 else 1)

    return of


def find(verdicts: list[Verdict], question: str, subject: str, other: str) -> Verdict:
    """Returns the first matching verdict; ``subject`` and ``other`` are prefixes of cell names."""
    return next(
        v
        for v in verdicts
        if v.question == question and v.subject.startswith(subject) and v.other.startswith(other)
    )


def test_the_faster_cell_is_named_with_ratio_and_interval() -> None:
    lines = grid_lines(seconds=by_framework(jax=0.010, tensorflow=0.020, torch=0.0121))
    _setting, verdicts = judged(lines)
    found = find(verdicts, "at equal devices", "jax", "tensorflow")
    assert found.outcome == "faster"
    assert found.ratio.low is not None
    assert found.ratio.high is not None
    assert found.ratio.low < 2.0 < found.ratio.high
    assert found.ratio.high - found.ratio.low < 0.2
    gain = find(verdicts, "against bare", "torch ddp on 2", "torch bare")
    assert gain.outcome == "faster"
    assert gain.ratio.value == pytest.approx(1.5, rel=0.03)


def test_equal_cells_show_no_difference() -> None:
    _, verdicts = judged(grid_lines(seconds=lambda cell: 0.01, noise=0.02))
    assert {verdict.outcome for verdict in verdicts} == {"no difference shown"}


def test_a_slowdown_on_two_devices_has_the_verdict_slower() -> None:
    lines = grid_lines(seconds=lambda cell: 0.01 * cell["devices"])
    _, verdicts = judged(lines)
    assert find(verdicts, "against bare", "torch ddp on 2", "torch bare").outcome == "slower"


@pytest.mark.parametrize("runs", [1, 2])
def test_too_few_runs_have_no_verdict(runs: int) -> None:
    lines = grid_lines(runs=runs, seconds=by_framework(jax=0.001, tensorflow=1.0, torch=9.0))
    _, verdicts = judged(lines)
    assert verdicts
    assert {verdict.outcome for verdict in verdicts} == {"no verdict"}
    assert {verdict.p for verdict in verdicts} == {None}
    assert all("no interval" in verdict.evidence for verdict in verdicts)


def test_comparisons_of_equal_cells_rarely_show_a_difference() -> None:
    """Without the correction, 5 % of the comparisons of equal cells would show a difference."""
    random = np.random.default_rng(3)
    shown = total = 0
    for _ in range(100):
        lines = grid_lines(seconds=lambda cell: 0.01, runs=5, noise=0.0)
        for line in lines:
            line["examples_per_second"] *= float(np.exp(0.03 * random.normal()))
        _, verdicts = judged(lines)
        # The fastest of several equal cells is fastest by chance; the bound allows for this.
        shown += any(v.outcome in ("faster", "slower") for v in verdicts)
        total += 1
    assert shown <= 0.08 * total


def test_oversubscribed_cells_are_not_compared() -> None:
    lines = grid_lines(devices=(1, 4), seconds=lambda cell: 0.01 / cell["devices"])
    setting, verdicts = judged(lines)
    assert all(cell.cell.devices == 1 for _, cell in champions(setting))
    assert all("4 devices" not in verdict.subject for verdict in verdicts)


def test_failed_cells_are_not_compared() -> None:
    lines = grid_lines(seconds=by_framework(jax=0.010, tensorflow=0.02, torch=0.03))
    for line in lines:
        if line["cell"]["framework"] == "jax":
            line |= {"status": "failed", "error": "broke"}
    setting, verdicts = judged(lines)
    assert champions(setting)[0][1].cell.framework == "tensorflow"
    assert all("jax" not in verdict.subject + verdict.other for verdict in verdicts)


def test_one_framework_alone_compares_its_strategies() -> None:
    lines = [
        make_line(make_cell("jax", strategy, 2), run, seconds * (1 + 0.01 * run), sequence=run)
        for strategy, seconds in (("pjit", 0.01), ("pmap", 0.02))
        for run in range(3)
    ]
    _setting, verdicts = judged(lines)
    assert find(verdicts, "at equal devices", "jax pjit", "jax pmap").outcome == "faster"


def test_the_same_comparison_at_equal_and_at_any_devices_is_counted_once() -> None:
    """If all frameworks are fastest on two devices, no second comparison is made."""
    lines = grid_lines(seconds=by_framework(jax=0.010, tensorflow=0.020, torch=0.03))
    setting, verdicts = judged(lines)
    assert not [v for v in verdicts if v.question == "at any devices"]
    assert [v.other.split()[0] for v in overall(setting, verdicts)] == ["tensorflow", "torch"]

    def torch_alone_gains(cell: dict[str, Any]) -> float:
        gains = cell["framework"] == "torch" and cell["devices"] == 2
        return 0.005 if gains else 0.01 * cell["devices"]

    setting, verdicts = judged(grid_lines(seconds=torch_alone_gains))
    found = overall(setting, verdicts)
    assert {v.question for v in found} == {"at any devices"}
    assert {v.subject for v in found} == {"torch ddp on 2 devices"}
    assert {v.other_cell.cell.devices for v in found if v.other_cell} == {1}
