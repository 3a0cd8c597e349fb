import math

import numpy as np
import pytest
from scipy import stats

from isoscale.common.analysis.estimates import WELCH, Ratio, ratio_estimates
from isoscale.common.analysis.run_pairs import PAIRED, ratio_of_runs, unpaired_ratio
from isoscale.common.analysis.scaling import compared, summarize_cells
from isoscale.common.analysis.verdicts import evidence_text
from tests.common.report.fake_study import make_cell, make_line, read_lines

A = {0: 1.0, 1: 2.0, 2: 1.5, 3: 1.2}
B = {0: 1.2, 1: 2.3, 2: 1.9, 3: 1.2}


def test_four_runs_are_paired_by_number() -> None:
    ratio = ratio_of_runs({9: 7.0, **A}, dict(reversed(B.items())))
    logs = [math.log(B[run] / A[run]) for run in A]
    test = stats.ttest_1samp(logs, 0)
    low, high = test.confidence_interval(0.95)
    assert ratio.value == pytest.approx(math.exp(sum(logs) / 4))
    assert (ratio.low, ratio.high) == (pytest.approx(math.exp(low)), pytest.approx(math.exp(high)))
    assert ratio.p == pytest.approx(test.pvalue)
    assert (ratio.method, ratio.groups, ratio.degrees) == (PAIRED, 4, 3)


def test_drift_common_to_a_run_number_changes_nothing() -> None:
    drift = {0: 1.0, 1: 1.5, 2: 0.4, 3: 2.0}
    moved = [{run: drift[run] * side[run] for run in side} for side in (A, B)]
    assert ratio_of_runs(*moved).high == pytest.approx(ratio_of_runs(A, B).high)


@pytest.mark.parametrize("numbers", [(0, 1, 2), (0, 1, 5, 6)])
def test_fewer_pairs_have_welchs_interval(numbers: tuple[int, ...]) -> None:
    second = {number: B[index] for index, number in enumerate(numbers)}
    ratio = ratio_of_runs(A, second)
    seconds = list(second.values()), list(A.values())
    (welch,) = ratio_estimates([seconds])
    for name in ("value", "low", "high", "p"):
        assert getattr(ratio, name) == pytest.approx(getattr(welch, name)), name
    assert (ratio.method, ratio.n) == (WELCH, (4, len(numbers)))


def test_two_runs_have_no_interval_and_none_is_an_error() -> None:
    ratio = ratio_of_runs(A, {0: 2.0, 1: 8.0})
    assert (ratio.low, ratio.high, ratio.p, ratio.method) == (None, None, None, "")
    middle = math.sqrt(1.2 * 1.5)  # the median on logarithms
    assert ratio.value == pytest.approx(4 / middle)
    with pytest.raises(ValueError, match="a cell has no run"):
        ratio_of_runs(A, {})


def test_equal_runs_have_a_positive_p() -> None:
    for runs in (3, 4):
        ratio = ratio_of_runs(dict.fromkeys(range(runs), 1.0), dict.fromkeys(range(runs), 1.1))
        assert 0 < ratio.p < 1e-6


def test_unpaired_runs_have_welchs_interval_at_any_number_in_any_order() -> None:
    a, b = list(A.values()), [*B.values(), 1.7]
    (welch,) = ratio_estimates([(b, a)])  # of times, upside down
    for first, second in ((a, b), (a[::-1], b[1:] + b[:1])):
        ratio = unpaired_ratio(first, second)
        for name in ("value", "low", "high", "p"):
            assert getattr(ratio, name) == pytest.approx(getattr(welch, name)), name
        assert (ratio.method, ratio.n, ratio.groups) == (WELCH, (4, 5), 4)
    assert unpaired_ratio(a, b[:2]).p is None
    with pytest.raises(ValueError, match="a cell has no run"):
        unpaired_ratio([], b)


def one_by_one(*, later: int = 0, apart: bool = False, last_day: str = "") -> Ratio:
    """Returns the ratio of two cells with 6 runs, whose speed drifts alike by 30 %.

    Args:
      later: run of the second cell that was repeated at the end; 0: none was.
      apart: whether a later session added the second cell.
      last_day: when the study went on after an interruption before its last run; empty: it did not.
    """
    random = np.random.default_rng(1)
    lines = []
    for run in range(6):
        for place, (name, seconds) in enumerate((("jax", 0.010), ("torch", 0.012))):
            noise = math.exp(0.002 * random.normal() + 0.3 * run / 5)
            sequence = place * 100 + run if apart else 2 * run + (place ^ run % 2)
            sequence = 50 if place and run == later != 0 else sequence
            cell = make_cell(name, "bare", 1)
            lines.append(make_line(cell, run, seconds * noise, sequence=sequence))
    if last_day:
        last = max(lines, key=lambda line: line["sequence"])
        last["started"] = f"{last_day}T09:00:00.000+00:00"
    first, other = summarize_cells(read_lines(lines), scaling="strong")
    (found,) = compared([(first, other)])
    return found


def test_runs_that_followed_each_other_are_pairs() -> None:
    found = one_by_one()
    assert (found.method, found.n) == (PAIRED, (6, 6))
    assert found.low is not None
    assert found.high is not None
    assert found.low < 1.2 < found.high < 1.21  # the drift is in no ratio
    assert evidence_text(found, 0.5) == "n = 6 pairs of runs, corrected p = 0.500"


def test_a_run_that_was_repeated_later_has_no_partner() -> None:
    assert one_by_one(later=2).n == (5, 5)


def test_a_round_that_was_finished_another_day_is_no_pair() -> None:
    assert one_by_one(last_day="2026-11-22").n == (5, 5)
    assert one_by_one(last_day="damaged").n == (6, 6)


def test_runs_of_another_session_are_no_pairs() -> None:
    found = one_by_one(apart=True)
    assert (found.method, found.n) == (WELCH, (6, 6))
    assert found.high is not None
    assert found.high > 1.3
