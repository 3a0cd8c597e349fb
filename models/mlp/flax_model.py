"""The MLP in Flax. Dims: B batch, F features."""

from collections.abc import Collection

import jax
import jax.numpy as jnp
from flax import nnx

from models.mlp.spec import MlpSpec


class Dense(nnx.Module):
    """x @ kernel + bias; the product in the input's dtype, the bias added in its own.

    Under bfloat16 the gradient of a bias is a long sum, which must not be taken in bfloat16.
    The tweak ``dense-2d`` flattens all dims but the last before the product.
    """

    def __init__(
        self,
        fan_in: int,
        fan_out: int,
        *,
        dtype,
        param_dtype,
        rngs: nnx.Rngs,
        tweaks: Collection[str],
    ):
        del dtype, rngs  # start values come from the spec
        self.flattens = "dense-2d" in tweaks
        self.kernel = nnx.Param(jnp.zeros((fan_in, fan_out), param_dtype))
        self.bias = nnx.Param(jnp.zeros((fan_out,), param_dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        leading = x.shape[:-1]
        if self.flattens:
            x = x.reshape(-1, x.shape[-1])
        bias = self.bias[...]
        y = ((x @ self.kernel[...].astype(x.dtype)).astype(bias.dtype) + bias).astype(x.dtype)
        return y.reshape(*leading, y.shape[-1])


class Mlp(nnx.Module):
    def __init__(self, spec: MlpSpec, *, dtype, **options):
        self.dense = nnx.List([Dense(i, o, dtype=dtype, **options) for i, o in spec.layer_sizes])
        self.dtype = dtype
        self.dropout = nnx.Dropout(spec.dropout_rate)

    def __call__(self, inputs_BF: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns logits [B, classes]; dropout is active when ``rngs`` is given."""
        x_BF = inputs_BF.astype(self.dtype)
        for layer in self.dense[:-1]:
            x_BF = self.dropout(jax.nn.relu(layer(x_BF)), rngs=rngs, deterministic=rngs is None)
        return self.dense[-1](x_BF)


def build(spec: MlpSpec, *, dtype, param_dtype, rngs: nnx.Rngs, tweaks: Collection[str]) -> Mlp:
    return Mlp(spec, dtype=dtype, param_dtype=param_dtype, rngs=rngs, tweaks=tweaks)
