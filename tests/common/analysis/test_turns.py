import math
import statistics

import numpy as np
import pytest
from scipy import stats

from isoscale.common.analysis import turns, variances
from isoscale.common.analysis.turns import METHOD, THESE_PROCESSES, PairedRatio, paired_ratio
from isoscale.common.analysis.variances import Components
from tests.benchmarks import studies
from tests.benchmarks.noise import Noise, draw

NOISE = Noise(process=0.02, window=0.02, correlation=0.3, stalls=0.03, stall=0.2)


def sides(*groups: list[float | None]) -> tuple[dict, dict]:
    """Returns two cells with these log ratios; the first has 2 s, then 3 s, ... a step."""
    a = {g: [2.0 + r for r in range(len(rows))] for g, rows in enumerate(groups)}
    b = {
        g: [None if d is None else (2.0 + r) * math.exp(d) for r, d in enumerate(rows)]
        for g, rows in enumerate(groups)
    }
    return a, b


def simulated(cells: int = 2, groups: int = 4, rounds: int = 10) -> list[dict[int, list[float]]]:
    times = np.exp(
        draw(
            NOISE,
            np.random.default_rng(3),
            studies=1,
            levels=[0.1 * c for c in range(cells)],
            groups=groups,
            rounds=rounds,
        )[0]
    )
    return [{g: cell[g].tolist() for g in range(groups)} for cell in times]


def test_three_groups_by_hand() -> None:
    ratio = paired_ratio(*sides([0.1, 0.2, 0.9], [0.3, 0.0, 0.2], [0.4, 0.3, 0.2]))
    # Of 3 rounds the middle one stays: 0.2, 0.2, 0.3 have the mean 0.7 / 3, the error 0.1 / 3.
    half = 4.302652729911275 * 0.1 / 3
    assert ratio.value == pytest.approx(math.exp(0.7 / 3))
    assert ratio.low == pytest.approx(math.exp(0.7 / 3 - half))
    assert ratio.high == pytest.approx(math.exp(0.7 / 3 + half))
    assert ratio.p == pytest.approx(1 - 7 / math.sqrt(51))  # Student's t of 7 with 2 degrees
    assert (ratio.error, ratio.degrees) == (pytest.approx(0.1 / 3), 2)
    assert (ratio.n, ratio.groups, ratio.rounds, ratio.method) == ((3, 3), 3, 9, METHOD)


@pytest.mark.parametrize("values, mean", [
    ([4.0], 4.0),
    ([4.0, 6.0], 5.0),
    ([100.0, 1.0, 2.0], 2.0),
    ([100.0, 1.0, 2.0, 4.0], 3.0),
    ([100.0, 1.0, 2.0, 4.0, 3.0], 3.0),
    ([100.0, 1.0, 2.0, 4.0, 3.0, 90.0, 5.0, 6.0, 7.0, -50.0], 4.5),
    ([100.0, 1.0, 2.0, 4.0, 3.0, 90.0], 3.5),
    ([math.nan, 100.0, 1.0, math.nan, 2.0], 2.0),
])  # fmt: skip
def test_the_trimmed_mean_by_hand(values: list[float], mean: float) -> None:
    assert turns.trimmed_mean(np.array(values)) == pytest.approx(mean)


@pytest.mark.parametrize("n", [5, 10, 25])
def test_the_variance_of_a_round_is_that_of_yuens_test(n: int) -> None:
    random = np.random.default_rng(n)
    a, b = random.normal(size=n), random.normal(size=n) + 1
    error = math.sqrt((turns.round_variance(a) + turns.round_variance(b)) / n)
    t = (turns.trimmed_mean(a) - turns.trimmed_mean(b)) / error
    assert t == pytest.approx(stats.ttest_ind(a, b, equal_var=False, trim=0.2).statistic)


def test_invalid_rounds_are_no_part_of_the_arrays() -> None:
    values = np.random.default_rng(0).normal(size=(3, 12))
    holes = np.insert(values, [2, 7, 12], math.nan, axis=1)
    for function in (turns.trimmed_mean, turns.round_variance):
        assert function(holes) == pytest.approx(function(values))
    narrow = np.concatenate([values, np.full((3, 4), math.nan)], axis=1)
    assert turns.correlation(narrow) == pytest.approx(turns.correlation(values))


def test_drift_common_to_both_cells_changes_nothing() -> None:
    a, b = simulated()
    drift = np.random.default_rng(1).uniform(0.5, 2, size=(4, 10))
    moved = [{g: (drift[g] * cell[g]).tolist() for g in cell} for cell in (a, b)]
    one, other = paired_ratio(a, b), paired_ratio(*moved)
    for name in ("value", "low", "high", "p", "error"):
        assert getattr(other, name) == pytest.approx(getattr(one, name)), name


