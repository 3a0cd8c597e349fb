"""From which size on several devices beat one: the crossing, the answers, the curves."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from isoscale.common.analysis.correction import in_one_family
from isoscale.common.analysis.crossover import (
    ALWAYS,
    FROM_A_SIZE,
    NEVER,
    NOT_DECIDED,
    NOT_FOR_GOOD,
    PAYS,
    PAYS_NOT,
    TOO_FEW,
    UNDECIDED,
    UNKNOWN,
    Crossover,
    Curve,
    Level,
    Pays,
    SweepCurves,
    crossings,
    curves_of,
    find,
)
from isoscale.common.analysis.scaling import Scaling, summarize_cells
from isoscale.common.analysis.settings import split_into_settings
from isoscale.common.analysis.sweeps import find_sweeps
from tests.benchmarks import crossovers
from tests.benchmarks.noise import Noise
from tests.common.report.fake_study import make_cell, make_line, read_lines, turns_lines

AT = np.log([16.0, 32.0, 64.0, 128.0])


def test_a_straight_line_crosses_where_it_crosses() -> None:
    ratios = 0.5 * (AT - math.log(50))
    straight, curved = crossings(AT, ratios)
    assert math.exp(float(straight)) == pytest.approx(50)
    assert math.exp(float(curved)) == pytest.approx(50)


def test_the_parabola_is_closer_to_a_curve_than_the_line() -> None:
    """One device takes c x size, two half of that and a fixed time: they are equal at 50."""
    ratios = crossovers.overhead(AT - math.log(50))
    straight, curved = (math.exp(float(found)) for found in crossings(AT, ratios))
    assert straight == pytest.approx(51.3, abs=0.1)
    assert curved == pytest.approx(50, abs=0.2)


def test_the_last_crossing_counts_and_ends_are_infinite() -> None:
    rows = [[-1, 1, -1, 1], [1, 1, 1, 1], [-1, -1, -1, -1], [1, 1, 1, -1], [0, 1, 1, 1]]
    straight, curved = crossings(AT, np.array(rows, float))
    middle = math.log(64 * math.sqrt(2))
    assert straight.tolist() == pytest.approx([middle, -math.inf, math.inf, math.inf, AT[0]])
    assert np.isfinite(curved).tolist() == [True, False, False, False, True]
    assert AT[2] <= curved[0] <= AT[3]


def test_two_sizes_have_no_curvature() -> None:
    straight, curved = crossings(AT[:2], np.array([-1.0, 1.0]))
    assert straight == curved == pytest.approx(math.log(16 * math.sqrt(2)))


_VALUES: dict[str, tuple[Pays, float]] = {
    "+": (PAYS, 0.3),
    "-": (PAYS_NOT, -0.3),
    "?": (UNDECIDED, 0.0),
}


def answer(shown: str, *, error: float = 0.02) -> Crossover:
    """Returns the answer for sizes 1, 2, 4, ...: + pays, - does not, ? is open."""
    levels = [
        Level(size=2.0**i, center=_VALUES[s][1], error=error, degrees=5, pays=_VALUES[s][0])
        for i, s in enumerate(shown)
    ]
    return find(levels)


@pytest.mark.parametrize(
    ("shown", "kind"),
    [
        ("--++", FROM_A_SIZE),
        ("-??+", FROM_A_SIZE),
        ("?-++", FROM_A_SIZE),
        ("+-+", FROM_A_SIZE),
        ("-+?+", FROM_A_SIZE),
        ("+++", ALWAYS),
        ("---", NEVER),
        ("++-", NOT_FOR_GOOD),
        ("-+-", NOT_FOR_GOOD),
        ("--?", NOT_DECIDED),
        ("?++", NOT_DECIDED),
        ("???", NOT_DECIDED),
        ("?--", NOT_DECIDED),
        ("+-?", NOT_DECIDED),
        ("-+?", NOT_DECIDED),
        ("-+", TOO_FEW),
        ("++", TOO_FEW),
        ("", TOO_FEW),
    ],
)
def test_each_pattern_of_sizes_has_its_answer(shown: str, kind: str) -> None:
    found = answer(shown)
    assert found.kind == kind
    assert (found.value is not None) == (kind == FROM_A_SIZE)


def test_the_crossover_lies_in_its_interval_and_within_the_sizes() -> None:
    found = answer("--++")
    assert found.value == pytest.approx(2 * math.sqrt(2))
    assert found.low is not None
    assert found.high is not None
    assert 2 < found.low < found.value < found.high < 4
    wide = answer("--++", error=0.1)
    assert wide.low is not None
    assert wide.high is not None
    assert wide.low < found.low < found.high < wide.high
    assert 1 <= wide.low < wide.high <= 8


def test_a_series_that_is_not_monotone_says_so() -> None:
    found = answer("+-+")
    assert found.earlier == (1,)
    assert found.value == pytest.approx(2 * math.sqrt(2))  # for good
    assert answer("++-").earlier == (1, 2)
    assert answer("--+").earlier == ()


def test_what_is_not_decided_has_what_is_known() -> None:
    found = answer("--??+")
    assert found.kind == FROM_A_SIZE
    found = answer("-?+?")
    assert (found.low, found.high, found.undecided) == (1, None, (2, 8))
    found = answer("?+++")
    assert (found.low, found.high, found.undecided) == (None, 2, (1,))
    found = answer("?--")
    assert (found.low, found.high, found.undecided) == (4, None, (1,))


def study(
    seconds: dict[int, tuple[float, float]],
    *,
    groups: int = 5,
    in_turns: bool = True,
    strategies: Sequence[tuple[str, int]] = (("bare", 1), ("ddp", 2)),
    **changes: Any,
) -> list[dict[str, Any]]:
    """Returns the lines of batches with (seconds on one device, seconds on several)."""
    lines: list[dict[str, Any]] = []
    for batch, times in seconds.items():
        cells = [
            (
                make_cell(
                    "torch", name, count, global_batch_size=batch, oversubscribed=False, **changes
                ),
                times[count > 1],
            )
            for name, count in strategies
        ]
        if in_turns:
            own = turns_lines(cells, groups=groups, process=0.01, window=0.01)
        else:
            spread = (0.99, 1.0, 1.01, 1.005, 0.995)
            own = [
                make_line(cell, run, value * spread[(run + 2 * index) % 5], sequence=0)
                for run in range(groups)
                for index, (cell, value) in enumerate(cells)
            ]
        for line in own:
            line["sequence"] = len(lines)
            lines.append(line)
    return lines


def curves(lines: list[dict[str, Any]], *, scaling: Scaling = "strong") -> list[Curve]:
    summaries = summarize_cells(read_lines(lines), scaling=scaling)
    sweeps = find_sweeps(split_into_settings(summaries, scaling=scaling))
    found: list[SweepCurves] = in_one_family(lambda tests: curves_of(sweeps, tests))[0]
    return [curve for entry in found for curve in entry.curves]


def planted(batch: int, start: int = 100) -> tuple[float, float]:
    """Returns seconds on one device and on two, equal at a batch of ``start``."""
    return 1e-4 * batch, 1e-4 * (batch + start) / 2


BATCHES = {batch: planted(batch) for batch in (32, 64, 128, 256)}


@pytest.mark.parametrize("in_turns", [True, False])
def test_a_planted_crossover_is_found_in_a_study(in_turns: bool) -> None:
    (curve,) = curves(study(BATCHES, in_turns=in_turns))
    assert (curve.series, curve.devices, curve.base) == ("torch ddp", 2, "bare")
    assert [point.member.size for point in curve.points] == [32, 64, 128, 256]
    assert [point.pays for point in curve.points] == [PAYS_NOT, PAYS_NOT, PAYS, PAYS]
    found = curve.answer
    assert found.kind == FROM_A_SIZE
    assert found.value == pytest.approx(100, rel=0.1)
    assert found.low is not None
    assert found.high is not None
    assert 64 < found.low < 100 < found.high < 128


def test_the_figures_of_runs_are_those_of_the_comparison() -> None:
    (curve,) = curves(study(BATCHES, in_turns=False))
    for point in curve.points:
        assert point.level is not None
        assert point.level.center == pytest.approx(math.log(point.tested.ratio.value))
        assert point.level.error > 0


def test_bare_is_the_base_unless_the_strategy_has_more_sizes() -> None:
    both = (("bare", 1), ("ddp", 1), ("ddp", 2))
    (curve,) = curves(study(BATCHES, strategies=both))
    assert curve.base == "bare"
    lines = study(BATCHES, strategies=both)
    kept = [
        line
        for line in lines
        if line["cell"]["strategy"] != "bare" or line["cell"]["global_batch_size"] > 32
    ]
    (curve,) = curves(kept)
    assert curve.base == "ddp"
    assert len(curve.points) == 4
    without = [
        line
        for line in study(BATCHES)
        if line["cell"]["strategy"] != "bare" or line["cell"]["global_batch_size"] > 32
    ]
    (curve,) = curves(without)
    assert curve.base == "bare"
    assert curve.without_base == [32]
    assert [point.member.size for point in curve.points] == [64, 128, 256]


def test_cells_whose_devices_shared_cores_do_not_count() -> None:
    lines = study(BATCHES, strategies=(("bare", 1), ("ddp", 2), ("ddp", 4)))
    for line in lines:
        if line["cell"]["devices"] == 4:
            line["cell"]["oversubscribed"] = True
    assert [curve.devices for curve in curves(lines)] == [2]
    only = [line for line in lines if line["cell"]["devices"] != 2]
    assert curves(only) == []


def test_several_device_counts_have_curves_of_their_own() -> None:
    found = curves(study(BATCHES, strategies=(("bare", 1), ("ddp", 2), ("ddp", 4))))
    assert [curve.devices for curve in found] == [2, 4]


def test_two_groups_and_two_sizes_are_too_few() -> None:
    (curve,) = curves(study(BATCHES, groups=2))
    assert curve.answer.kind == TOO_FEW
    assert {point.pays for point in curve.points} == {UNKNOWN}
    (curve,) = curves(study({size: BATCHES[size] for size in (32, 256)}))
    assert curve.answer.kind == TOO_FEW
    assert [point.pays for point in curve.points] == [PAYS_NOT, PAYS]


def test_sizes_with_other_conditions_are_left_out_of_the_answer() -> None:
    lines = study(BATCHES)
    for line in lines:
        if line["cell"]["global_batch_size"] == 64 and line["cell"]["devices"] == 2:
            line["versions"] = {"torch": "9.9", "python": "3.11.7"}
    (curve,) = curves(lines)
    assert [point.pays for point in curve.points] == [PAYS_NOT, UNKNOWN, PAYS, PAYS]
    assert [level.size for level in curve.levels] == [32, 128, 256]


def test_always_and_never() -> None:
    (always,) = curves(study({batch: planted(batch, 5) for batch in (32, 64, 128)}))
    (never,) = curves(study({batch: planted(batch, 1000) for batch in (32, 64, 128)}))
    assert (always.answer.kind, never.answer.kind) == (ALWAYS, NEVER)


def test_the_answers_are_corrected_for_all_comparisons() -> None:
    """With many sizes a difference that one test would show is not shown."""
    few = {batch: (1e-4 * batch, 0.985e-4 * batch) for batch in (32, 64, 128)}
    (curve,) = curves(study(few, groups=4))
    raw = [point.tested.ratio.p for point in curve.points]
    for point, p in zip(curve.points, raw, strict=True):
        assert p is not None
        assert point.tested.p is not None
        assert point.tested.p > p


def test_simulated_crossovers_are_found_and_covered() -> None:
    """A small part of ``make coverage``."""
    noise = Noise(process=0.03, window=0.013, correlation=0.1, stalls=0.01, stall=0.1)
    for planted_curve in (crossovers.line(0.5), crossovers.overhead):
        found = crossovers.simulate(
            noise, np.random.default_rng(0), planted_curve, studies=200, groups=4
        )
        assert found.near > 0.9
        assert 0.92 <= found.covered <= 0.995
        assert found.by_groups < found.covered - 0.05
        assert abs(found.bias) < 0.03
