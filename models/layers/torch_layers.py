"""Layers that several model families use, in PyTorch.

Dims: B batch, T query sequence, S key sequence, D d_model, N num_heads, H head_dim, V vocabulary.
"""

import functools
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import nn
from torch.nn import functional

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": functional.gelu,
    "gelu_tanh": functools.partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
}


class OneDnnLinear(torch.autograd.Function):
    """Implements the tweak ``onednn-linear``.

    oneDNN computes the output and the input gradient; MKL computes the weight gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
    ) -> Any:
        ctx.save_for_backward(x, weight)
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        flat = gradient.reshape(-1, gradient.shape[-1])
        x_needs_one, _, bias_needs_one = ctx.needs_input_grad
        for_x = (
            torch.ops.mkldnn._linear_pointwise(gradient, weight.T, None, "none", [], "")
            if x_needs_one
            else None
        )
        for_bias = flat.sum(0) if bias_needs_one else None
        return for_x, flat.T @ x.reshape(-1, x.shape[-1]), for_bias


class Dense(nn.Linear):
    """Computes a linear layer: the product in the input's dtype, the sum in the bias's dtype.

    With one dtype both are one operation. Under bfloat16, PyTorch's linear layer rounds the bias
    and the bias's gradient (a long sum) to bfloat16; here both stay in float32.
    """

    def __init__(self, fan_in: int, fan_out: int, *, tweaks: Collection[str]):
        super().__init__(fan_in, fan_out)
        self.by_onednn = "onednn-linear" in tweaks

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        linear = OneDnnLinear.apply if self.by_onednn else functional.linear
        if x.dtype == self.weight.dtype:
            return linear(x, self.weight, self.bias)
        return (linear(x, self.weight.to(x.dtype), None) + self.bias).to(x.dtype)


class LayerNorm(nn.LayerNorm):
    """Layer norm; its parameters may be float32 while its input is bfloat16."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype == self.weight.dtype:
            return super().forward(x)
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class Embedder(nn.Module):
    """Base class of models with token and learned position embeddings, under canonical names."""

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
        """Returns products with the token embedding [B, T, V]."""
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
