"""The MLP in Flax. Dims: B batch, F features."""

from collections.abc import Collection

import jax
from flax import nnx

from isoscale.models.layers.flax_layers import Dense
from isoscale.models.mlp.spec import MlpSpec


class Mlp(nnx.Module):
    def __init__(self, spec: MlpSpec, *, dtype, **options):
        self.dense = nnx.List([Dense(i, o, dtype=dtype, **options) for i, o in spec.layer_sizes])
        self.dtype = dtype
        self.dropout = nnx.Dropout(spec.dropout_rate)

    def __call__(self, inputs_BF: jax.Array, *, dropout: jax.Array | None = None) -> jax.Array:
        """Returns logits [B, classes]."""
        rngs = None if dropout is None else nnx.Rngs(dropout=dropout)
        x_BF = inputs_BF.astype(self.dtype)
        for layer in self.dense[:-1]:
            x_BF = self.dropout(jax.nn.relu(layer(x_BF)), rngs=rngs, deterministic=rngs is None)
        return self.dense[-1](x_BF)


def build(spec: MlpSpec, *, dtype, param_dtype, tweaks: Collection[str]) -> Mlp:
    rngs = nnx.Rngs(0)  # Flax layers require an Rngs; start values come from the spec
    return Mlp(spec, dtype=dtype, param_dtype=param_dtype, rngs=rngs, tweaks=tweaks)
