"""Tests the checks of gradients, and the runner that a piece takes over from its model."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from isoscale.common.parity import probe
from isoscale.common.parity.cases import Case, all_cases, make_config
from isoscale.common.parity.checks import check_alive, check_float32_sums, check_used
from isoscale.common.parity.compare import Comparison, Difference
from isoscale.common.parity.trace import Layout
from isoscale.common.reference.optimizer import OptimizerState

LAYOUT = Layout.of(all_cases()["mlp_plain"].spec)
ZEROS = int(LAYOUT.starts[1])  # entries of the first tensor


def figure(comparison: Comparison) -> Difference:
    (found,) = comparison.figures.values()
    return found


@pytest.mark.parametrize("share, ok", [(0.0, True), (0.85, True), (0.95, False), (1.0, False)])
def test_a_tensor_whose_gradients_vanish_is_named(share: float, ok: bool) -> None:
    gradients = np.ones(all_cases()["mlp_plain"].spec.parameter_count)
    gradients[: round(share * ZEROS)] = 0
    comparison = Comparison("itself")
    check_alive(comparison, gradients, LAYOUT)
    found = figure(comparison)
    assert found.ok is ok
    assert found.largest == pytest.approx(share, abs=1e-2)
    if not ok:
        assert found.first_outside[:2] == (0, "dense_0/kernel")


@pytest.mark.parametrize("unused", [None, "dense_1/bias"])
def test_a_tensor_that_the_model_does_not_use_is_named(unused: str | None) -> None:
    comparison = Comparison("itself")
    used = np.array([name != unused for name in LAYOUT.names])
    check_used(comparison, used, LAYOUT, last_step=9)
    found = figure(comparison)
    assert found.ok is (unused is None)
    if unused:
        assert found.first_outside[:2] == (9, unused)


class Given:
    """Has the given gradients."""

    def __init__(self, gradients: dict[str, np.ndarray]) -> None:
        self._gradients = gradients

    def gradients(self, batch: None) -> None:
        pass

    def read_gradients(self, handle: None) -> tuple[dict[str, float], list[Any]]:
        return {}, [self._gradients]


@pytest.mark.parametrize("scale, ok", [(1.0, False), (1e-3, True)])
def test_a_bias_summed_in_bfloat16_is_named_unless_its_gradient_is_rounding(
    scale: float, ok: bool
) -> None:
    spec = all_cases()["mlp_plain"].spec
    gradients = {p.name: np.full(p.shape, 1 / 3, np.float32) for p in spec.parameters()}
    gradients["dense_1/bias"] = np.full_like(gradients["dense_1/bias"], scale * 0.5)
    gradients["dense_1/bias"].view(np.uint32)[:] &= 0xFFFF0000
    comparison = Comparison("itself")
    check_float32_sums(comparison, Given(gradients), None, spec)  # type: ignore[arg-type]
    found = figure(comparison)
    assert found.ok is ok
    if not ok:
        assert found.first_outside[:2] == (0, "dense_1/bias")


class FakeRunner:
    """Keeps what is written to it."""

    def __init__(self) -> None:
        self.parameters: dict[str, np.ndarray] = {}
        self.state = OptimizerState(slots={"first_moment": {}, "second_moment": {}}, step=7)

    def set_parameters(self, parameters: dict[str, np.ndarray]) -> None:
        self.parameters = parameters

    def optimizer_state(self) -> OptimizerState:
        return self.state

    def set_optimizer_state(self, state: OptimizerState) -> None:
        self.state = state


@pytest.fixture
def runner_of(monkeypatch):
    """Returns a function that returns the runner of a case."""
    monkeypatch.setattr(probe, "_kept", [])
    monkeypatch.setattr(probe.lookup, "load_runner", lambda config: FakeRunner)

    def find(case: Case, **changes: Any) -> Any:
        known: dict[str, Any] = {
            "framework": "torch", "strategy": "bare", "devices": 1, "dtype": "float64",
            "steps": 25, "tuning": "stock", "tweaks": [], "platform": "cpu",
        }  # fmt: skip
        return probe._runner_of(case, make_config(case, **{**known, **changes}))

    return find


def test_a_large_piece_takes_the_runner_of_its_model_with_a_new_state(runner_of) -> None:
    model, large = all_cases()["mlp_plain"], all_cases()["mlp_plain/large"]
    first = runner_of(model)
    assert runner_of(large) is first
    assert first.state.step == 0
    for values in first.state.slots.values():
        assert set(values) == set(LAYOUT.names)
        assert not any(value.any() for value in values.values())
    for name, value in large.spec.initial_parameters(seed=3).items():
        assert np.array_equal(first.parameters[name], value)


def test_only_the_same_program_is_taken_over(runner_of) -> None:
    model, large = all_cases()["mlp_plain"], all_cases()["mlp_plain/large"]
    first = runner_of(model)
    others = [
        (all_cases()["moe_plain/large"], {}),
        (large, {"dtype": "float32"}),
        (large, {"tweaks": ["+foreach-optimizer"]}),
        (dataclasses.replace(large, global_batch_size=16), {}),
    ]
    for case, changes in others:
        assert runner_of(case, **changes) is not first
        first = runner_of(model)
    assert runner_of(model) is not first
    assert runner_of(large, strategy="ddp") is not runner_of(large, strategy="ddp")
