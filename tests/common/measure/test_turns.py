"""Warm-up and windows by time."""

import math

import pytest

from isoscale.common.measure.turns import is_stable, losses_at_powers, steps_for


@pytest.mark.parametrize(
    "seconds, per_step, block, steps",
    [
        (0.3, 0.1, 1, 3),
        (0.3, 0.11, 1, 3),
        (0.3, 10.0, 1, 1),
        (0.3, 0.01, 10, 30),
        (0.3, 0.01, 7, 35),
    ],
)
def test_a_window_has_the_fewest_whole_blocks_that_last_long_enough(
    seconds: float, per_step: float, block: int, steps: int
) -> None:
    assert steps_for(seconds, seconds_per_step=per_step, block=block) == steps


def test_a_clock_that_stands_still_gives_a_finite_window() -> None:
    assert steps_for(0.3, seconds_per_step=0.0, block=1) < 10**9


def test_the_step_time_is_stable_when_it_no_longer_falls() -> None:
    assert is_stable([1.0] * 5) is None  # too few windows
    assert is_stable([1.0] * 6) is True
    assert is_stable([2.0, 1.5, 1.2, 1.1, 1.0, 0.9]) is None
    assert is_stable([1.0, 1.0, 1.0, 0.98, 0.97, 0.96]) is True
    assert is_stable([1.0, 1.0, 1.0, 0.97, 0.96, 0.95]) is None
    assert is_stable([1.0, 5.0, 1.0, 1.0, 1.0, 1.0]) is True  # one stall
    assert is_stable([0.95**i for i in range(39)]) is None
    assert is_stable([0.95**i for i in range(40)]) is False  # warm-up ends at some time


def test_losses_at_powers_of_two() -> None:
    losses = [float(i) for i in range(9)]
    assert losses_at_powers(losses) == {"1": 1.0, "2": 2.0, "4": 4.0, "8": 8.0}
    assert losses_at_powers(losses[:8]) == {"1": 1.0, "2": 2.0, "4": 4.0}
    assert losses_at_powers([1.0]) == {}
    assert losses_at_powers([1.0, math.inf]) == {"1": None}
