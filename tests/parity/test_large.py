"""Tests that the pieces ``<model>/large`` visit the ranges that they claim, in the NumPy reference.

Parity shows equality at the inputs that it visits. The usual start values keep activations small:
``relu6`` equals ``relu`` there. The tests watch the functions of the reference in the first step.
"""

import dataclasses
import math
from collections import defaultdict

import numpy as np
import pytest

from isoscale.common.config.initializers import Normal
from isoscale.common.config.model_spec import Factors, Parameter
from isoscale.common.parity.cases import LARGE_STEPS, Case, all_cases
from isoscale.common.reference import functions as reference
from isoscale.common.registry import lookup

LARGE = [name for name, case in all_cases().items() if case.large]
SATURATED = 1 - 1e-6
LARGEST_EXPONENT = {np.float32: 88.8, np.float64: 709.8}
"""exp of a larger number is infinite; a softmax must subtract the maximum first."""


@dataclasses.dataclass
class Visited:
    """What the reference computed in one forward pass.

    Attributes:
      activated: inputs of activation functions.
      attended: largest weight of each position in each head; without positions that see one only.
      routed: probabilities of experts for each token.
      variances: variance of each input of a layer norm.
      logits: logits of each row with a label.
    """

    activated: np.ndarray
    attended: np.ndarray
    routed: np.ndarray
    variances: np.ndarray
    logits: np.ndarray


def visit(case: Case, monkeypatch: pytest.MonkeyPatch) -> Visited:
    """Returns the values of the first step of a case."""
    seen: dict[str, list[np.ndarray]] = defaultdict(list)

    def activation(function):
        def watched(x):
            seen["activated"].append(x.ravel())
            return function(x)

        return watched

    def softmax(x):
        weights = unwatched_softmax(x)
        if x.ndim == 4:  # attention; a router has the dims batch, sequence, experts
            seen["attended"].append(weights.max(-1)[np.isfinite(x).sum(-1) > 1])
        else:
            seen["routed"].append(weights.ravel())
        return weights

    def layer_norm(x, *rest, **options):
        seen["variances"].append(x.var(-1).ravel())
        return unwatched_norm(x, *rest, **options)

    unwatched_softmax, unwatched_norm = reference.softmax, reference.layer_norm
    with monkeypatch.context() as patch:
        for name, function in list(reference.ACTIVATIONS.items()):
            patch.setitem(reference.ACTIVATIONS, name, activation(function))
        patch.setattr(reference, "relu", activation(reference.relu))
        patch.setattr(reference, "softmax", softmax)
        patch.setattr(reference, "layer_norm", layer_norm)
        batch = case.batches("float64")[0]
        logits, _ = case.spec.reference_forward(case.initial(), batch)
    assert np.isfinite(logits).all()
    fields = [field.name for field in dataclasses.fields(Visited) if field.name != "logits"]
    found = {name: np.concatenate(seen[name]) if seen[name] else np.empty(0) for name in fields}
    return Visited(**found, logits=logits[batch["weights"] > 0])


def share(values: np.ndarray) -> float:
    return float(np.mean(values))


def test_every_parity_size_has_a_piece_with_large_activations() -> None:
    assert [f"{name}/large" for name in lookup.parity_specs()] == LARGE
    for name in LARGE:
        assert all_cases()[name].trained_steps(25) == LARGE_STEPS
        assert all_cases()[name].trained_steps(2) == 2


@pytest.mark.parametrize("name", LARGE)
def test_large_activations_visit_both_tails_of_every_nonlinearity(name: str, monkeypatch) -> None:
    case = all_cases()[name]
    found = visit(case, monkeypatch)
    # Activation functions: far outside and inside the range in which relu6 and the two versions of
    # GELU are equal to others.
    assert found.activated.min() < -20
    assert found.activated.max() > 20
    assert share(found.activated < -6) > 0.05
    assert share(found.activated > 6) > 0.05
    assert share(np.abs(found.activated) < 3) > 0.2
    # The softmax of the loss: without the maximum subtracted, exp overflows.
    assert found.logits.max() > LARGEST_EXPONENT[np.float32]
    assert share(found.logits.max(-1) > 50) > 0.3
    # Attention: some heads look at one position, others at several.
    if found.attended.size:
        assert share(found.attended > SATURATED) > 0.02
        assert share(found.attended < 0.5) > 0.2
    # Layer norm: tokens whose variance is far below epsilon, and tokens far above it.
    if found.variances.size:
        epsilon = case.spec.layer_norm_epsilon
        assert found.variances.min() < epsilon / 5
        assert share(found.variances < epsilon) > 0.02
        assert share(found.variances > 100) > 0.1
    # Routers: some tokens are sure of their expert, others are not. A probability of 0 would be a
    # tie, and rounding would decide which expert has it.
    if found.routed.size:
        rows = found.routed.reshape(-1, case.spec.experts)
        assert share(rows.max(-1) > 0.999) > 0.02
        assert share(rows.max(-1) < 0.9) > 0.1
        assert rows.min() > np.finfo(np.float32).tiny


