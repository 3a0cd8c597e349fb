import math

import numpy as np
import pytest

from isoscale.common.config.optimizer_config import OptimizerConfig
from isoscale.common.reference.optimizer import global_norm, learning_rate, reference_update


@pytest.mark.parametrize(
    "schedule, expected",
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]),
        (
            "cosine",
            [0.5, 1.0, 1.0, (2 + math.sqrt(2)) / 4, 0.5, (2 - math.sqrt(2)) / 4, 0.0, 0.0],
        ),
    ],
)
def test_schedules_by_hand(schedule: str, expected: list[float]) -> None:
    config = OptimizerConfig(
        learning_rate=1.0, schedule=schedule, schedule_warmup_steps=2, schedule_steps=6
    )
    assert [learning_rate(config, step) for step in range(8)] == pytest.approx(expected, abs=1e-15)


def test_first_adamw_step_by_hand() -> None:
    """m and v start at zero: the first direction is g / (|g| + epsilon), plus the decay."""
    config = OptimizerConfig(learning_rate=0.1, weight_decay=0.5, epsilon=1e-3, clip_norm=0.0)
    parameters = {"a": np.array([2.0]), "b": np.array([2.0])}
    gradients = {"a": np.array([-4.0]), "b": np.array([-4.0])}
    updated, state = reference_update(config, parameters, gradients, {}, step=0, decayed={"a"})
    direction = -4.0 / (4.0 + 1e-3)
    assert updated["a"][0] == pytest.approx(2.0 - 0.1 * (direction + 0.5 * 2.0), abs=1e-14)
    assert updated["b"][0] == pytest.approx(2.0 - 0.1 * direction, abs=1e-14)
    assert state["second_moment"]["a"][0] == pytest.approx(0.001 * 16.0)


def test_momentum_by_hand() -> None:
    config = OptimizerConfig(
        name="sgd", learning_rate=0.1, momentum=0.5, weight_decay=0.0, clip_norm=0.0
    )
    parameters, state = {"a": np.array([1.0])}, {}
    for step, expected in enumerate([0.9, 0.75]):  # buffers 1 and 1.5
        parameters, state = reference_update(
            config, parameters, {"a": np.array([1.0])}, state, step=step, decayed=set()
        )
        assert parameters["a"][0] == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("clip_norm, scale", [(1.0, 0.2), (5.0, 1.0), (50.0, 1.0), (0.0, 1.0)])
def test_gradients_are_clipped_only_if_their_norm_exceeds_clip_norm(
    clip_norm: float, scale: float
) -> None:
    config = OptimizerConfig(
        name="sgd", learning_rate=1.0, momentum=0.0, weight_decay=0.0, clip_norm=clip_norm
    )
    gradients = {"a": np.array([3.0]), "b": np.array([4.0])}
    assert global_norm(gradients) == 5.0
    zeros = {"a": np.zeros(1), "b": np.zeros(1)}
    updated, _ = reference_update(config, zeros, gradients, {}, step=0, decayed=set())
    assert updated["a"][0] == pytest.approx(-3.0 * scale, abs=1e-15)


def test_a_zero_gradient_does_not_divide_by_zero() -> None:
    zeros = {"a": np.zeros(2)}
    updated, _ = reference_update(OptimizerConfig(), zeros, zeros, {}, step=0, decayed=set())
    assert np.array_equal(updated["a"], np.zeros(2))
