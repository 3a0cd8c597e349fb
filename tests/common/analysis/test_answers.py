import math

import numpy as np
import pytest
from scipy import stats

from isoscale.common.analysis.answers import (
    DIFFERENT,
    DIFFERENT_WITHIN,
    NOT_DECIDED,
    SAME,
    Minutes,
    answers,
    groups_to_decide,
    holm,
    minutes_to_decide,
    p_same,
)
from isoscale.common.analysis.estimates import corrected
from isoscale.common.analysis.turns import PairedRatio, paired_ratio, t_fields


def ratio(shift: float, error: float, groups: int = 6) -> PairedRatio:
    values = t_fields(shift, error, groups - 1)
    return PairedRatio(**values, n=(groups, groups), rounds=5 * groups, method="")


def untested() -> PairedRatio:
    return paired_ratio({0: [1.0] * 5}, {0: [1.1, 1.2, 1.3, 1.4, 1.5]})


def test_holm_by_hand() -> None:
    # Smallest x 3, then x 2, then x 1, never below the one before.
    assert holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.5, 0.001, 0.9])).tolist() == pytest.approx([1.0, 0.003, 1.0])
    rows = np.array([[0.01, 0.04, 0.03], [0.04, 0.03, 0.01]])
    assert holm(rows)[1].tolist() == pytest.approx([0.06, 0.06, 0.03])
    assert holm(np.array([])).size == 0


@pytest.mark.parametrize("shift, error, text", [
    (0.20, 0.010, DIFFERENT),
    (0.020, 0.002, DIFFERENT_WITHIN),
    (0.001, 0.002, SAME),
    (0.001, 0.050, NOT_DECIDED),
    (-0.20, 0.010, DIFFERENT),
    (-0.020, 0.002, DIFFERENT_WITHIN),
    (math.log(1.05), 1e-6, DIFFERENT),  # at the margin, equivalence is not shown
])  # fmt: skip
def test_four_answers(shift: float, error: float, text: str) -> None:
    (answer,) = answers({"pair": ratio(shift, error)}, {}).values()
    assert answer.text == text


def test_equivalence_is_two_one_sided_tests() -> None:
    """Compares with t tests of group means against both ends of the margin."""
    means = np.array([0.01, 0.03, 0.02, -0.01, 0.02])
    pair = ratio(means.mean(), means.std(ddof=1) / math.sqrt(5), groups=5)
    ends = [
        stats.ttest_1samp(means, -math.log(1.04), alternative="greater").pvalue,
        stats.ttest_1samp(means, math.log(1.04), alternative="less").pvalue,
    ]
    assert p_same(pair, 0.04) == pytest.approx(max(ends))
    assert p_same(pair.inverse(), 0.04) == pytest.approx(max(ends))
    assert p_same(pair, 0.08) < p_same(pair, 0.04)


def test_the_margin_decides_between_the_answers() -> None:
    pair = {"pair": ratio(0.06, 0.004)}
    assert answers(pair, {}, margin=0.05)["pair"].text == DIFFERENT
    assert answers(pair, {}, margin=0.10)["pair"].text == DIFFERENT_WITHIN


def test_planned_pairs_are_one_family_and_the_others_another() -> None:
    planned = {name: ratio(0.02 * k, 0.01) for k, name in enumerate("abc", 1)}
    others = {name: ratio(0.01 * k, 0.01) for k, name in enumerate("defg", 1)}
    found = answers(planned, others)
    ps = holm(np.array([pair.p for pair in planned.values()]))
    assert [found[name].p_different for name in "abc"] == pytest.approx(ps.tolist())
    ps = corrected([pair.p for pair in others.values()])
    assert [found[name].p_different for name in "defg"] == pytest.approx(ps)
    same = corrected([p_same(pair, 0.05) for pair in others.values()])
    assert [found[name].p_same for name in "defg"] == pytest.approx(same)
    assert [found[name].planned for name in "abcd"] == [True] * 3 + [False]
    alone = answers(planned, {})
    assert [alone[name].p_different for name in "abc"] == [found[n].p_different for n in "abc"]


