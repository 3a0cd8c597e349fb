"""The pre-norm transformer: an encoder that classifies sequences, or a causal language model."""

import dataclasses
import functools

import numpy as np

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.model_spec import (
    MOST_LAYERS,
    Arrays,
    Factors,
    Family,
    ModelSpec,
    Parameter,
    Preset,
    TokenBatch,
    check_sizes,
)
from isoscale.common.reference import functions as reference
from isoscale.models.layers import layer_specs as layers


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerSpec(ModelSpec):
    """Sizes of the network.

    Attributes:
      d_model, d_ff: width of the model, and of the hidden layer of each feed-forward layer.
      num_layers, num_heads: number of blocks, and of attention heads in a block.
      vocabulary_size, sequence_length: number of different tokens, and of tokens in a sequence.
      causal: True: a language model; False: an encoder classifier.
      num_classes: number of labels of the classifier; 0 for a language model.
      variable_length: whether sequences differ in length and have a padding mask.
      activation: activation of the feed-forward layers: gelu_tanh, gelu or relu.
      layer_norm_epsilon: number added to the variance.
      tie_embeddings: whether the logits of a language model are products with its token embedding.
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
        check_sizes(self, "d_model", "num_heads", "d_ff", "vocabulary_size", "sequence_length")
        check_sizes(self, "num_layers", maximum=MOST_LAYERS)
        layers.check_heads(self.d_model, self.num_heads)
        layers.check_network(self.activation, self.layer_norm_epsilon)
        if self.tie_embeddings and not self.causal:
            raise ConfigError(
                "tie_embeddings=True needs a causal model: a classifier outputs no tokens"
            )
        if self.causal and self.num_classes:
            raise ConfigError(f"num_classes={self.num_classes} must be 0 for a causal model")
        if not self.causal and self.num_classes < 1:
            raise ConfigError(f"num_classes={self.num_classes} must be 1 or more for a classifier")

    def parameters(self) -> tuple[Parameter, ...]:
        d, f = self.d_model, self.d_ff
        tree = layers.embeddings(self.vocabulary_size, self.sequence_length, d)
        for index in range(self.num_layers):
            block = f"block_{index}"
            tree += layers.layer_norm(f"{block}/attention_norm", d)
            tree += layers.attention(f"{block}/attention", d)
            tree += layers.layer_norm(f"{block}/feed_forward_norm", d)
            tree += layers.dense(f"{block}/feed_forward/up", (d, f), ("d_model", "d_ff"))
            tree += layers.dense(f"{block}/feed_forward/down", (f, d), ("d_ff", "d_model"))
        tree += layers.layer_norm("final_norm", d)
        if self.causal:
            tree += layers.head(self.vocabulary_size, d, tied=self.tie_embeddings)
        else:
            tree += layers.dense("head", (d, self.num_classes), ("d_model", "classes"))
        return tuple(tree)

    def batch_kind(self) -> TokenBatch:
        return TokenBatch(
            vocabulary_size=self.vocabulary_size,
            sequence_length=self.sequence_length,
            num_classes=None if self.causal else self.num_classes,
            variable_length=self.variable_length,
        )

    def forward_flops(self, *, global_batch_size: int) -> int:
        """Returns the FLOPs of all products; embedding lookups count 0."""
        tokens = global_batch_size * self.sequence_length
        per_layer = (
            layers.attention_flops(
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
        norm = functools.partial(layers.reference_norm, parameters, epsilon=self.layer_norm_epsilon)
        activation = reference.ACTIVATIONS[self.activation]
        x_BTD = layers.reference_embed(parameters, batch)
        for index in range(self.num_layers):
            block = f"block_{index}"
            x_BTD = x_BTD + layers.reference_attention(
                parameters,
                f"{block}/attention",
                norm(f"{block}/attention_norm", x_BTD),
                num_heads=self.num_heads,
                causal=self.causal,
                padding_mask_BS=mask_BT,
            )
            y_BTD = norm(f"{block}/feed_forward_norm", x_BTD)
            hidden_BTF = activation(
                layers.reference_dense(parameters, f"{block}/feed_forward/up", y_BTD)
            )
            x_BTD = x_BTD + layers.reference_dense(
                parameters, f"{block}/feed_forward/down", hidden_BTF
            )
        x_BTD = norm("final_norm", x_BTD)
        no_auxiliary = np.zeros(len(x_BTD))
        if self.causal:
            return layers.reference_head(parameters, x_BTD, tied=self.tie_embeddings), no_auxiliary
        # The head of a classifier takes the mean over real tokens.
        mask_BT = np.ones(x_BTD.shape[:2], bool) if mask_BT is None else mask_BT
        x_BD = (x_BTD * mask_BT[..., None]).sum(1) / mask_BT.sum(1)[:, None]
        return layers.reference_dense(parameters, "head", x_BD), no_auxiliary


_PRESETS = {
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
_PARITY_SPECS = {
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

FAMILY = Family(
    presets=_PRESETS,
    parity_specs=_PARITY_SPECS,
    parity_large={
        **layers.LARGE_FACTORS,
        "up/kernel": Factors(first=1.0, last=40.0),
        "down/kernel": Factors(first=0.1, last=1.0),
    },
)
