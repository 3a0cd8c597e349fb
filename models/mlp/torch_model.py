"""The MLP in PyTorch. Dims: B batch, F features."""

from collections.abc import Collection
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from isoscale.models.mlp.spec import MlpSpec


class OneDnnLinear(torch.autograd.Function):
    """The tweak ``onednn-linear``: output and input gradient by oneDNN, weight gradient by MKL."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> Any:
        ctx.save_for_backward(x, weight)
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        flat = gradient.reshape(-1, gradient.shape[-1])
        needed = ctx.needs_input_grad[0]
        for_x = (
            torch.ops.mkldnn._linear_pointwise(gradient, weight.T, None, "none", [], "")
            if needed
            else None
        )
        return for_x, flat.T @ x.reshape(-1, x.shape[-1]), flat.sum(0)


class Dense(nn.Linear):
    """A linear layer that computes in its input's dtype (parameters may stay in float32)."""

    def __init__(self, fan_in: int, fan_out: int, *, tweaks: Collection[str]):
        super().__init__(fan_in, fan_out)
        self.by_onednn = "onednn-linear" in tweaks

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        if self.by_onednn:
            return OneDnnLinear.apply(x, weight, bias)
        return functional.linear(x, weight, bias)


class Mlp(nn.Module):
    def __init__(self, spec: MlpSpec, *, dtype: torch.dtype, tweaks: Collection[str]):
        super().__init__()
        self.dtype = dtype
        self.dense = nn.ModuleList([Dense(i, o, tweaks=tweaks) for i, o in spec.layer_sizes])
        self.dropout = nn.Dropout(spec.dropout_rate)

    def forward(self, inputs_BF: torch.Tensor) -> torch.Tensor:
        """Returns logits [B, classes]; dropout is active in training mode."""
        x_BF = inputs_BF.to(self.dtype)
        *hidden, last = self.dense
        for layer in hidden:
            x_BF = functional.relu(layer(x_BF))
            if self.dropout.p:  # a call less: it shows in a step of two milliseconds
                x_BF = self.dropout(x_BF)
        return last(x_BF)


def build(spec: MlpSpec, *, dtype: torch.dtype, tweaks: Collection[str]) -> Mlp:
    return Mlp(spec, dtype=dtype, tweaks=tweaks)
