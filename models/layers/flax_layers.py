"""Layers that several model families use, in Flax.

Dims: B batch, T query sequence, S key sequence, D d_model, N num_heads, H head_dim, V vocabulary,
R rows of a flattened tensor, I input size, O output size.
"""

import functools
from collections.abc import Callable, Collection
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
}


@jax.custom_vjp
def product_with_own_gradient(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns x [R, I] @ kernel [I, O]; the kernel's gradient is x^T @ (the output's gradient).

    JAX itself computes this gradient as the transpose of (the output's gradient)^T @ x. Under pjit
    the sum over devices lies between this product and its transpose, so XLA cannot fuse the two.
    """
    return x @ kernel


def _product_and_residuals(x, kernel):
    return x @ kernel, (x, kernel)


def _product_gradients(residuals, gradient):
    x, kernel = residuals
    return gradient @ kernel.T, x.T @ gradient


product_with_own_gradient.defvjp(_product_and_residuals, _product_gradients)


class Dense(nnx.Module):
    """Computes x @ kernel + bias: the product in the input's dtype, the sum in the bias's dtype.

    The gradient of a bias is a long sum: under bfloat16 it must be taken in float32, the dtype of
    the bias. The tweak ``dense-2d`` flattens all dims except the last one before the product. The
    tweak ``kernel-gradient`` does this too, and uses ``product_with_own_gradient``.
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


class LayerNorm(nnx.LayerNorm):
    """Layer norm in the dtype of its parameters (float32 under bfloat16).

    The variance is the mean square of x - mean(x), not mean(x^2) - mean(x)^2.
    """

    def __init__(
        self,
        d_model: int,
        *,
        epsilon: float,
        dtype,
        param_dtype,
        rngs: nnx.Rngs,
        tweaks: Collection[str],
    ):
        del dtype, tweaks
        super().__init__(
            d_model,
            epsilon=epsilon,
            dtype=param_dtype,
            param_dtype=param_dtype,
            use_fast_variance=False,
            rngs=rngs,
        )

    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        return super().__call__(x, mask=mask).astype(x.dtype)


class Embedder(nnx.Module):
    """Base class of models with token and learned position embeddings, under canonical names."""

    token_embedding: nnx.Embed
    position_embedding: nnx.Embed

    def make_embeddings(
        self,
        vocabulary_size: int,
        sequence_length: int,
        d_model: int,
        *,
        dtype,
        param_dtype,
        rngs: nnx.Rngs,
        tweaks: Collection[str],
    ) -> None:
        self.dtype = dtype
        self.flattens = "dense-2d" in tweaks
        # Lookups and sums of gradients are in the dtype of the parameters.
        options = {"dtype": param_dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.token_embedding = nnx.Embed(vocabulary_size, d_model, **options)
        self.position_embedding = nnx.Embed(sequence_length, d_model, **options)

    def embed(self, tokens_BT: jax.Array) -> jax.Array:
        positions_TD = self.position_embedding.embedding[: tokens_BT.shape[1]]
        # Both are rounded before the sum, as in the other frameworks.
        return self.token_embedding(tokens_BT).astype(self.dtype) + positions_TD.astype(self.dtype)

    def tied_logits(self, x_BTD: jax.Array) -> jax.Array:
        """Returns products with the token embedding [B, T, V]; for ``dense-2d`` see ``Dense``."""
        embedding_VD = self.token_embedding.embedding[...].astype(x_BTD.dtype)
        if not self.flattens:
            return x_BTD @ embedding_VD.T
        logits_RV = x_BTD.reshape(-1, x_BTD.shape[-1]) @ embedding_VD.T
        return logits_RV.reshape(*x_BTD.shape[:-1], -1)


def dot_product_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    padding_mask_BS: jax.Array | None,
    *,
    causal: bool,
    heads_first: bool,
) -> jax.Array:
    """Returns attention with the operations of ``jax.nn.dot_product_attention``.

    JAX's own function rounds float64 to float32; this one does not. Scores and softmax are in
    float32 under bfloat16, else in the dtype of ``query``.

    Args:
      query: [B, T, N, H].
      key, value: [B, S, N, H].
      padding_mask_BS: True for real tokens; None: no padding.
      causal: whether a position attends only to itself and earlier positions.
      heads_first: whether both products run on arrays with the heads before the sequence (the
        tweak ``attention-bhsd``).

    Returns:
      Mixed values [B, T, N, H].
    """
    query_dims, key_dims = ("BNTH", "BNSH") if heads_first else ("BTNH", "BSNH")
    if heads_first:
        query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
    dtype = query.dtype
    scores_dtype = jnp.promote_types(dtype, jnp.float32)
    scores_BNTS = jnp.einsum(
        f"{query_dims},{key_dims}->BNTS", query, key, preferred_element_type=scores_dtype
    )
    scores_BNTS *= query.shape[-1] ** -0.5
    allowed = None
    if causal:
        allowed = jnp.tril(jnp.ones(scores_BNTS.shape[-2:], bool))
    if padding_mask_BS is not None:
        padding_B11S = padding_mask_BS[:, None, None, :]
        allowed = padding_B11S if allowed is None else allowed & padding_B11S
    if allowed is not None:
        scores_BNTS = jnp.where(allowed, scores_BNTS, jnp.finfo(scores_dtype).min)
    weights_BNTS = jax.nn.softmax(scores_BNTS).astype(dtype)
    mixed = jnp.einsum(f"BNTS,{key_dims}->{query_dims}", weights_BNTS, value)
    return mixed.swapaxes(1, 2) if heads_first else mixed


def fused_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    padding_mask_BS: jax.Array | None,
    *,
    causal: bool,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> jax.Array:
    """Returns the result of ``dot_product_attention``, computed by one kernel of cuDNN.

    The kernel takes bfloat16, and lengths instead of a mask: padding must follow the real tokens.
    Scores and softmax are in float32.

    Args:
      query: [B, T, N, H].
      key, value: [B, S, N, H].
      padding_mask_BS: True for real tokens; None: no padding.
      causal: whether a position attends only to itself and earlier positions.
      implementation: ``xla`` takes the same arguments, on every platform and in every dtype; for
        tests.

    Returns:
      Mixed values [B, T, N, H].

    Raises:
      RuntimeError, ValueError: the kernel does not support the shapes, the dtype or the GPU.
    """
    queries_B = keys_B = None
    if padding_mask_BS is not None:
        # A softmax over no token is NaN, also for a row that has no weight in the loss.
        keys_B = jnp.maximum(padding_mask_BS.sum(-1, dtype=jnp.int32), 1)
        # All queries, as above: a padded position attends to the real tokens. pjit divides an array
        # that depends on the batch over the devices; JAX's default, a constant, would stay whole.
        queries_B = jnp.maximum(keys_B, query.shape[1])
    return jax.nn.dot_product_attention(
        query,
        key,
        value,
        is_causal=causal,
        query_seq_lengths=queries_B,
        key_value_seq_lengths=keys_B,
        implementation=implementation,
    )


class Attention(nnx.Module):
    """Attention with projections.

    Attributes:
      attend: mixes the values. The runner replaces it by ``fused_attention`` where cuDNN runs it;
        the tweak ``attention-bhsd`` then has no effect.
    """

    def __init__(self, d_model: int, num_heads: int, *, causal: bool, **options):
        self.num_heads = num_heads
        self.causal = causal
        self.attend: Callable[..., jax.Array] = functools.partial(
            dot_product_attention, heads_first="attention-bhsd" in options["tweaks"]
        )
        self.query = Dense(d_model, d_model, **options)
        self.key = Dense(d_model, d_model, **options)
        self.value = Dense(d_model, d_model, **options)
        self.output = Dense(d_model, d_model, **options)

    def __call__(self, x_BTD: jax.Array, padding_mask_BS: jax.Array | None) -> jax.Array:
        def heads(y_BTD: jax.Array) -> jax.Array:
            return y_BTD.reshape(*y_BTD.shape[:2], self.num_heads, -1)

        mixed_BTNH = self.attend(
            heads(self.query(x_BTD)),
            heads(self.key(x_BTD)),
            heads(self.value(x_BTD)),
            padding_mask_BS,
            causal=self.causal,
        )
        return self.output(mixed_BTNH.reshape(x_BTD.shape))
