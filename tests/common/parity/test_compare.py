"""Tests which differences are within bounds, and which values a figure records."""

import json
import math

import numpy as np
import pytest

from isoscale.common.disk.json_files import to_json
from isoscale.common.parity.compare import (
    GRADIENTS,
    LOSS,
    NORM,
    PARAMETERS,
    Comparison,
    Difference,
    compare_steps,
)
from isoscale.common.parity.tolerances import TOLERANCES, absolute_differences, gradient_differences
from isoscale.common.parity.trace import Layout, Record
from isoscale.common.registry import lookup

SPEC = lookup.parity_specs()["mlp_plain"]
LAYOUT = Layout.of(SPEC)
FLOAT64, FLOAT32 = TOLERANCES["float64"], TOLERANCES["float32"]


def record(step: int = 0, *, loss: float = 2.0, **changes: tuple[str, float]) -> Record:
    """Returns the record of a step; ``kind=(tensor, amount)`` adds to the tensor's first entry."""
    random = np.random.default_rng(step)
    size = SPEC.parameter_count
    kinds = ("gradients", "step_gradients", "parameters", "first_moment")
    arrays = dict.fromkeys(kinds, random.standard_normal(size))
    arrays = {kind: value.copy() for kind, value in arrays.items()}
    for kind, (tensor, amount) in changes.items():
        arrays[kind][LAYOUT.starts[LAYOUT.names.index(tensor)]] += amount
    return Record(step=step, metrics={"loss": loss}, arrays=arrays)


def compare(ours: Record, theirs: Record, tolerance=FLOAT64) -> dict[str, Difference]:
    comparison = Comparison("other")
    compare_steps(comparison, ours, theirs, LAYOUT, tolerance)
    return comparison.figures


def test_equal_records_have_no_difference() -> None:
    figures = compare(record(), record())
    assert set(figures) == {
        LOSS, NORM, GRADIENTS, PARAMETERS, "optimizer state first_moment, absolute",
    }  # fmt: skip
    assert all(figure.ok and figure.largest == 0 for figure in figures.values())


@pytest.mark.parametrize(
    "changes, kind, tensor",
    [
        ({"loss": 2.0 * (1 + 3e-12)}, LOSS, "loss"),
        ({"gradients": ("dense_1/bias", 1e-10)}, GRADIENTS, "dense_1/bias"),
        ({"parameters": ("dense_0/kernel", 2e-10)}, PARAMETERS, "dense_0/kernel"),
        (
            {"first_moment": ("dense_2/bias", 2e-10)},
            "optimizer state first_moment, absolute",
            "dense_2/bias",
        ),
        ({"parameters": ("dense_0/bias", math.nan)}, PARAMETERS, "dense_0/bias"),
        ({"loss": math.nan}, LOSS, "loss"),
    ],
)
def test_a_difference_names_its_tensor(changes: dict, kind: str, tensor: str) -> None:
    figures = compare(record(**changes), record())
    outside = {name: figure for name, figure in figures.items() if not figure.ok}
    assert set(outside) == {kind}
    assert outside[kind].first_outside[:2] == (0, tensor)
    assert outside[kind].tensor == tensor
    quantity, measure = kind.split(", ")
    of_tensor = "" if tensor == quantity else f" of {tensor}"
    assert str(outside[kind]).startswith(f"{quantity}{of_tensor} at step 0: ")
    assert f"({measure}; bound 1.0e-" in str(outside[kind])


def test_a_figure_keeps_the_first_step_out_of_bounds_and_the_largest_value() -> None:
    comparison = Comparison("other")
    for step, amount in enumerate((0.0, 2e-10, 5e-10, 3e-10)):
        ours = record(step, parameters=("dense_1/kernel", amount))
        compare_steps(comparison, ours, record(step), LAYOUT, FLOAT64)
    figure = comparison.figures[PARAMETERS]
    assert figure.first_outside[:2] == (1, "dense_1/kernel")
    assert (figure.step, figure.largest) == (2, pytest.approx(5e-10))
    assert list(figure.by_step) == [0, 1, 2, 3]


