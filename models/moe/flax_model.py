"""The mixture of experts in Flax; the routing rules are in ``spec.py``.

Dims: B batch (= groups), T sequence, D d_model, F d_ff, E experts, C capacity, K top_k,
S = E C slots, M = K T choices, V vocabulary.
"""

from collections.abc import Collection

import jax
import jax.numpy as jnp
from flax import nnx

from isoscale.models.layers.flax_layers import ACTIVATIONS, Attention, Dense, Embedder, LayerNorm
from isoscale.models.moe.spec import MoeSpec


def route(
    probabilities_TE: jax.Array, mask_T: jax.Array | None, *, top_k: int, capacity: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Assigns the tokens of one group to expert slots.

    Returns:
      slot_TK: slot of each choice: expert * C + position; E * C for a dropped choice.
      gate_TK: weight of each choice; 0 for a dropped choice.
      fraction_E: each expert's share of the T K choices, before dropping.
    """
    length, num_experts = probabilities_TE.shape
    top_TK, expert_TK = jax.lax.top_k(probabilities_TE, top_k)  # lowest index first on ties
    gate_TK = top_TK / top_TK.sum(-1, keepdims=True)
    expert_M = expert_TK.T.reshape(-1)  # choice-major
    chosen_ME = jax.nn.one_hot(expert_M, num_experts, dtype=jnp.int32)
    if mask_T is not None:
        chosen_ME *= jnp.tile(mask_T, top_k)[:, None]
    place_ME = jnp.cumsum(chosen_ME, 0) * chosen_ME  # 1-based; 0 where not chosen
    position_TK = (place_ME.sum(1) - 1).reshape(top_k, length).T
    kept_TK = (position_TK >= 0) & (position_TK < capacity)
    slot_TK = jnp.where(kept_TK, expert_TK * capacity + position_TK, num_experts * capacity)
    fraction_E = chosen_ME.sum(0) / (length * top_k)
    return slot_TK, jnp.where(kept_TK, gate_TK, 0), fraction_E.astype(gate_TK.dtype)


class Experts(nnx.Module):
    """Routes up to C tokens of each group to each expert; each expert is a feed-forward layer.

    The tweak ``expert-major`` puts the expert dim before the batch dim while the experts compute.
    """

    def __init__(
        self, spec: MoeSpec, *, dtype, param_dtype, rngs: nnx.Rngs, tweaks: Collection[str]
    ):
        self.spec = spec
        self.activation = ACTIVATIONS[spec.activation]
        self.expert_major = "expert-major" in tweaks
        self.dtype = dtype

        def kernel(*shape: int) -> nnx.Param:
            return nnx.Param(0.02 * jax.random.normal(rngs.params(), shape, param_dtype))

        d, f, e = spec.d_model, spec.d_ff, spec.num_experts
        self.router_kernel = kernel(d, e)
        self.up_kernel = kernel(e, d, f)
        self.down_kernel = kernel(e, f, d)

    def __call__(self, x_BTD: jax.Array, mask_BT: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """Returns (output [B, T, D], auxiliary loss of each group [B])."""
        spec = self.spec
        capacity, slots = spec.expert_capacity, spec.num_experts * spec.expert_capacity
        # The router stays in the parameters' dtype: float32 under bfloat16.
        router_DE = self.router_kernel[...]
        probabilities_BTE = jax.nn.softmax(x_BTD.astype(router_DE.dtype) @ router_DE)

        def group(x_TD, probabilities_TE, mask_T):
            slot_TK, gate_TK, fraction_E = route(
                probabilities_TE, mask_T, top_k=spec.top_k, capacity=capacity
            )
            length = x_TD.shape[0]
            token_TK = jnp.broadcast_to(jnp.arange(length)[:, None], slot_TK.shape)
            # Dropped choices write to one extra slot at the end; the next step discards this slot.
            token_S = jnp.full(slots + 1, length).at[slot_TK].set(token_TK)[:-1]
            slots_SD = jnp.take(x_TD, token_S, axis=0, mode="fill", fill_value=0)
            mean_E = (
                probabilities_TE if mask_T is None else probabilities_TE * mask_T[:, None]
            ).sum(0) / length
            auxiliary = spec.num_experts * (fraction_E * mean_E).sum()
            return slots_SD.reshape(spec.num_experts, capacity, -1), slot_TK, gate_TK, auxiliary

        # vmap keeps every index inside its group, so devices exchange no tokens.
        in_axes = (0, 0, None if mask_BT is None else 0)
        group_axis = 1 if self.expert_major else 0
        x, slot_BTK, gate_BTK, auxiliary_B = jax.vmap(group, in_axes, (group_axis, 0, 0, 0))(
            x_BTD, probabilities_BTE, mask_BT
        )
        up_EDF, down_EFD = (
            kernel[...].astype(self.dtype) for kernel in (self.up_kernel, self.down_kernel)
        )
        if self.expert_major:
            x_ERD = x.reshape(spec.num_experts, -1, x.shape[-1])  # R = B C
            hidden_ERF = self.activation(jnp.einsum("erd,edf->erf", x_ERD, up_EDF))
            y = jnp.einsum("erf,efd->erd", hidden_ERF, down_EFD).reshape(x.shape)
        else:
            hidden_BECF = self.activation(jnp.einsum("becd,edf->becf", x, up_EDF))
            y = jnp.einsum("becf,efd->becd", hidden_BECF, down_EFD)

        def combine(y_ECD, slot_TK, gate_TK):
            y_SD = y_ECD.reshape(slots, -1)
            y_TKD = jnp.take(y_SD, slot_TK, axis=0, mode="fill", fill_value=0)
            return (y_TKD * gate_TK[..., None].astype(y_TKD.dtype)).sum(1)

        y_BTD = jax.vmap(combine, (group_axis, 0, 0))(y, slot_BTK, gate_BTK)
        return y_BTD, auxiliary_B


class Block(nnx.Module):
    def __init__(self, spec: MoeSpec, **options):
        epsilon = spec.layer_norm_epsilon
        self.attention_norm = LayerNorm(spec.d_model, epsilon=epsilon, **options)
        self.attention = Attention(spec.d_model, spec.num_heads, causal=True, **options)
        self.experts_norm = LayerNorm(spec.d_model, epsilon=epsilon, **options)
        self.experts = Experts(spec, **options)

    def __call__(self, x_BTD: jax.Array, mask_BT: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), mask_BT)
        y_BTD, auxiliary_B = self.experts(self.experts_norm(x_BTD), mask_BT)
        return x_BTD + y_BTD, auxiliary_B


class Moe(Embedder):
    def __init__(self, spec: MoeSpec, **options):
        self.make_embeddings(spec.vocabulary_size, spec.sequence_length, spec.d_model, **options)
        self.block = nnx.List([Block(spec, **options) for _ in range(spec.num_layers)])
        self.final_norm = LayerNorm(spec.d_model, epsilon=spec.layer_norm_epsilon, **options)
        self.tied = spec.tie_embeddings
        if not self.tied:
            self.head = Dense(spec.d_model, spec.vocabulary_size, **options)

    def __call__(
        self,
        tokens_BT: jax.Array,
        padding_mask_BT: jax.Array | None = None,
        *,
        dropout: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Returns (logits [B, T, V], auxiliary loss of each group [B])."""
        del dropout  # this family has no dropout
        x_BTD = self.embed(tokens_BT)
        auxiliary = []
        for block in self.block:
            x_BTD, auxiliary_B = block(x_BTD, padding_mask_BT)
            auxiliary.append(auxiliary_B / len(self.block))
        x_BTD = self.final_norm(x_BTD)
        logits_BTV = self.tied_logits(x_BTD) if self.tied else self.head(x_BTD)
        return logits_BTV, jnp.stack(auxiliary).sum(0)


def build(spec: MoeSpec, *, dtype, param_dtype, tweaks: Collection[str]) -> Moe:
    rngs = nnx.Rngs(0)  # Flax layers require an Rngs; start values come from the spec
    return Moe(spec, dtype=dtype, param_dtype=param_dtype, rngs=rngs, tweaks=tweaks)
