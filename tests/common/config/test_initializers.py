"""Compares initialisers with numbers computed by hand and with SciPy's distributions."""

import numpy as np
import pytest
from scipy import stats

from isoscale.common.config.initializers import (
    Constant,
    GlorotUniform,
    Initializer,
    Normal,
    Ones,
    Uniform,
    Zeros,
)
from isoscale.common.config.model_spec import Parameter

DENSE = GlorotUniform(fan_in=("input",), fan_out=("output",))
CONVOLUTION = GlorotUniform(
    fan_in=("height", "width", "input"), fan_out=("height", "width", "output")
)


@pytest.mark.parametrize(
    "initializer, sizes, bound",
    [
        (DENSE, {"input": 24, "output": 30}, 1 / 3),
        # The order of the dims and dims outside both fans have no effect.
        (DENSE, {"output": 30, "experts": 7, "input": 24}, 1 / 3),
        # 3 x 5 x 8 = 120 inputs per output, 3 x 5 x 16 = 240 outputs per input.
        (
            CONVOLUTION,
            {"height": 3, "width": 5, "input": 8, "output": 16},
            np.sqrt(6 / (120 + 240)),
        ),
    ],
)
def test_glorot_takes_its_fans_from_the_named_dims(
    initializer: Initializer, sizes: dict[str, int], bound: float
) -> None:
    stated = initializer.distribution(sizes)
    assert isinstance(stated, Uniform)
    assert (stated.low, stated.high) == pytest.approx((-bound, bound), rel=1e-15)
    drawn = initializer.draw(np.random.default_rng(0), sizes)
    assert drawn.shape == tuple(sizes.values())
    largest = np.abs(drawn).max()
    assert bound * (1 - 10 / drawn.size) < largest <= bound


def test_distributions_equal_those_of_scipy() -> None:
    values = np.linspace(-1, 1, 41)
    normal = Normal(std=0.3).distribution({"a": 2})
    np.testing.assert_allclose(normal.cdf(values), stats.norm(0, 0.3).cdf(values), atol=1e-15)
    uniform = Uniform(low=-0.5, high=0.25)
    np.testing.assert_allclose(uniform.cdf(values), stats.uniform(-0.5, 0.75).cdf(values))
    assert Zeros().distribution({"a": 2}) == Constant(value=0.0)
    assert Ones().distribution({"a": 2}) == Constant(value=1.0)
    np.testing.assert_array_equal(Constant(value=0.5).cdf(np.array([0.4, 0.5, 0.6])), [0, 1, 1])


def _parameter(**changes: object) -> Parameter:
    right = {"shape": (2, 3), "dims": ("input", "output"), "initializer": DENSE}
    return Parameter(name="k", decay=True, **{**right, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"dims": ("input", "input")}, "a different name"),
        ({"dims": ("input",)}, "a different name"),
        ({"initializer": CONVOLUTION}, "height"),
    ],
)
def test_a_parameter_with_unsuitable_dims_is_refused(changes: dict, message: str) -> None:
    _parameter()
    with pytest.raises(ValueError, match=message):
        _parameter(**changes)
