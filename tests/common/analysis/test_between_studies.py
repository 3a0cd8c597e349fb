"""The same cells in two studies, and cells of one study against the first."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from isoscale.common.analysis.answers import DIFFERENT, LEVEL, NOT_DECIDED, holm, p_beyond
from isoscale.common.analysis.between_studies import (
    CellDifference,
    between,
    fields_apart,
    match,
    other_work,
    within,
)
from isoscale.common.analysis.estimates import WELCH
from isoscale.common.analysis.run_pairs import PAIRED, unpaired_ratio
from isoscale.common.analysis.scaling import CellSummary, summarize_cells
from isoscale.common.analysis.turns import METHOD, PairedRatio
from isoscale.common.study.records import SharedCell
from tests.common.report.fake_study import make_cell, make_line, read_lines, turns_lines

TORCH, JAX = make_cell("torch", "bare", 1), make_cell("jax", "bare", 1)
MACHINE = {"cpu_model": "A", "usable_cores": 2}


def runs(cell: dict[str, Any], seconds: Sequence[float], **changes: Any) -> list[dict[str, Any]]:
    return [make_line(cell, run, s, sequence=run, **changes) for run, s in enumerate(seconds)]


def summary(lines: list[dict[str, Any]]) -> CellSummary:
    (found,) = summarize_cells(read_lines(lines), scaling="strong")
    return found


def cells(*made: dict[str, Any]) -> list[CellSummary]:
    lines = [line for cell in made for line in runs(cell, [0.01] * 3)]
    return summarize_cells(read_lines(lines), scaling="strong")


def diff(
    a: Sequence[float], b: Sequence[float], *, threshold: float = 0.05, cells: int = 1
) -> CellDifference:
    """Returns the comparison of two lists of times, as the first of several such cells."""
    pair = summary(runs(TORCH, a)), summary(runs(TORCH, b))
    return between([pair] * cells, threshold=threshold)[0]


def spread(center: float, half: float, n: int = 6) -> list[float]:
    return [center * math.exp(half * x) for x in np.linspace(-1, 1, n)]


def test_the_ratio_is_that_of_throughputs_b_over_a_with_welchs_interval() -> None:
    a, b = [0.010, 0.011, 0.0105, 0.0102], [0.013, 0.012, 0.0125]
    found = diff(a, b)
    assert isinstance(found.ratio, PairedRatio)
    test = stats.ttest_ind(np.log(a), np.log(b), equal_var=False)
    low, high = np.exp(test.confidence_interval(0.95))
    assert found.ratio.value == pytest.approx(stats.gmean(a) / stats.gmean(b))
    assert (found.ratio.low, found.ratio.high) == (pytest.approx(low), pytest.approx(high))
    assert (found.p, found.ratio.method) == (pytest.approx(test.pvalue), WELCH)
    first, second = found.throughputs
    assert first is not None
    assert second is not None
    assert second / first == pytest.approx(found.ratio.value)
    assert first == pytest.approx(64 / stats.gmean(a))


def test_groups_of_two_studies_that_took_turns_are_not_paired() -> None:
    """Their typical time is that of their valid rounds; a group without three does not count."""
    noise = {"process": 0.01, "window": 0.002}
    spoilt = turns_lines(
        [(TORCH, 0.010)], groups=5, **noise, disturbed=lambda _, group, number: group == 2
    )
    a, b = summary(turns_lines([(TORCH, 0.010)], groups=5, **noise)), summary(spoilt)
    (found,) = between([(a, b)], threshold=0.05)
    assert found.ratio is not None
    assert found.ratio.n == (4, 5)
    four = {run: s for run, s in a.seconds_per_example.items() if run != 2}
    assert b.seconds_per_example == four
    assert found.ratio == unpaired_ratio(list(four.values()), list(a.seconds_per_example.values()))
    (paired,) = within([(a, b)], threshold=0.05)  # the same rounds: ratio 1
    assert paired.ratio is not None
    assert paired.ratio.high == pytest.approx(1, abs=1e-5)
    assert found.ratio.high is not None
    assert found.ratio.high > 1.005


@pytest.mark.parametrize("a, b, text, slower", [
    (spread(1, 0.01), spread(1.20, 0.01), "slower by more than 5 %", True),
    (spread(1.20, 0.01), spread(1, 0.01), "faster by more than 5 %", False),
    (spread(1, 0.05), spread(1.10, 0.05), "slower", False),
    (spread(1, 0.005), spread(1.02, 0.005), "slower, but within 5 %", False),
    (spread(1.02, 0.005), spread(1, 0.005), "faster, but within 5 %", False),
    (spread(1, 0.02), spread(1.001, 0.02), "the same within 5 %", False),
    (spread(1, 0.20), spread(1.05, 0.20), "not decided", False),
    (spread(1, 0.01), spread(1.2, 0.01, 2), "not decided: fewer than 3 runs", False),
])  # fmt: skip
def test_the_answers(a: list[float], b: list[float], text: str, slower: bool) -> None:
    found = diff(a, b)
    assert (found.text, found.slower) == (text, slower)
    assert found.decided == (not text.startswith("not decided"))


def test_slower_by_more_than_the_threshold_means_the_interval_beyond_it() -> None:
    """A threshold just inside the upper end of the interval is exceeded, one just outside not."""
    a, b = spread(1, 0.05), spread(1.15, 0.05)
    ratio = diff(a, b).ratio
    assert ratio is not None
    assert ratio.high is not None
    edge = 1 / ratio.high - 1
    assert 0.02 < edge < 0.14
    inside, outside = (diff(a, b, threshold=edge + d) for d in (-1e-4, 1e-4))
    assert (inside.slower, outside.slower) == (True, False)
    assert inside.p_beyond == pytest.approx(0.05, abs=0.001)
    several = diff(a, b, threshold=edge - 1e-4, cells=3)
    assert several.p_beyond == pytest.approx(3 * inside.p_beyond)
    assert (several.slower, several.answer) == (False, DIFFERENT)


def test_a_cell_beyond_the_threshold_is_always_different() -> None:
    random = np.random.default_rng(0)
    shown = 0
    for _ in range(300):
        ratios = [
            unpaired_ratio(
                np.exp(random.normal(size=3) * 0.1).tolist(),
                np.exp(shift + random.normal(size=4) * 0.1).tolist(),
            )
            for shift in random.normal(size=4) * 0.3
        ]
        margin = float(random.choice([1e-6, 0.01, 0.1]))
        both = [[p_beyond(r, margin) for r in ratios], [r.p for r in ratios]]
        beyond, different = (holm(np.array(p)) for p in both)
        assert (beyond >= different).all()
        shown += int((beyond <= LEVEL).sum())
    assert shown > 50


def test_at_the_threshold_and_at_1_false_answers_are_rare() -> None:
    """400 diffs of four cells; an error in any cell of a diff counts."""
    random = np.random.default_rng(1)
    wrong = {"slower": 0, "different": 0, "same": 0}
    for _ in range(400):

        def p_values(shift: float) -> list[PairedRatio]:
            return [
                unpaired_ratio(
                    np.exp(shift + random.normal(size=4) * 0.02).tolist(),
                    np.exp(random.normal(size=5) * 0.03).tolist(),
                )
                for _ in range(4)
            ]

        at_threshold = p_values(math.log1p(0.05))
        beyond = holm(np.array([p_beyond(ratio, 0.05) for ratio in at_threshold]))
        slower = [ratio.value < 1 for ratio in at_threshold]
        wrong["slower"] += bool(((beyond <= LEVEL) & slower).any())
        wrong["different"] += bool((holm(np.array([r.p for r in p_values(0)])) <= LEVEL).any())
    assert 0 < wrong["slower"] <= 0.05 * 400
    assert 0 < wrong["different"] <= 0.07 * 400


def test_cells_match_by_their_fields_whatever_their_order() -> None:
    ddp = make_cell("torch", "ddp", 2)
    a, b = cells(TORCH, JAX, ddp), cells(make_cell("torch", "ddp", 1), JAX, TORCH)
    found = match(a, b)
    assert [(x.cell, y.cell) for x, y in found.pairs] == [(a[0].cell,) * 2, (a[1].cell,) * 2]
    assert {side: [x.cell for x in only] for side, only in found.only.items()} == {
        "A": [a[2].cell],
        "B": [b[0].cell],
    }


@pytest.mark.parametrize("changes, field", [
    ({"tweaks": ["huge-pages"]}, "tweaks"),
    ({"tweaks": ["blocks"], "steps_per_dispatch": 8}, "tweaks"),
    ({"oversubscribed": True}, "oversubscribed"),
])  # fmt: skip
def test_cells_match_that_differ_in_tweaks_or_shared_cores_only(changes, field: str) -> None:
    tuned = make_cell("torch", "bare", 1, tuning="tuned")
    a, b = cells(JAX, tuned), cells({**tuned, **changes}, JAX)
    found = match(a, b)
    assert [(x.cell, y.cell) for x, y in found.pairs] == [
        (b[1].cell, b[1].cell),
        (a[1].cell, b[0].cell),
    ]
    assert field in fields_apart(a[1].cell, b[0].cell)
    assert found.only == {"A": [], "B": []}


@pytest.mark.parametrize("changes", [
    {"tuning": "ladder", "tweaks": ["x"]},
    {"global_batch_size": 32, "tweaks": ["x"]},
    {"env": ["OMP_NUM_THREADS=1"]},
    {"compile_mode": "compile"},
    {"optimizer": {"name": "adamw", "learning_rate": 0.002}},
])  # fmt: skip
def test_other_cells_do_not_match(changes: dict[str, Any]) -> None:
    lane = changes.get("tuning", "stock")
    found = match(cells({**TORCH, "tuning": lane}), cells({**TORCH, **changes}))
    assert found.pairs == []
    assert [len(found.only[side]) for side in ("A", "B")] == [1, 1]


def test_of_several_cells_that_differ_in_tweaks_none_matches() -> None:
    first, second = ({**TORCH, "tweaks": [name]} for name in ("x", "y"))
    found = match(cells(TORCH), cells(first, second))
    assert found.pairs == []
    assert len(found.only["B"]) == 2
    assert len(match(cells(TORCH), cells(first, second, TORCH)).pairs) == 1


def test_a_shared_cell_matches_a_cell_with_runs_of_its_own_only() -> None:
    (stock,) = cells(TORCH)
    tuned = dataclasses.replace(
        stock,
        cell=dataclasses.replace(stock.cell, tuning="tuned"),
        shared=SharedCell(cell_id=stock.cell.id, lane="tuned"),
    )
    both = match([stock, tuned], [stock, tuned])
    assert [x.cell.tuning for x, _ in both.pairs] == ["stock"]
    assert both.only == {"A": [], "B": []}
    own = cells(TORCH, {**TORCH, "tuning": "tuned", "tweaks": ["x"]})
    assert [y.cell.tweaks for _, y in match([stock, tuned], own).pairs] == [(), ("x",)]


@pytest.mark.parametrize("lines, why", [
    (runs(TORCH, [0.01] * 3, status="failed", error="broken"), "no successful run in B"),
    (runs(TORCH, [0.01] * 3, disturbed=True), "all runs of B were disturbed from outside"),
    (
        [{**line, "machine": {**MACHINE, "usable_cores": 2 + run}}
         for run, line in enumerate(runs(TORCH, [0.01] * 3))],
        "the runs of B differ in usable_cores",
    ),
    (turns_lines([(TORCH, 0.01)], disturbed=lambda *_: True),
     "all rounds of a cell were disturbed from outside"),
    (runs({**TORCH, "oversubscribed": True}, [0.01] * 3), "devices shared cores"),
])  # fmt: skip
def test_a_cell_that_must_not_be_compared_has_a_reason_and_no_test(lines, why: str) -> None:
    (found,) = between([(summary(runs(TORCH, spread(0.02, 0.01))), summary(lines))], threshold=0.05)
    assert (found.text, found.p, found.p_beyond) == (f"not decided: {why}", None, None)
    assert (found.slower, found.decided) == (False, False)


def test_a_cell_without_a_test_is_no_part_of_the_family() -> None:
    slow = summary(runs(TORCH, spread(1.2, 0.06))), summary(runs(TORCH, spread(1.4, 0.06)))
    few = summary(runs(JAX, [1.0])), summary(runs(JAX, [2.0]))
    alone, with_few = between([slow], threshold=0.05)[0], between([few, slow], threshold=0.05)[1]
    assert alone.p_beyond is not None
    assert with_few.p_beyond == alone.p_beyond


def test_cells_of_one_study_are_compared_within_rounds() -> None:
    noise = {"process": 0.002, "window": 0.002}
    still = turns_lines([(JAX, 0.010), (TORCH, 0.012)], **noise)
    moved = turns_lines([(JAX, 0.010), (TORCH, 0.012)], **noise, drift=0.4)
    found = []
    for lines in (still, moved):
        pair = summarize_cells(read_lines(lines), scaling="strong")
        found += within([(pair[0], pair[1])], threshold=0.05)
    first, second = (entry.ratio for entry in found)
    assert isinstance(first, PairedRatio)
    assert isinstance(second, PairedRatio)
    assert (first.method, first.groups) == (METHOD, 4)
    assert (second.low, second.high) == pytest.approx((first.low, first.high))
    assert first.value == pytest.approx(10 / 12, rel=0.01)
    assert found[0].text == "slower by more than 5 %"


def test_cells_that_did_not_take_turns_together_are_paired_by_run() -> None:
    large = {**TORCH, "global_batch_size": 128}
    lines = turns_lines([(TORCH, 0.010)], process=0.002, groups=4)
    lines += turns_lines([(large, 0.015)], process=0.002, groups=4, began="2026-11-25")
    a, b = summarize_cells(read_lines(lines), scaling="strong")
    (found,) = within([(a, b)], threshold=0.05)
    assert isinstance(found.ratio, PairedRatio)
    assert found.ratio.method == PAIRED
    assert found.ratio.value == pytest.approx(2 * 10 / 15, rel=0.01)  # of examples, not of steps


def test_cells_of_one_study_under_different_conditions_have_no_test() -> None:
    a = summary(runs(JAX, spread(1, 0.01), machine=MACHINE))
    b = summary(runs(TORCH, spread(2, 0.01), machine={**MACHINE, "cpu_model": "B"}))
    (found,) = within([(a, b)], threshold=0.05)
    assert (found.text, found.answer) == ("not decided: the runs differ in cpu_model", NOT_DECIDED)
    assert other_work(a.cell, b.cell) == []
    assert other_work(a.cell, summary(runs({**TORCH, "model": "m"}, [1.0])).cell) == ["model"]
