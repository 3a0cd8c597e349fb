"""The MLP in PyTorch. Dims: B batch, F features."""

import torch
from torch import nn
from torch.nn import functional

from models.mlp.spec import MlpSpec


class Dense(nn.Linear):
    """A linear layer that computes in its input's dtype (parameters may stay in float32)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return functional.linear(x, self.weight.to(x.dtype), bias)


class Mlp(nn.Module):
    def __init__(self, spec: MlpSpec, *, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype
        self.dense = nn.ModuleList([Dense(i, o) for i, o in spec.layer_sizes])
        self.dropout = nn.Dropout(spec.dropout_rate)

    def forward(self, inputs_BF: torch.Tensor) -> torch.Tensor:
        """Returns logits [B, classes]; dropout is active in training mode."""
        x_BF = inputs_BF.to(self.dtype)
        for layer in self.dense[:-1]:
            x_BF = self.dropout(functional.relu(layer(x_BF)))
        return self.dense[-1](x_BF)


def build(spec: MlpSpec, *, dtype: torch.dtype) -> Mlp:
    return Mlp(spec, dtype=dtype)
