"""The transformer in PyTorch.

Dims: B batch, T query sequence, S key sequence, D d_model, F d_ff, N num_heads, H head_dim,
V vocabulary.
"""

from collections.abc import Collection

import torch
from torch import nn

from isoscale.models.layers.torch_layers import ACTIVATIONS, Attention, Dense, Embedder, LayerNorm
from isoscale.models.transformer.spec import TransformerSpec


class FeedForward(nn.Module):
    def __init__(self, d_model: int, d_ff: int, *, activation: str, tweaks: Collection[str]):
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.up = Dense(d_model, d_ff, tweaks=tweaks)
        self.down = Dense(d_ff, d_model, tweaks=tweaks)

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        return self.down(self.activation(self.up(x_BTD)))


class Block(nn.Module):
    def __init__(self, spec: TransformerSpec, *, tweaks: Collection[str]):
        super().__init__()
        self.attention_norm = LayerNorm(spec.d_model, eps=spec.layer_norm_epsilon)
        self.attention = Attention(spec.d_model, spec.num_heads, causal=spec.causal, tweaks=tweaks)
        self.feed_forward_norm = LayerNorm(spec.d_model, eps=spec.layer_norm_epsilon)
        self.feed_forward = FeedForward(
            spec.d_model, spec.d_ff, activation=spec.activation, tweaks=tweaks
        )

    def forward(self, x_BTD: torch.Tensor, padding_mask_BT: torch.Tensor | None) -> torch.Tensor:
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), padding_mask_BT)
        return x_BTD + self.feed_forward(self.feed_forward_norm(x_BTD))


class Transformer(Embedder):
    def __init__(self, spec: TransformerSpec, *, dtype: torch.dtype, tweaks: Collection[str]):
        super().__init__(spec.vocabulary_size, spec.sequence_length, spec.d_model, dtype=dtype)
        self.causal, self.tied = spec.causal, spec.tie_embeddings
        self.block = nn.ModuleList([Block(spec, tweaks=tweaks) for _ in range(spec.num_layers)])
        self.final_norm = LayerNorm(spec.d_model, eps=spec.layer_norm_epsilon)
        outputs = spec.vocabulary_size if spec.causal else spec.num_classes
        if not self.tied:
            self.head = Dense(spec.d_model, outputs, tweaks=tweaks)

    def forward(
        self,
        tokens_BT: torch.Tensor,
        padding_mask_BT: torch.Tensor | None = None,
        *,
        dropout: bool | None = None,
    ) -> torch.Tensor:
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
        mask_BT1 = padding_mask_BT[..., None].to(x_BTD.dtype)
        return self.head((x_BTD * mask_BT1).sum(1) / mask_BT1.sum(1))


def build(
    spec: TransformerSpec, *, dtype: torch.dtype, param_dtype: torch.dtype, tweaks: Collection[str]
) -> Transformer:
    return Transformer(spec, dtype=dtype, tweaks=tweaks).to(param_dtype)