def test_swapped_cells_give_the_inverse() -> None:
    a, b = simulated()
    one, other = paired_ratio(a, b).inverse(), paired_ratio(b, a)
    assert isinstance(one, PairedRatio)
    for name in ("value", "low", "high", "p", "error", "degrees"):
        assert getattr(other, name) == pytest.approx(getattr(one, name)), name


def test_a_stall_moves_the_ratio_little() -> None:
    a, b = simulated()
    before = paired_ratio(a, b)
    b[2][4] *= 10  # the mean over 4 x 10 log ratios moves by log(10) / 40 = 5.8 %
    after = paired_ratio(a, b)
    assert after.value != before.value
    assert abs(math.log(after.value / before.value)) < 0.01


def test_rounds_and_groups_that_one_cell_lacks_do_not_count() -> None:
    a, b = simulated(groups=5, rounds=6)
    whole = paired_ratio({g: a[g] for g in (0, 1, 3)}, {g: b[g] for g in (0, 1, 3)})
    del a[2]  # the process of one cell failed in the whole group
    b[4][2:] = [None] * 4  # two rounds are too few
    b[1] += [5.0, 6.0]  # rounds that only one cell has
    a[3].insert(2, None)
    b[3].insert(2, 7.0)
    ratio = paired_ratio(a, b)
    assert (ratio.value, ratio.low) == (pytest.approx(whole.value), pytest.approx(whole.low))
    assert (ratio.groups, ratio.rounds) == (3, 18)


def test_one_and_two_groups_have_an_interval_for_these_processes_and_no_p() -> None:
    a, b = simulated(groups=2, rounds=10)
    for groups in ((0,), (0, 1)):
        ratio = paired_ratio({g: a[g] for g in groups}, {g: b[g] for g in groups})
        assert ratio.method == THESE_PROCESSES
        assert (ratio.p, ratio.error, ratio.degrees) == (None, None, None)
        assert ratio.low is not None
        assert ratio.low < ratio.value < ratio.high
        assert ratio.groups == len(groups)


def test_intervals_from_rounds_need_five_rounds_and_ratios_one() -> None:
    four = paired_ratio(*sides([0.1, 0.1, 0.3, 0.4]))
    assert (four.value, four.low, four.method) == (pytest.approx(math.exp(0.2)), None, "")
    two = paired_ratio(*sides([0.1, 0.2], [0.1, 0.4], [0.1, 0.6]))
    assert (two.value, two.low, two.p, two.groups) == (pytest.approx(math.exp(0.25)), None, None, 3)
    with pytest.raises(ValueError, match="no round is valid in both cells"):
        paired_ratio({0: [1.0, None]}, {0: [None, 1.0], 1: [1.0]})


def test_equal_values_have_a_narrow_interval_and_a_positive_p() -> None:
    ratio = paired_ratio(*sides([0.1] * 5, [0.1] * 5, [0.1] * 5))
    assert 0 < ratio.p < 1e-6
    assert ratio.low < ratio.value < ratio.high < ratio.low * 1.00001
    same = paired_ratio(*sides([0.0] * 5, [0.0] * 5, [0.0] * 5))
    assert (same.value, same.p) == (pytest.approx(1), pytest.approx(1))
    alone = paired_ratio(*sides([0.1] * 5))
    assert alone.low < alone.value < alone.high


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_seconds_must_be_positive_and_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="seconds per step must be positive and finite"):
        paired_ratio({0: [1.0, bad]}, {0: [1.0, 1.0]})


def test_correlation_of_rounds() -> None:
    random = np.random.default_rng(0)
    for true in (0.0, 0.3, 0.6):
        rows = random.normal(size=(2000, 4, 25))
        for r in range(1, 25):
            rows[..., r] = true * rows[..., r - 1] + math.sqrt(1 - true**2) * rows[..., r]
        # Cut-off values and estimates that are never negative leave a small error.
        assert statistics.fmean(turns.correlation(rows)) == pytest.approx(true, abs=0.07)


def test_variances_by_hand() -> None:
    parts = variances.components(
        {0: np.array([-1.0, 0.0, 1.0]), 1: np.array([9.0, 10.0, 11.0]), 2: np.array([5.0])}
    )
    # Group means 0 and 10 have the variance 50, of which 1 / 3 is from rounds with variance 1.
    assert (parts.within, parts.between) == (pytest.approx(1), pytest.approx(50 - 1 / 3))
    assert parts.groups == 2
    assert parts.group_variance(4) == pytest.approx(50 - 1 / 3 + 1 / 4)


