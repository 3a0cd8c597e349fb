"""The MLP in PyTorch. Dims: B batch, F features."""

from collections.abc import Collection

import torch
from torch import nn
from torch.nn import functional

from isoscale.models.layers.torch_layers import Dense
from isoscale.models.mlp.spec import MlpSpec


class Mlp(nn.Module):
    def __init__(self, spec: MlpSpec, *, dtype: torch.dtype, tweaks: Collection[str]):
        super().__init__()
        self.dtype = dtype
        self.dense = nn.ModuleList([Dense(i, o, tweaks=tweaks) for i, o in spec.layer_sizes])
        self.dropout_rate = spec.dropout_rate

    def forward(self, inputs_BF: torch.Tensor, *, dropout: bool | None = None) -> torch.Tensor:
        """Returns logits [B, classes]."""
        drops = self.dropout_rate > 0 and (dropout or self.training)
        x_BF = inputs_BF.to(self.dtype)
        *hidden, last = self.dense
        for layer in hidden:
            x_BF = functional.relu(layer(x_BF))
            if drops:
                x_BF = functional.dropout(x_BF, self.dropout_rate)
        return last(x_BF)


def build(
    spec: MlpSpec, *, dtype: torch.dtype, param_dtype: torch.dtype, tweaks: Collection[str]
) -> Mlp:
    return Mlp(spec, dtype=dtype, tweaks=tweaks).to(param_dtype)
