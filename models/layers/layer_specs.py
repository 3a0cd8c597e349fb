"""Layers that several model families use: their parameters, FLOPs and NumPy references.

Dims: B batch, T query sequence, S key sequence, D d_model.
"""

import math

import numpy as np

from isoscale.common.config.errors import ConfigError, require_choice
from isoscale.common.config.initializers import Normal, Ones, Zeros
from isoscale.common.config.model_spec import Arrays, Factors, Parameter
from isoscale.common.reference import functions as reference

KERNEL = Normal(std=0.02)
"""Initialiser of every kernel and embedding, as in GPT-2."""


LARGE_FACTORS = {
    # From tokens whose variance is far below the epsilon of layer norm to tokens far above it.
    "token_embedding/embedding": Factors(first=3e-3, last=400.0, dim="vocabulary"),
    "position_embedding/embedding": Factors(first=1e-3, last=1e-3),
    # The first head mixes many positions; the last head looks at one.
    "query/kernel": Factors(first=0.5, last=12.0),
    "key/kernel": Factors(first=0.5, last=12.0),
    "value/kernel": Factors(first=0.1, last=10.0),
    "output/kernel": Factors(first=0.1, last=10.0),
    "head/kernel": Factors(first=1.0, last=1000.0),
}
"""Factors with which embeddings, attention and head visit large activations in parity."""


def check_heads(d_model: int, num_heads: int) -> None:
    """Raises ConfigError unless num_heads divides d_model."""
    if d_model % num_heads:
        raise ConfigError(f"num_heads={num_heads} does not divide d_model={d_model}")


def check_network(activation: str, layer_norm_epsilon: float) -> None:
    """Raises ConfigError for an unknown activation, or an epsilon that is not positive."""
    require_choice("activation", activation, reference.ACTIVATIONS)
    if not (layer_norm_epsilon > 0 and math.isfinite(layer_norm_epsilon)):
        raise ConfigError(f"layer_norm_epsilon={layer_norm_epsilon} must be a positive number")


def kernel(name: str, shape: tuple[int, ...], dims: tuple[str, ...]) -> Parameter:
    return Parameter(name=name, shape=shape, dims=dims, initializer=KERNEL, decay=True)


def bias(name: str, size: int, dim: str) -> Parameter:
    return Parameter(name=name, shape=(size,), dims=(dim,), initializer=Zeros(), decay=False)


def layer_norm(name: str, d_model: int) -> list[Parameter]:
    dims = ("d_model",)
    return [
        Parameter(
            name=f"{name}/scale", shape=(d_model,), dims=dims, initializer=Ones(), decay=False
        ),
        bias(f"{name}/bias", d_model, "d_model"),
    ]


def dense(name: str, sizes: tuple[int, int], dims: tuple[str, str]) -> list[Parameter]:
    return [kernel(f"{name}/kernel", sizes, dims), bias(f"{name}/bias", sizes[1], dims[1])]


def attention(name: str, d_model: int) -> list[Parameter]:
    """Returns query, key, value and output projections; the projected dim lists all heads."""
    tree = []
    for projection in ("query", "key", "value"):
        tree += dense(f"{name}/{projection}", (d_model, d_model), ("d_model", "heads"))
    return tree + dense(f"{name}/output", (d_model, d_model), ("heads", "d_model"))


def embeddings(vocabulary_size: int, sequence_length: int, d_model: int) -> list[Parameter]:
    return [
        kernel("token_embedding/embedding", (vocabulary_size, d_model), ("vocabulary", "d_model")),
        kernel("position_embedding/embedding", (sequence_length, d_model), ("sequence", "d_model")),
    ]


def head(vocabulary_size: int, d_model: int, *, tied: bool) -> list[Parameter]:
    """Returns the projection to the vocabulary; empty if it is tied to the token embedding."""
    return [] if tied else dense("head", (d_model, vocabulary_size), ("d_model", "vocabulary"))


def reference_dense(parameters: Arrays, name: str, x: np.ndarray) -> np.ndarray:
    return reference.dense(x, parameters[f"{name}/kernel"], parameters[f"{name}/bias"])


def reference_norm(parameters: Arrays, name: str, x: np.ndarray, *, epsilon: float) -> np.ndarray:
    scale, bias = parameters[f"{name}/scale"], parameters[f"{name}/bias"]
    return reference.layer_norm(x, scale, bias, epsilon=epsilon)


def reference_embed(parameters: Arrays, batch: Arrays) -> np.ndarray:
    """Returns token + position embeddings [B, T, D]."""
    tokens = batch["tokens"]
    positions = parameters["position_embedding/embedding"][: tokens.shape[1]]
    return (parameters["token_embedding/embedding"][tokens] + positions).astype(np.float64)


def reference_attention(
    parameters: Arrays,
    name: str,
    x_BTD: np.ndarray,
    *,
    num_heads: int,
    causal: bool,
    padding_mask_BS: np.ndarray | None,
) -> np.ndarray:
    """Returns multi-head attention [B, T, D] with scores / sqrt(head_dim).

    Source: Vaswani et al. 2017, arXiv:1706.03762.
    """
    batch, length, d_model = x_BTD.shape
    head_dim = d_model // num_heads

    def heads(projection: str) -> np.ndarray:
        y = reference_dense(parameters, f"{name}/{projection}", x_BTD)
        return y.reshape(batch, length, num_heads, head_dim).transpose(0, 2, 1, 3)

    scores = heads("query") @ heads("key").transpose(0, 1, 3, 2) / np.sqrt(head_dim)
    allowed = np.ones((length, length), bool)
    if causal:
        allowed = np.tril(allowed)
    allowed = np.broadcast_to(allowed, scores.shape)
    if padding_mask_BS is not None:
        allowed = allowed & padding_mask_BS[:, None, None, :]
    weights = reference.softmax(np.where(allowed, scores, -np.inf))
    mixed = (weights @ heads("value")).transpose(0, 2, 1, 3).reshape(batch, length, d_model)
    return reference_dense(parameters, f"{name}/output", mixed)


def reference_head(parameters: Arrays, x_BTD: np.ndarray, *, tied: bool) -> np.ndarray:
    if tied:
        return x_BTD @ parameters["token_embedding/embedding"].astype(np.float64).T
    return reference_dense(parameters, "head", x_BTD)


def attention_flops(*, tokens: int, sequence_length: int, d_model: int) -> int:
    """Returns the forward FLOPs of one attention layer over ``tokens`` = B T tokens.

    Four projections take 2 T D^2 each; two products with the T x S scores take 2 T S D each
    (Hoffmann et al. 2022, arXiv:2203.15556, appendix F). A causal mask saves no FLOPs here: most
    kernels compute the full matrix.
    """
    return 4 * 2 * tokens * d_model**2 + 2 * 2 * tokens * sequence_length * d_model
