"""Pre-norm transformer: an encoder that classifies sequences, or a causal language model."""

import dataclasses
import functools
import math

import numpy as np

from isoscale.common.config.errors import ConfigError, require_choice
from isoscale.common.config.model_spec import (
    Arrays,
    ModelSpec,
    Parameter,
    Preset,
    TokenBatch,
    check_sizes,
)
from isoscale.common.reference import functions as reference


def check_heads(d_model: int, num_heads: int) -> None:
    """Raises ConfigError unless the heads divide d_model."""
    if d_model % num_heads:
        raise ConfigError(f"num_heads={num_heads} does not divide d_model={d_model}")


def kernel(name: str, shape: tuple[int, ...], dims: tuple[str, ...]) -> Parameter:
    return Parameter(name=name, shape=shape, dims=dims, initializer="normal_0.02", decay=True)


def bias(name: str, size: int, dim: str) -> Parameter:
    return Parameter(name=name, shape=(size,), dims=(dim,), initializer="zeros", decay=False)


def layer_norm(name: str, d_model: int) -> list[Parameter]:
    dims = ("d_model",)
    return [
        Parameter(
            name=f"{name}/scale", shape=(d_model,), dims=dims, initializer="ones", decay=False
        ),
        bias(f"{name}/bias", d_model, "d_model"),
    ]


def dense(name: str, sizes: tuple[int, int], dims: tuple[str, str]) -> list[Parameter]:
    return [kernel(f"{name}/kernel", sizes, dims), bias(f"{name}/bias", sizes[1], dims[1])]


def attention(name: str, d_model: int) -> list[Parameter]:
    """Query, key, value and output projections; heads lie side by side in the projected dim."""
    tree = []
    for projection in ("query", "key", "value"):
        tree += dense(f"{name}/{projection}", (d_model, d_model), ("d_model", "heads"))
    return tree + dense(f"{name}/output", (d_model, d_model), ("heads", "d_model"))


def embeddings(vocabulary_size: int, sequence_length: int, d_model: int) -> list[Parameter]:
    return [
        kernel("token_embedding/embedding", (vocabulary_size, d_model), ("vocabulary", "d_model")),
        kernel("position_embedding/embedding", (sequence_length, d_model), ("sequence", "d_model")),
    ]


def reference_dense(parameters: Arrays, name: str, x: np.ndarray) -> np.ndarray:
    return reference.dense(x, parameters[f"{name}/kernel"], parameters[f"{name}/bias"])


def reference_norm(parameters: Arrays, name: str, x: np.ndarray, *, epsilon: float) -> np.ndarray:
    scale, bias = parameters[f"{name}/scale"], parameters[f"{name}/bias"]
    return reference.layer_norm(x, scale, bias, epsilon=epsilon)


def check_network(activation: str, layer_norm_epsilon: float) -> None:
    """Raises ConfigError for an unknown activation, or an epsilon that is not positive."""
    require_choice("activation", activation, reference.ACTIVATIONS)
    if not (layer_norm_epsilon > 0 and math.isfinite(layer_norm_epsilon)):
        raise ConfigError(f"layer_norm_epsilon={layer_norm_epsilon} must be a positive number")


def head(vocabulary_size: int, d_model: int, *, tied: bool) -> list[Parameter]:
    """The projection to the vocabulary; a tied one is the token embedding and has no bias."""
    return [] if tied else dense("head", (d_model, vocabulary_size), ("d_model", "vocabulary"))


def reference_head(parameters: Arrays, x_BTD: np.ndarray, *, tied: bool) -> np.ndarray:
    if tied:
        return x_BTD @ parameters["token_embedding/embedding"].astype(np.float64).T
    return reference_dense(parameters, "head", x_BTD)


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
    """Multi-head attention (Vaswani et al. 2017, arXiv:1706.03762), scores / sqrt(head_dim)."""
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