def test_variances_are_never_negative_and_one_group_has_none_between() -> None:
    same = {g: np.array([-1.0, 0.0, 1.0]) for g in range(4)}
    assert variances.components(same).between == 0
    assert variances.components({0: same[0]}) == Components(within=1.0, between=0.0, groups=1)
    with pytest.raises(ValueError, match="no group has 3 valid rounds"):
        variances.components({0: np.array([1.0, 2.0])})


@pytest.mark.parametrize("correlation", [0.0, 0.4])
def test_variances_of_simulated_studies_are_those_put_in(correlation: float) -> None:
    random = np.random.default_rng(2)

    def ratios(process: float, groups: int) -> np.ndarray:
        noise = Noise(process=process, window=0.03, correlation=correlation, stalls=0.02, stall=0.2)
        times = draw(noise, random, studies=2000, levels=(0.0, 0.1), groups=groups, rounds=20)
        return times[:, 1] - times[:, 0]

    within, between = variances.component_arrays(ratios(0.02, 5))
    assert between.min() >= 0
    assert math.sqrt(between.mean() / 2) == pytest.approx(0.02, rel=0.05)
    of_means = turns.trimmed_mean(ratios(0.0, 1)).var()
    assert math.sqrt(within.mean()) == pytest.approx(math.sqrt(20 * of_means), rel=0.1)


def test_variances_of_cells_are_those_that_add_up_to_their_pairs() -> None:
    def parts(between: float, groups: int = 4) -> Components:
        return Components(within=10 * between, between=between, groups=groups)

    cells = variances.of_cells(
        {("a", "b"): parts(3), ("c", "a"): parts(4), ("b", "c"): parts(5, 3)}
    )
    assert {name: round(each.between, 9) for name, each in cells.items()} == {
        "a": 1,
        "b": 2,
        "c": 3,
    }
    assert [round(cells[name].within, 9) for name in "abc"] == [10, 20, 30]
    assert [cells[name].groups for name in "abc"] == [4, 3, 3]
    cells = variances.of_cells({("a", "b"): parts(1), ("a", "c"): parts(1), ("b", "c"): parts(9)})
    assert min(each.between for each in cells.values()) == 0
    assert variances.of_cells({("a", "b"): parts(3)})["b"].between == 1.5


def test_intervals_and_answers_of_simulated_studies_are_right() -> None:
    """A small part of tests/benchmarks/coverage.py; bounds are 4 standard deviations wide."""
    number, random = 1000, np.random.default_rng(4)
    slack = 4 * math.sqrt(0.05 * 0.95 / number)
    apart = np.flatnonzero(studies.truths(studies.AT_MARGIN))
    for process in (0.01, 0.03, 0.05):
        noise = Noise(process=process, window=0.02, correlation=0.3, stalls=0.03, stall=0.2)
        for groups, rounds in ((3, 5), (6, 10)):
            equal, margin = (
                studies.simulate(
                    noise, random, studies=number, groups=groups, rounds=rounds, levels=levels
                )
                for levels in (studies.EQUAL, studies.AT_MARGIN)
            )
            covered = np.concatenate([equal.covered, margin.covered]).mean(axis=0)
            assert covered == pytest.approx(0.95, abs=slack), (process, groups)
            assert equal.different.any(axis=1).mean() < 0.05 + slack
            assert margin.same[:, apart].any(axis=1).mean() < 0.05 + slack


@pytest.mark.parametrize("first", [4, 6])
def test_the_interval_of_steins_rule_covers(first: int) -> None:
    random = np.random.default_rng(5)
    times = draw(NOISE, random, studies=1000, levels=studies.AT_MARGIN, groups=20, rounds=5)
    means = turns.trimmed_mean(studies.differences(times, studies.PLANNED))
    stopped = studies.stein_stops(
        means, studies.truths(studies.AT_MARGIN), first=first, target=0.04
    )
    slack = 4 * math.sqrt(0.05 * 0.95 / 1000)
    assert stopped.judged.covered.mean(axis=0) == pytest.approx(0.95, abs=slack)
    assert 0.2 < stopped.reached.mean() < 1  # both ends of a study are simulated
    assert (stopped.judged.half[stopped.reached] <= math.log(1.04) + 1e-12).all()


@pytest.mark.parametrize("groups, rounds", [(1, 10), (2, 10), (1, 25)])
def test_intervals_for_these_processes_cover(groups: int, rounds: int) -> None:
    noise = Noise(process=0.0, window=0.03, correlation=0.3, stalls=0.03, stall=0.2)
    random = np.random.default_rng(6)
    times = draw(noise, random, studies=1000, levels=(0.0, 0.0), groups=groups, rounds=rounds)
    covered = studies.covered_alone(studies.differences(times, ((0, 1),)))
    assert 0.91 < covered < 0.98
