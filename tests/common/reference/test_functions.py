import numpy as np
import pytest
from scipy import special

from isoscale.common.reference import functions as reference
from isoscale.common.reference.evaluation import Evaluation

RANDOM = np.random.default_rng(0)


def test_cross_entropy_equals_scipy() -> None:
    logits = RANDOM.normal(size=(5, 7)) * 50
    labels = RANDOM.integers(7, size=5)
    expected = -special.log_softmax(logits, axis=-1)[np.arange(5), labels]
    assert reference.cross_entropy(logits, labels) == pytest.approx(expected, abs=1e-12)


def test_softmax_equals_scipy_with_masked_scores() -> None:
    scores = np.where(RANDOM.random((4, 6)) < 0.3, -np.inf, RANDOM.normal(size=(4, 6)))
    scores[:, 0] = 0.0
    assert reference.softmax(scores) == pytest.approx(special.softmax(scores, axis=-1), abs=1e-15)


def test_tanh_gelu_is_close_to_exact_gelu_but_not_equal() -> None:
    x = np.linspace(-4, 4, 101)
    exact = x * special.ndtr(x)
    difference = np.abs(reference.gelu_tanh(x) - exact).max()
    assert 1e-5 < difference < 1e-3
    assert reference.gelu(x) == pytest.approx(exact, abs=1e-15)


def test_layer_norm_normalises() -> None:
    x = RANDOM.normal(3.0, 2.0, size=(10, 64))
    y = reference.layer_norm(x, np.ones(64), np.zeros(64), epsilon=1e-5)
    assert y.mean(-1) == pytest.approx(np.zeros(10), abs=1e-12)
    assert (y**2).mean(-1) == pytest.approx(np.ones(10), abs=1e-4)


def test_evaluation_ignores_padding_examples() -> None:
    evaluation = Evaluation()
    logits = np.array([[5.0, 0.0], [0.0, 5.0], [0.0, 5.0]])
    labels = np.array([0, 1, 0])
    evaluation.add(logits, {"labels": labels, "weights": np.array([1.0, 1.0, 0.0])})
    assert evaluation.result()["accuracy"] == 1.0
    evaluation.add(logits, {"labels": labels, "weights": np.array([0.0, 0.0, 1.0])})
    assert evaluation.result() == pytest.approx(
        {"accuracy": 2 / 3, "n": 3, "loss": evaluation.result()["loss"]}
    )