def attention_flops(*, tokens: int, sequence_length: int, d_model: int) -> int:
    """Forward FLOPs of one attention layer over ``tokens`` = B T tokens.

    Four projections, 2 T D^2 each, and two products with the T x S scores, 2 T S D each
    (Hoffmann et al. 2022, arXiv:2203.15556, appendix F). A causal mask is not discounted: the
    full matrix is what most kernels compute.
    """
    return 4 * 2 * tokens * d_model**2 + 2 * 2 * tokens * sequence_length * d_model


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerSpec(ModelSpec):
    """Sizes of the network.

    Attributes:
      d_model, num_layers, num_heads, d_ff, vocabulary_size, sequence_length: as usual.
      causal: language model (True) or encoder classifier (False).
      num_classes: labels of the classifier; 0 for a language model.
      variable_length: sequences end early and come with a padding mask.
      activation: of the feed-forward layers: gelu_tanh, gelu or relu.
      layer_norm_epsilon: added to the variance.
      tie_embeddings: a language model's logits are products with its token embedding.
    """

    d_model: int = 128
    num_layers: int = 2
    num_heads: int = 4
    d_ff: int = 512
    vocabulary_size: int = 20000
    sequence_length: int = 128
    causal: bool = False
    num_classes: int = 4
    variable_length: bool = True
    activation: str = "gelu_tanh"
    layer_norm_epsilon: float = reference.LAYER_NORM_EPSILON
    tie_embeddings: bool = False

    def __post_init__(self) -> None:
        check_sizes(
            self, "d_model", "num_layers", "num_heads", "d_ff", "vocabulary_size", "sequence_length"
        )
        check_heads(self.d_model, self.num_heads)
        check_network(self.activation, self.layer_norm_epsilon)
        if self.tie_embeddings and not self.causal:
            raise ConfigError(
                "tie_embeddings=True needs a causal model: a classifier has no tokens out"
            )
        if self.causal and self.num_classes:
            raise ConfigError(f"num_classes={self.num_classes} must be 0 for a causal model")
        if not self.causal and self.num_classes < 1:
            raise ConfigError(f"num_classes={self.num_classes} must be 1 or more for a classifier")

    def parameters(self) -> tuple[Parameter, ...]:
        d, f = self.d_model, self.d_ff
        tree = embeddings(self.vocabulary_size, self.sequence_length, d)
        for index in range(self.num_layers):
            block = f"block_{index}"
            tree += layer_norm(f"{block}/attention_norm", d)
            tree += attention(f"{block}/attention", d)
            tree += layer_norm(f"{block}/feed_forward_norm", d)
            tree += dense(f"{block}/feed_forward/up", (d, f), ("d_model", "d_ff"))
            tree += dense(f"{block}/feed_forward/down", (f, d), ("d_ff", "d_model"))
        tree += layer_norm("final_norm", d)
        if self.causal:
            tree += head(self.vocabulary_size, d, tied=self.tie_embeddings)
        else:
            tree += dense("head", (d, self.num_classes), ("d_model", "classes"))
        return tuple(tree)

    def batch_kind(self) -> TokenBatch:
        return TokenBatch(
            vocabulary_size=self.vocabulary_size,
            sequence_length=self.sequence_length,
            num_classes=None if self.causal else self.num_classes,
            variable_length=self.variable_length,
        )

    def forward_flops(self, *, global_batch_size: int) -> int:
        """Products only, per layer and for the head; embedding lookups count 0."""
        tokens = global_batch_size * self.sequence_length
        per_layer = (
            attention_flops(
                tokens=tokens, sequence_length=self.sequence_length, d_model=self.d_model
            )
            + 2 * 2 * tokens * self.d_model * self.d_ff
        )
        if self.causal:
            head = 2 * tokens * self.d_model * self.vocabulary_size
        else:
            head = 2 * global_batch_size * self.d_model * self.num_classes
        return self.num_layers * per_layer + head

    def reference_forward(self, parameters: Arrays, batch: Arrays) -> tuple[np.ndarray, np.ndarray]:
        mask_BT = batch.get("padding_mask")
        norm = functools.partial(reference_norm, parameters, epsilon=self.layer_norm_epsilon)
        activation = reference.ACTIVATIONS[self.activation]
        x_BTD = reference_embed(parameters, batch)
        for index in range(self.num_layers):
            block = f"block_{index}"
            x_BTD = x_BTD + reference_attention(
                parameters,
                f"{block}/attention",
                norm(f"{block}/attention_norm", x_BTD),
                num_heads=self.num_heads,
                causal=self.causal,
                padding_mask_BS=mask_BT,
            )
            y_BTD = norm(f"{block}/feed_forward_norm", x_BTD)
            hidden_BTF = activation(reference_dense(parameters, f"{block}/feed_forward/up", y_BTD))
            x_BTD = x_BTD + reference_dense(parameters, f"{block}/feed_forward/down", hidden_BTF)
        x_BTD = norm("final_norm", x_BTD)
        no_auxiliary = np.zeros(len(x_BTD))
        if self.causal:
            return reference_head(parameters, x_BTD, tied=self.tie_embeddings), no_auxiliary
        # A classifier sees the mean over real tokens.
        mask_BT = np.ones(x_BTD.shape[:2], bool) if mask_BT is None else mask_BT
        x_BD = (x_BTD * mask_BT[..., None]).sum(1) / mask_BT.sum(1)[:, None]
        return reference_dense(parameters, "head", x_BD), no_auxiliary


PRESETS = {
    "transformer_small": Preset(spec=TransformerSpec(), global_batch_size=8, steps=50),
    "transformer_large": Preset(
        spec=TransformerSpec(
            d_model=256, num_layers=4, num_heads=8, d_ff=1024, sequence_length=256
        ),
        global_batch_size=32,
        steps=10,
    ),
    "gpt_tiny": Preset(
        spec=TransformerSpec(
            num_layers=4, vocabulary_size=256, causal=True, num_classes=0, variable_length=False
        ),
        global_batch_size=8,
        steps=20,
    ),
}

_PARITY = TransformerSpec(
    d_model=16, num_layers=2, num_heads=2, d_ff=24, vocabulary_size=40, sequence_length=12
)
PARITY_SPECS = {
    "transformer_encoder": dataclasses.replace(_PARITY, num_layers=1),
    "transformer_encoder_unpadded": dataclasses.replace(
        _PARITY, num_layers=1, variable_length=False, activation="gelu", layer_norm_epsilon=0.1
    ),
    "transformer_causal": dataclasses.replace(
        _PARITY, causal=True, num_classes=0, variable_length=False
    ),
    "transformer_causal_padded": dataclasses.replace(
        _PARITY, num_layers=1, causal=True, num_classes=0, tie_embeddings=True, activation="relu"
    ),
}
