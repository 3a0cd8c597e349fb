"""The transformer in TensorFlow.

Dims: B batch, T query sequence, S key sequence, D d_model, F d_ff, N num_heads, H head_dim,
V vocabulary.
"""

from collections.abc import Collection

import tensorflow as tf

from isoscale.models.layers.tf_layers import ACTIVATIONS, Attention, Dense, Embedder, LayerNorm
from isoscale.models.transformer.spec import TransformerSpec


class FeedForward(tf.Module):
    def __init__(
        self, d_model: int, d_ff: int, *, activation: str, param_dtype: tf.DType, name: str
    ):
        super().__init__(name=name)
        self.activation = ACTIVATIONS[activation]
        self.up = Dense(d_model, d_ff, param_dtype=param_dtype, name="up")
        self.down = Dense(d_ff, d_model, param_dtype=param_dtype, name="down")

    def __call__(self, x_BTD: tf.Tensor) -> tf.Tensor:
        return self.down(self.activation(self.up(x_BTD)))


class Block(tf.Module):
    def __init__(self, spec: TransformerSpec, *, param_dtype: tf.DType, name: str):
        super().__init__(name=name)
        d, epsilon = spec.d_model, spec.layer_norm_epsilon
        self.attention_norm = LayerNorm(
            d, epsilon=epsilon, param_dtype=param_dtype, name="attention_norm"
        )
        self.attention = Attention(
            d, spec.num_heads, causal=spec.causal, param_dtype=param_dtype, name="attention"
        )
        self.feed_forward_norm = LayerNorm(
            d, epsilon=epsilon, param_dtype=param_dtype, name="feed_forward_norm"
        )
        self.feed_forward = FeedForward(
            d,
            spec.d_ff,
            activation=spec.activation,
            param_dtype=param_dtype,
            name="feed_forward",
        )

    def __call__(self, x_BTD: tf.Tensor, padding_mask_BT: tf.Tensor | None) -> tf.Tensor:
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), padding_mask_BT)
        return x_BTD + self.feed_forward(self.feed_forward_norm(x_BTD))


class Transformer(Embedder):
    def __init__(self, spec: TransformerSpec, *, dtype: tf.DType, param_dtype: tf.DType):
        super().__init__(
            spec.vocabulary_size,
            spec.sequence_length,
            spec.d_model,
            dtype=dtype,
            param_dtype=param_dtype,
            name="transformer",
        )
        self.causal, self.tied = spec.causal, spec.tie_embeddings
        self.block = [
            Block(spec, param_dtype=param_dtype, name=f"block_{index}")
            for index in range(spec.num_layers)
        ]
        self.final_norm = LayerNorm(
            spec.d_model,
            epsilon=spec.layer_norm_epsilon,
            param_dtype=param_dtype,
            name="final_norm",
        )
        outputs = spec.vocabulary_size if spec.causal else spec.num_classes
        if not self.tied:
            self.head = Dense(spec.d_model, outputs, param_dtype=param_dtype, name="head")

    def __call__(
        self,
        tokens_BT: tf.Tensor,
        padding_mask_BT: tf.Tensor | None = None,
        *,
        dropout: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns logits [B, T, V] (causal) or [B, classes]."""
        del dropout  # this family has no dropout
        x_BTD = self.embed(tokens_BT)
        for block in self.block:
            x_BTD = block(x_BTD, padding_mask_BT)
        x_BTD = self.final_norm(x_BTD)
        if self.causal:
            return self.tied_logits(x_BTD) if self.tied else self.head(x_BTD)
        if padding_mask_BT is None:
            return self.head(tf.reduce_mean(x_BTD, 1))
        mask_BT1 = tf.cast(padding_mask_BT[..., None], x_BTD.dtype)
        return self.head(tf.reduce_sum(x_BTD * mask_BT1, 1) / tf.reduce_sum(mask_BT1, 1))


def build(
    spec: TransformerSpec, *, dtype: tf.DType, param_dtype: tf.DType, tweaks: Collection[str]
) -> Transformer:
    del tweaks  # no tweak changes TensorFlow's models
    return Transformer(spec, dtype=dtype, param_dtype=param_dtype)
