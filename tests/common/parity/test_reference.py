"""Tests that the NumPy reference finds errors of a run."""

import dataclasses

import numpy as np
import pytest

from isoscale.common.config.initializers import (
    Distribution,
    GlorotUniform,
    Initializer,
    Normal,
    Ones,
    Sizes,
)
from isoscale.common.config.model_spec import ModelSpec, Parameter
from isoscale.common.config.optimizer_config import OptimizerConfig
from isoscale.common.parity.compare import Comparison
from isoscale.common.parity.reference import judge_forward, judge_initializers, judge_update
from isoscale.common.parity.tolerances import TOLERANCES
from isoscale.common.parity.trace import Layout
from isoscale.common.reference.functions import weighted_loss
from isoscale.common.reference.optimizer import (
    OptimizerState,
    gradients_of_step,
    reference_update,
)
from isoscale.common.registry import lookup

SPEC = lookup.parity_specs()["moe_padded"]
FLOAT64 = TOLERANCES["float64"]


def _forward(**changes: float) -> Comparison:
    batch = (
        lookup.data_source("synthetic")
        .load(SPEC, global_batch_size=2, pool=1, seed=0, dtype="float64")
        .batches[0]
    )
    parameters = SPEC.initial_parameters(seed=0)
    logits, auxiliary = SPEC.reference_forward(parameters, batch)
    cross_entropy, auxiliary = weighted_loss(logits, batch), float(auxiliary.mean())
    metrics = {
        "loss": cross_entropy + 0.01 * auxiliary,
        "cross_entropy": cross_entropy,
        "auxiliary_loss": auxiliary,
    }
    for name in metrics.keys() & changes.keys():
        metrics[name] *= 1 + changes[name]
    comparison = Comparison("NumPy")
    judge_forward(
        comparison,
        SPEC,
        FLOAT64,
        step=0,
        parameters=parameters,
        batch=batch,
        logits=logits + changes.get("logits", 0.0),
        metrics=[metrics],
    )
    return comparison


@pytest.mark.parametrize(
    "changes, kinds",
    [
        ({}, set()),
        ({"logits": 1e-10}, {"logits, absolute"}),
        ({"loss": 1e-11}, {"loss, relative"}),
        ({"auxiliary_loss": 1e-11}, {"loss, relative"}),
        ({"logits": np.nan}, {"logits, absolute", "evaluation loss, relative"}),
    ],
)
def test_errors_of_the_forward_pass_are_found(changes: dict[str, float], kinds: set[str]) -> None:
    figures = _forward(**changes).figures
    assert len(figures) == 4
    found = {kind for kind, figure in figures.items() if not figure.ok}
    assert found - {"evaluation accuracy, absolute"} == kinds


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_errors_of_an_update_are_found(name: str) -> None:
    optimizer = OptimizerConfig(name=name, clip_norm=0.1)
    spec = lookup.parity_specs()["mlp_plain"]
    layout, decayed = Layout.of(spec), {p.name for p in spec.parameters() if p.decay}
    parameters = {n: v.astype(float) for n, v in spec.initial_parameters(seed=0).items()}
    random = np.random.default_rng(0)
    gradients = {n: random.standard_normal(v.shape) for n, v in parameters.items()}
    updated, slots = reference_update(optimizer, parameters, gradients, {}, step=0, decayed=decayed)
    zeros = {slot: {n: 0 * v for n, v in values.items()} for slot, values in slots.items()}
    before = {"parameters": parameters, "state": OptimizerState(slots=zeros, step=0)}

    def judge(after: dict, steps: int = 1) -> set[str]:
        comparison = Comparison("NumPy")
        after = {**after, "state": OptimizerState(slots=slots, step=steps)}
        judge_update(
            comparison, spec, optimizer, FLOAT64, layout,
            step=0, before=before, gradients=gradients, after=after,
        )  # fmt: skip
        return {kind for kind, figure in comparison.figures.items() if not figure.ok}

    good = {"parameters": updated}
    assert judge(good) == set()
    assert judge(good, steps=2) == {"updates counted"}
    moved = {**updated, "dense_0/bias": updated["dense_0/bias"] + 1e-11}
    assert judge({**good, "parameters": moved}) == {"update of parameters, absolute"}
    # The clipped gradients can be read from the state.
    flat = {slot: layout.flat(values) for slot, values in slots.items()}
    found = gradients_of_step(
        optimizer,
        parameters=layout.flat(parameters),
        before={slot: 0 * value for slot, value in flat.items()},
        after=flat,
        decayed=np.concatenate([np.full(p.size, p.decay) for p in spec.parameters()]),
    )
    expected = layout.flat(gradients)
    expected *= 0.1 / np.linalg.norm(expected)
    assert found == pytest.approx(expected, abs=1e-14)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _One(ModelSpec):
    """A model with one parameter: the kernel of a convolution."""

    initializer: Initializer

    def parameters(self) -> tuple[Parameter, ...]:
        return (
            Parameter(
                name="kernel",
                shape=(3, 5, 8, 16),
                dims=("height", "width", "input", "output"),
                initializer=self.initializer,
                decay=True,
            ),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Scaled(Initializer):
    """Draws ``scale`` x the values of ``of``, but states the distribution of ``of``."""

    of: Initializer
    scale: float

    def draw(self, generator: np.random.Generator, sizes: Sizes) -> np.ndarray:
        return self.scale * self.of.draw(generator, sizes)

    def distribution(self, sizes: Sizes) -> Distribution:
        return self.of.distribution(sizes)


CONVOLUTION = GlorotUniform(
    fan_in=("height", "width", "input"), fan_out=("height", "width", "output")
)


@pytest.mark.parametrize("of", [Normal(std=0.02), CONVOLUTION, Ones()])
@pytest.mark.parametrize("scale, ok", [(1.0, True), (1.25, False), (0.8, False)])
def test_initial_values_follow_their_distribution(of: Initializer, scale: float, ok: bool) -> None:
    spec = _One(initializer=_Scaled(of=of, scale=scale))
    (figure,) = judge_initializers(spec, seed=0).figures.values()
    assert figure.ok is ok


@pytest.mark.parametrize("name", lookup.parity_specs())
def test_initial_values_of_every_model_follow_their_distribution(name: str) -> None:
    figures = judge_initializers(lookup.parity_specs()[name], seed=0).figures
    assert all(figure.ok for figure in figures.values()), list(map(str, figures.values()))
