"""The transformer in Flax.

Dims: B batch, T query sequence, S key sequence, D d_model, F d_ff, N num_heads, H head_dim,
V vocabulary.
"""

from collections.abc import Collection

import jax
from flax import nnx

from isoscale.models.layers.flax_layers import ACTIVATIONS, Attention, Dense, Embedder, LayerNorm
from isoscale.models.transformer.spec import TransformerSpec


class FeedForward(nnx.Module):
    def __init__(self, d_model: int, d_ff: int, *, activation: str, **options):
        self.activation = ACTIVATIONS[activation]
        self.up = Dense(d_model, d_ff, **options)
        self.down = Dense(d_ff, d_model, **options)

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        return self.down(self.activation(self.up(x_BTD)))


class Block(nnx.Module):
    def __init__(self, spec: TransformerSpec, **options):
        epsilon = spec.layer_norm_epsilon
        self.attention_norm = LayerNorm(spec.d_model, epsilon=epsilon, **options)
        self.attention = Attention(spec.d_model, spec.num_heads, causal=spec.causal, **options)
        self.feed_forward_norm = LayerNorm(spec.d_model, epsilon=epsilon, **options)
        self.feed_forward = FeedForward(
            spec.d_model, spec.d_ff, activation=spec.activation, **options
        )

    def __call__(self, x_BTD: jax.Array, padding_mask_BT: jax.Array | None) -> jax.Array:
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), padding_mask_BT)
        return x_BTD + self.feed_forward(self.feed_forward_norm(x_BTD))


class Transformer(Embedder):
    def __init__(self, spec: TransformerSpec, **options):
        self.causal, self.tied = spec.causal, spec.tie_embeddings
        self.make_embeddings(spec.vocabulary_size, spec.sequence_length, spec.d_model, **options)
        self.block = nnx.List([Block(spec, **options) for _ in range(spec.num_layers)])
        self.final_norm = LayerNorm(spec.d_model, epsilon=spec.layer_norm_epsilon, **options)
        outputs = spec.vocabulary_size if spec.causal else spec.num_classes
        if not self.tied:
            self.head = Dense(spec.d_model, outputs, **options)

    def __call__(
        self,
        tokens_BT: jax.Array,
        padding_mask_BT: jax.Array | None = None,
        *,
        dropout: jax.Array | None = None,
    ) -> jax.Array:
        """Returns logits [B, T, V] (causal) or [B, classes]."""
        del dropout  # this family has no dropout
        x_BTD = self.embed(tokens_BT)
        for block in self.block:
            x_BTD = block(x_BTD, padding_mask_BT)
        x_BTD = self.final_norm(x_BTD)
        if self.causal:
            return self.tied_logits(x_BTD) if self.tied else self.head(x_BTD)
        if padding_mask_BT is None:
            return self.head(x_BTD.mean(1))
        mask_BT1 = padding_mask_BT[..., None].astype(x_BTD.dtype)
        return self.head((x_BTD * mask_BT1).sum(1) / mask_BT1.sum(1))


def build(spec: TransformerSpec, *, dtype, param_dtype, tweaks: Collection[str]) -> Transformer:
    rngs = nnx.Rngs(0)  # Flax layers require an Rngs; start values come from the spec
    return Transformer(spec, dtype=dtype, param_dtype=param_dtype, rngs=rngs, tweaks=tweaks)
