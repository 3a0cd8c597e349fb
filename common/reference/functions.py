"""NumPy formulas that every framework's operations must match (in float64 in parity tests)."""

import math

import numpy as np

LAYER_NORM_EPSILON = 1e-5


def dense(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Returns x [..., in] @ kernel [in, out] + bias [out]."""
    return x @ kernel + bias


def relu(x: np.ndarray) -> np.ndarray:
    """Returns max(x, 0) for each entry."""
    return np.maximum(x, 0)


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """Returns the tanh approximation of GELU (Hendrycks & Gimpel 2016, arXiv:1606.08415)."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu(x: np.ndarray) -> np.ndarray:
    """Returns x times the normal distribution function of x (Hendrycks & Gimpel 2016)."""
    from scipy import special  # every program imports this file; few call this function

    return 0.5 * x * (1 + special.erf(x / math.sqrt(2)))


ACTIVATIONS = {"gelu_tanh": gelu_tanh, "gelu": gelu, "relu": relu}


def softmax(x: np.ndarray) -> np.ndarray:
    """Returns the softmax over the last dim."""
    shifted = np.exp(x - x.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def layer_norm(x: np.ndarray, scale: np.ndarray, bias: np.ndarray, *, epsilon: float) -> np.ndarray:
    """Returns the layer norm over the last dim, with the biased variance.

    Source: Ba et al. 2016, arXiv:1607.06450.
    """
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * scale + bias


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns softmax cross-entropy in nats: logits [..., classes], labels [...] -> [...]."""
    peak = logits.max(-1, keepdims=True)
    log_normalizer = np.log(np.exp(logits - peak).sum(-1)) + peak[..., 0]
    return log_normalizer - np.take_along_axis(logits, labels[..., None], -1)[..., 0]


def weighted_loss(logits: np.ndarray, batch: dict[str, np.ndarray]) -> float:
    """Returns sum(weight * cross-entropy) / sum(weight) over the global batch, in nats."""
    losses = cross_entropy(logits, batch["labels"])
    return float((losses * batch["weights"]).sum() / batch["normalizer"])