def test_in_each_family_logits_overflow_in_float64_and_routers_saturate(monkeypatch) -> None:
    largest: dict[str, float] = defaultdict(float)
    surest = 0.0
    for name in LARGE:
        case = all_cases()[name]
        family, found = lookup.family_of(case.spec), visit(case, monkeypatch)
        largest[family] = max(largest[family], found.logits.max())
        surest = max(surest, found.routed.max(initial=0.0))
    assert set(largest) == {"mlp", "moe", "transformer"}
    assert min(largest.values()) > LARGEST_EXPONENT[np.float64]
    assert surest > SATURATED


def test_the_watched_functions_are_those_of_the_families(monkeypatch) -> None:
    """A family that does not call them would pass the test of ranges unseen."""
    sizes = {
        name: {
            field.name
            for field in dataclasses.fields(Visited)
            if getattr(visit(all_cases()[f"{name}/large"], monkeypatch), field.name).size
        }
        for name in ("mlp_plain", "transformer_encoder", "transformer_causal", "moe_plain")
    }
    assert sizes["mlp_plain"] == {"activated", "logits"}
    assert sizes["transformer_encoder"] == {"activated", "logits", "attended", "variances"}
    assert sizes["transformer_causal"] == sizes["transformer_encoder"]
    assert sizes["moe_plain"] == {*sizes["transformer_encoder"], "routed"}


@pytest.mark.parametrize("name", lookup.parity_specs())
def test_the_usual_start_values_do_not_visit_these_ranges(name: str, monkeypatch) -> None:
    """They are the reason for the pieces: up to 6, relu6 equals relu."""
    found = visit(all_cases()[name], monkeypatch)
    assert np.abs(found.activated).max() < 6
    assert np.abs(found.logits).max() < 6


def test_factors_grow_along_their_dim_and_keep_constants() -> None:
    for name in LARGE:
        large, usual = all_cases()[name], all_cases()[name.removesuffix("/large")]
        start = dataclasses.replace(usual, start={}).initial()
        for parameter in large.spec.parameters():
            values, before = large.initial()[parameter.name], start[parameter.name]
            assert values.dtype == before.dtype == np.float32
            if len(parameter.shape) == 1:  # biases and scales
                assert np.array_equal(values, before)
                continue
            ratio = values.astype(float) / before
            assert not np.allclose(ratio, 1)
            assert 0 < ratio.min() <= ratio.max() < math.inf


KERNEL = Parameter(
    name="kernel", shape=(2, 3), dims=("input", "output"), initializer=Normal(std=1.0), decay=True
)


@pytest.mark.parametrize(
    "factors, expected",
    [
        (Factors(), [[1, 30**0.5, 30], [1, 30**0.5, 30]]),  # of a family that states none
        (Factors(first=2.0, last=8.0, dim="input"), [[2, 2, 2], [8, 8, 8]]),
    ],
)
def test_factors_are_a_geometric_series_along_a_dim(factors: Factors, expected: list) -> None:
    values = np.full((2, 3), 2.0, np.float32)
    scaled = factors.scaled(KERNEL, values)
    assert scaled.dtype == np.float32
    assert scaled / 2 == pytest.approx(np.array(expected, np.float32))


def test_wrong_factors_are_refused() -> None:
    with pytest.raises(ValueError, match="both factors must be positive and finite"):
        Factors(first=0.0)
    with pytest.raises(ValueError, match=r"parameter kernel: .*the dims are"):
        Factors(dim="heads").scaled(KERNEL, np.ones((2, 3)))
