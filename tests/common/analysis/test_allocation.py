import math
from typing import Any

import pytest

from isoscale.common.analysis.allocation import STEIN, half_width, split, stein, stein_ratio
from isoscale.common.analysis.turns import paired_ratio
from isoscale.common.analysis.variances import Components

PARTS = [
    Components(within=9e-4, between=4e-4, groups=4),
    Components(within=25e-4, between=1e-4, groups=4),
]
TIMES: dict[str, Any] = {"start_seconds": 20.0, "round_seconds": 3.0}


def ratio_of(means: list[float]):
    """Returns the ratio of cells whose groups have these log ratios in each round."""
    return paired_ratio(
        {group: [1.0] * 3 for group in range(len(means))},
        {group: [math.exp(mean)] * 3 for group, mean in enumerate(means)},
    )


def test_the_expected_half_width_by_hand() -> None:
    parts = [Components(within=8.0, between=1.0, groups=3)]
    assert half_width(parts, [4] * 3) == pytest.approx(4.302652729911275)  # sqrt((1 + 2) / 3) = 1
    two = half_width(PARTS, [5, 5, 10])
    squares = [half_width([part], [5, 5, 10]) ** 2 for part in PARTS]
    assert two == pytest.approx(math.sqrt(sum(squares) / 2))


@pytest.mark.parametrize("budget", [90, 100, 300, 600, 3600])
@pytest.mark.parametrize("least", [3, 4])
def test_no_other_split_of_the_budget_is_better(budget: float, least: int) -> None:
    if budget < least * 29:
        with pytest.raises(ValueError, match=f"{least} groups of 3 rounds take {least * 29} sec"):
            split(PARTS, budget=budget, least_groups=least, **TIMES)
        return
    plan = split(PARTS, budget=budget, least_groups=least, **TIMES)
    assert plan.seconds == plan.groups * (20 + 3 * plan.rounds) <= budget
    assert plan.half_width == half_width(PARTS, [plan.rounds] * plan.groups)
    for groups in range(least, 130):
        for rounds in range(3, 400):
            if groups * (20 + 3 * rounds) <= budget:
                assert half_width(PARTS, [rounds] * groups) >= plan.half_width


def test_differences_between_processes_ask_for_groups_and_noise_for_rounds() -> None:
    between = split([Components(within=1e-6, between=1e-3, groups=4)], budget=600, **TIMES)
    within = split([Components(within=1e-3, between=0, groups=4)], budget=600, **TIMES)
    assert between.rounds == 3
    assert between.groups == 20
    assert within.groups <= 8
    assert within.rounds > 15


def test_a_split_goes_on_from_the_groups_that_have_run() -> None:
    plan = split(PARTS, budget=300, done=[10, 10, 10], **TIMES)
    options = {
        groups: half_width(PARTS, [10, 10, 10] + [int((300 / groups - 20) / 3)] * groups)
        for groups in range(1, 11)
    }
    assert plan.groups == min(options, key=options.__getitem__)
    assert plan.half_width == pytest.approx(min(options.values()))
    full = split(PARTS, budget=10, done=[10, 10, 10], **TIMES)
    assert (full.groups, full.rounds, full.half_width) == (0, 0, half_width(PARTS, [10] * 3))
    with pytest.raises(ValueError, match="1 groups of 3 rounds take 29 seconds"):
        split(PARTS, budget=10, done=[10, 10], **TIMES)


def test_steins_number_of_groups_by_hand() -> None:
    # Log ratios -0.02, 0, 0, 0.02: s = sqrt(0.0008 / 3), t = 3.18245, d = log(1.03).
    first = stein(ratio_of([-0.02, 0.0, 0.0, 0.02]), 0.03)
    spread = math.sqrt(0.0008 / 3)
    assert first.spread == pytest.approx(spread)
    assert (first.groups, first.needed, first.more) == (4, 4, 0)
    needed = (3.182446305284263 * spread / math.log(1.01)) ** 2
    assert first.needed < needed < 28
    assert stein(ratio_of([-0.02, 0.0, 0.0, 0.02]), 0.01).needed == 28


def test_steins_interval_keeps_the_spread_of_the_first_stage() -> None:
    means = [-0.02, 0.0, 0.0, 0.02, 0.5, -0.5]
    first = stein(ratio_of(means[:4]), 0.02)
    ratio = stein_ratio(ratio_of(means), first)
    half = 3.182446305284263 * first.spread / math.sqrt(6)
    assert ratio.value == pytest.approx(1)
    assert math.log(ratio.high) == pytest.approx(half)
    assert math.log(ratio.low) == pytest.approx(-half)
    assert (ratio.degrees, ratio.p, ratio.method) == (3, pytest.approx(1), STEIN)
    # After all groups that are needed, the interval is as narrow as wanted.
    needed = ratio_of([*means[:4], *[0.01] * first.more])
    assert math.log(stein_ratio(needed, first).high / needed.value) <= math.log(1.02)


def test_steins_rule_refuses_a_short_first_stage() -> None:
    with pytest.raises(ValueError, match="the first stage needs 4 groups, not 3"):
        stein(ratio_of([0.1, 0.2, 0.3]), 0.03)
    with pytest.raises(ValueError, match="the target must be positive, not 0"):
        stein(ratio_of([0.1, 0.2, 0.3, 0.4]), 0)
    first = stein(ratio_of([0.1, 0.2, 0.3, 0.4]), 0.03)
    with pytest.raises(ValueError, match="3 groups are fewer than the first stage's 4"):
        stein_ratio(ratio_of([0.1, 0.2, 0.3]), first)
