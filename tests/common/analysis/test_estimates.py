import numpy as np
import pytest

from isoscale.common.analysis.estimates import (
    Ratio,
    corrected,
    median_estimate,
    outliers,
    ratio_estimates,
)


def ratio_estimate(a: list[float], b: list[float]) -> Ratio:
    return ratio_estimates([(a, b)])[0]


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_runs_have_no_interval(n: int) -> None:
    estimate = median_estimate([1.0] * n)
    assert (estimate.low, estimate.high, estimate.n) == (None, None, n)
    assert ratio_estimate([2.0] * n, [1.0, 1.1, 1.2]).low is None


def test_three_runs_have_a_t_interval_on_logs_by_hand() -> None:
    values = [1.0, 2.0, 4.0]  # logs: mean log 2, standard deviation log 2
    estimate = median_estimate(values)
    half = 4.302652729911275 * np.log(2) / np.sqrt(3)
    assert (estimate.method, estimate.median) == ("t on log time", 2.0)
    assert estimate.low == pytest.approx(2 * np.exp(-half))
    assert estimate.high == pytest.approx(2 * np.exp(half))


def test_the_interval_of_six_runs_is_their_range() -> None:
    estimate = median_estimate([3.0, 1.0, 2.0, 6.0, 5.0, 4.0])
    assert (estimate.low, estimate.high, estimate.median) == (1.0, 6.0, 3.5)
    assert estimate.method == "order statistics"


@pytest.mark.parametrize("n", [4, 8, 15])
def test_intervals_cover_the_median(n: int) -> None:
    """For skewed (log-normal) run times, at least 94 % of 1,000 intervals hold the true median."""
    random = np.random.default_rng(0)
    samples = np.exp(0.3 * random.normal(size=(1000, n)))
    estimates = [median_estimate(sample.tolist()) for sample in samples]
    covered = sum(e.low <= 1.0 <= e.high for e in estimates if e.low and e.high)
    assert covered >= 940


def test_ratio_intervals_cover_the_ratio() -> None:
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(1000):
        # Unequal numbers and spreads: with a pooled variance, far fewer intervals hold the ratio.
        a = 1.2 * np.exp(0.05 * random.normal(size=12))
        b = np.exp(0.3 * random.normal(size=4))
        ratio = ratio_estimate(a.tolist(), b.tolist())
        assert ratio.low is not None
        assert ratio.high is not None
        covered += ratio.low <= 1.2 <= ratio.high
    assert 935 <= covered <= 970


def test_equal_runs_give_an_exact_ratio() -> None:
    ratio = ratio_estimate([2.0] * 3, [1.0] * 3)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2.0, 2.0, 2.0))


def test_an_empty_list_of_values_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        median_estimate([])
    with pytest.raises(ValueError, match="both sides"):
        ratio_estimate([], [1.0])


def test_ratios_of_many_pairs_equal_the_ratios_of_single_pairs() -> None:
    random = np.random.default_rng(2)

    def draw(n: int) -> list[float]:
        return np.exp(0.1 * random.normal(size=n)).tolist()

    pairs = [(draw(a), draw(b)) for a, b in [(6, 6), (3, 5), (1, 6), (6, 6), (3, 5), (2, 2)]]
    assert ratio_estimates(pairs) == [ratio_estimate(*pair) for pair in pairs]


def test_welch_by_hand() -> None:
    """Checks Snedecor's formula on the logarithms 0, 1, 2 and 1, 3, 5, 7."""
    a, b = np.exp([0.0, 1.0, 2.0]), np.exp([1.0, 3.0, 5.0, 7.0])
    ratio = ratio_estimate(a.tolist(), b.tolist())
    variances = 1 / 3, (20 / 3) / 4
    degrees = sum(variances) ** 2 / (variances[0] ** 2 / 2 + variances[1] ** 2 / 3)
    assert degrees == pytest.approx(4.0754716981)  # the quantile below is for these degrees
    half = 2.7562849 * np.sqrt(sum(variances))
    assert ratio.value == pytest.approx(np.exp(-3.0))
    assert ratio.low == pytest.approx(np.exp(-3 - half), rel=1e-3)
    assert ratio.high == pytest.approx(np.exp(-3 + half), rel=1e-3)


@pytest.mark.parametrize(
    "values, expected",
    [
        ([1.0, 1.01, 0.99, 1.02, 3.0], []),  # fewer than 6 values
        ([1.0, 1.01, 0.99, 1.02, 0.98, 1.03], []),
        ([1.0, 1.01, 0.99, 1.02, 0.98, 3.0], [5]),
        ([0.2, 1.01, 0.99, 1.02, 1.0, 0.98], [0]),
        ([1.0] * 6, []),
        ([1.0] * 9 + [2.0], [9]),  # the median deviation is 0
    ],
)
def test_outliers(values: list[float], expected: list[int]) -> None:
    assert outliers(values) == expected


def test_correction_for_many_comparisons() -> None:
    assert corrected([]) == []
    assert corrected([0.03]) == [0.03]
    # Benjamini & Yekutieli: p_(i) m (1 + 1/2 + 1/3) / i, monotone from the largest.
    assert corrected([0.01, 0.02, 0.5]) == pytest.approx([0.055, 0.055, 0.9166667])