def test_pairs_without_a_test_are_not_decided_and_no_part_of_the_family() -> None:
    found = answers({"a": ratio(0.02, 0.01), "b": untested()}, {"c": untested()})
    assert found["a"].p_different == pytest.approx(found["a"].ratio.p)
    for name in "bc":
        assert (found[name].p_different, found[name].p_same) == (None, None)
        assert found[name].text == NOT_DECIDED
    with pytest.raises(ValueError, match="fewer than 3 groups is not tested"):
        p_same(untested(), 0.05)


def test_bad_input_of_answers() -> None:
    with pytest.raises(ValueError, match=r"the margin must be positive, not -0\.1"):
        answers({}, {}, margin=-0.1)
    with pytest.raises(ValueError, match=r"planned and exploratory at once: \['a'\]"):
        answers({"a": untested()}, {"a": untested()})


@pytest.mark.parametrize("shift, margin, family", [
    (0.05, 1e-9, 1), (0.03, 1e-9, 3), (0.08, 1e-9, 6), (0.03, 0.05, 1),
    (0.0, 0.05, 1), (0.005, 0.05, 4), (0.02, 0.05, 1),
])  # fmt: skip
def test_the_predicted_number_of_groups_has_a_power_of_80_percent(
    shift: float, margin: float, family: int
) -> None:
    deviation, random = 0.025, np.random.default_rng(0)

    def shown(groups: int) -> float:
        """Returns the simulated power, of the test with the larger one."""
        means = shift + deviation * random.normal(size=(20000, groups))
        error = means.std(axis=1, ddof=1) / math.sqrt(groups)
        center = means.mean(axis=1)
        same = stats.t.sf((math.log1p(margin) - np.abs(center)) / error, groups - 1)
        apart = 2 * stats.t.sf(np.abs(center) / error, groups - 1)
        return max((p <= 0.05 / family).mean() for p in (same, apart))

    groups = groups_to_decide(shift, deviation**2, margin, family, 3, 1000)
    assert shown(groups) > 0.79
    assert shown(groups - 1) < 0.81
    assert groups_to_decide(shift, deviation**2, margin, family, groups + 2, 1000) == groups + 2
    assert groups_to_decide(shift, deviation**2, margin, family, 3, groups - 1) is None


def test_the_minutes_that_would_decide() -> None:
    pair = ratio(0.03, 0.02)
    range_ = minutes_to_decide(pair, group_seconds=60)
    assert range_.low < range_.high
    assert range_.low == pytest.approx(minutes_to_decide(pair, group_seconds=30).low * 2)
    assert minutes_to_decide(pair, group_seconds=60, family=6).low > range_.low
    # More groups with the same spread are surer of it.
    many = ratio(0.03, 0.02 * math.sqrt(6 / 40), groups=40)
    sure = minutes_to_decide(many, group_seconds=60)
    assert sure.high - sure.low < range_.high - range_.low
    # Whether a ratio near the margin is inside or outside cannot be shown; that it is not 1 can.
    near = minutes_to_decide(ratio(0.0487, 0.2), group_seconds=600)
    assert near.text == "more than 24 hours"
    with pytest.raises(ValueError, match="at least 3 groups"):
        minutes_to_decide(untested(), group_seconds=60)


@pytest.mark.parametrize("low, high, text", [
    (1.2, 7.0, "2 to 7 more minutes"),
    (1.2, 1.6, "2 more minutes"),
    (3.0, None, "3 more minutes to more than 24 hours"),
    (None, None, "more than 24 hours"),
])  # fmt: skip
def test_minutes_in_words(low: float | None, high: float | None, text: str) -> None:
    assert Minutes(low=low, high=high).text == text
