"""The transformer in PyTorch.

Dims: B batch, T query sequence, S key sequence, D d_model, F d_ff, N num_heads, H head_dim,
V vocabulary.
"""

import functools
from collections.abc import Callable, Collection

import torch
from torch import nn
from torch.nn import functional

from isoscale.models.mlp.torch_model import Dense
from isoscale.models.transformer.spec import TransformerSpec

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": functional.gelu,
    "gelu_tanh": functools.partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
}


class LayerNorm(nn.LayerNorm):
    """Layer norm whose parameters may stay in float32 while its input is bfloat16."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype == self.weight.dtype:
            return super().forward(x)
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class Embedder(nn.Module):
    """Token and learned position embeddings, held by the model under their canonical names."""

    def __init__(
        self, vocabulary_size: int, sequence_length: int, d_model: int, *, dtype: torch.dtype
    ):
        super().__init__()
        self.dtype = dtype
        self.token_embedding = nn.Embedding(vocabulary_size, d_model)
        self.position_embedding = nn.Embedding(sequence_length, d_model)

    def embed(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        positions_TD = self.position_embedding.weight[: tokens_BT.shape[1]]
        # Both are rounded before the sum, as in the other frameworks.
        return self.token_embedding(tokens_BT).to(self.dtype) + positions_TD.to(self.dtype)

    def tied_logits(self, x_BTD: torch.Tensor) -> torch.Tensor:
        """Products with the token embedding [B, T, V]."""
        return functional.linear(x_BTD, self.token_embedding.weight.to(x_BTD.dtype))


class Attention(nn.Module):
    def __init__(self, d_model: int, num_heads: int, *, causal: bool, tweaks: Collection[str]):
        super().__init__()
        self.num_heads = num_heads
        self.causal = causal
        self.query = Dense(d_model, d_model, tweaks=tweaks)
        self.key = Dense(d_model, d_model, tweaks=tweaks)
        self.value = Dense(d_model, d_model, tweaks=tweaks)
        self.output = Dense(d_model, d_model, tweaks=tweaks)

    def forward(self, x_BTD: torch.Tensor, padding_mask_BS: torch.Tensor | None) -> torch.Tensor:
        def heads(y_BTD: torch.Tensor) -> torch.Tensor:
            return y_BTD.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

        mask = None if padding_mask_BS is None else padding_mask_BS[:, None, None, :]
        if mask is not None and self.causal:
            mask = (
                mask
                & torch.ones(
                    x_BTD.shape[1], x_BTD.shape[1], dtype=torch.bool, device=x_BTD.device
                ).tril()
            )
        mixed_BNTH = functional.scaled_dot_product_attention(
            heads(self.query(x_BTD)),
            heads(self.key(x_BTD)),
            heads(self.value(x_BTD)),
            attn_mask=mask,
            is_causal=self.causal and mask is None,
        )
        return self.output(mixed_BNTH.transpose(1, 2).flatten(-2))


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
        self, tokens_BT: torch.Tensor, padding_mask_BT: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Returns logits [B, T, V] (causal) or [B, classes]."""
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


def build(spec: TransformerSpec, *, dtype: torch.dtype, tweaks: Collection[str]) -> Transformer:
    return Transformer(spec, dtype=dtype, tweaks=tweaks)
