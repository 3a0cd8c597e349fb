"""The MLP in Flax. Dims: B batch, F features."""

from collections.abc import Collection

import jax
import jax.numpy as jnp
from flax import nnx

from isoscale.models.mlp.spec import MlpSpec


@jax.custom_vjp
def product_with_own_gradient(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [N, I] @ kernel [I, O]; the kernel's gradient is x^T @ (the output's gradient).

    JAX's own is the transpose of (the output's gradient)^T @ x, and under pjit the sum over devices
    comes between the product and its transpose, so that XLA cannot make one of them.
    """
    return x @ kernel


def _product_and_residuals(x, kernel):
    return x @ kernel, (x, kernel)


def _product_gradients(residuals, gradient):
    x, kernel = residuals
    return gradient @ kernel.T, x.T @ gradient


product_with_own_gradient.defvjp(_product_and_residuals, _product_gradients)


class Dense(nnx.Module):
    """x @ kernel + bias; the product in the input's dtype, the bias added in its own.

    Under bfloat16 the gradient of a bias is a long sum, which must not be taken in bfloat16.
    The tweak ``dense-2d`` flattens all dims but the last before the product; ``kernel-gradient``
    does so too, and writes the product's gradient itself.
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
        self.own_gradient = "kernel-gradient" in tweaks
        self.flattens = self.own_gradient or "dense-2d" in tweaks
        self.kernel = nnx.Param(jnp.zeros((fan_in, fan_out), param_dtype))
        self.bias = nnx.Param(jnp.zeros((fan_out,), param_dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        leading = x.shape[:-1]
        if self.flattens:
            x = x.reshape(-1, x.shape[-1])
        bias, kernel = self.bias[...], self.kernel[...].astype(x.dtype)
        y = product_with_own_gradient(x, kernel) if self.own_gradient else x @ kernel
        y = (y.astype(bias.dtype) + bias).astype(x.dtype)
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