def test_within_a_step_the_first_tensor_out_of_bounds_is_named() -> None:
    """The first tensor is nearest to the cause; a later tensor may have the largest difference."""
    comparison = Comparison("other")
    values = np.array([0.0, 2e-10, 9e-10])
    comparison.add_tensors(PARAMETERS, 7, ("a", "b", "c"), values, 1e-10)
    figure = comparison.figures[PARAMETERS]
    assert figure.first_outside == (7, "b", 2e-10, 1e-10)
    assert figure.tensor == "c"


def test_the_first_ten_steps_on_several_devices_have_a_tighter_bound() -> None:
    for step, ok in ((9, False), (10, True)):
        comparison = Comparison("jax bare")
        ours = record(step, parameters=("dense_0/bias", 5e-11))
        compare_steps(comparison, ours, record(step), LAYOUT, FLOAT64, between_devices=True)
        assert comparison.figures[PARAMETERS].ok is ok


@pytest.mark.parametrize("kind", ["gradients", "step_gradients"])
def test_gradients_are_compared_before_and_after_clipping(kind: str) -> None:
    """Gradients before clipping show a wrong scale; the step's own gradients show a wrong step."""
    comparison = Comparison("jax bare")
    ours = record(**{kind: ("dense_0/bias", 1e-9)})
    compare_steps(comparison, ours, record(), LAYOUT, FLOAT64, between_devices=True)
    assert not comparison.figures[GRADIENTS].ok


def test_float32_judges_first_gradients_and_ten_losses() -> None:
    for step, loss_judged, gradients_judged in (
        (0, True, True),
        (1, True, False),
        (10, False, False),
    ):
        ours = record(
            step, loss=2.1, gradients=("dense_0/bias", 1.0), parameters=("dense_0/bias", 1)
        )
        figures = compare(ours, record(step), FLOAT32)
        assert figures[LOSS].ok is not loss_judged
        assert figures[GRADIENTS].ok is not gradients_judged
        assert figures[PARAMETERS].ok
        assert figures[PARAMETERS].bound is None


def test_a_zero_gradient_is_measured_by_the_global_norm() -> None:
    """A gradient of exactly 0 in theory has rounding errors; they must stay within the bound."""
    starts = np.array([0, 2])
    theirs = np.array([3.0, 4.0, 0.0, 0.0])
    ours = np.array([3.0, 4.0, 1e-14, 0.0])
    assert gradient_differences(ours, theirs, starts) == pytest.approx([0, 1e-14 / 0.05])
    assert gradient_differences(theirs * 0, theirs * 0, starts) == pytest.approx([0, 0])


def test_nan_is_larger_than_any_bound() -> None:
    starts, ours = np.array([0, 1]), np.array([math.nan, 1.0])
    assert list(absolute_differences(ours, np.ones(2), starts)) == [math.inf, 0]
    assert math.isinf(gradient_differences(ours, np.ones(2), starts)[0])


def test_a_comparison_with_infinities_survives_json() -> None:
    comparison = Comparison("torch bare")
    compare_steps(comparison, record(loss=math.nan), record(), LAYOUT, FLOAT64)
    compare_steps(comparison, record(1), record(1), LAYOUT, FLOAT64)
    again = Comparison.from_json(json.loads(to_json(comparison.to_json())))
    assert again.figures == comparison.figures
    assert not again.figures[LOSS].ok


def test_of_two_kinds_of_gradients_of_one_step_the_first_out_of_bounds_is_named() -> None:
    ours = record(gradients=("dense_1/bias", 1e-9), step_gradients=("dense_0/bias", 1e-6))
    comparison = Comparison("other")
    compare_steps(comparison, ours, record(), LAYOUT, FLOAT64, between_devices=True)
    found = comparison.figures[GRADIENTS]
    assert found.first_outside is not None
    assert found.first_outside[:2] == (0, "dense_1/bias")
    assert found.tensor == "dense_0/bias"


def test_a_difference_and_its_bound_are_printed_with_digits_that_tell_them_apart() -> None:
    difference = Difference("gradients")
    difference.add(0, {"a": 0.17}, 0.16)
    assert str(difference) == "gradients of a at step 0: 1.70e-01 (bound 1.6e-01)"
