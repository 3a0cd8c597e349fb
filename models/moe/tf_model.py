"""The mixture of experts in TensorFlow; the routing rules are in ``spec.py``.

Dims: B batch (= groups), T sequence, D d_model, F d_ff, E experts, C capacity, K top_k,
S = E C slots, M = K T choices, R rows of a flattened tensor, V vocabulary.
"""

from collections.abc import Collection

import tensorflow as tf

from isoscale.models.layers.tf_layers import ACTIVATIONS, Attention, Dense, Embedder, LayerNorm
from isoscale.models.moe.spec import MoeSpec


def route(
    probabilities_BTE: tf.Tensor, mask_BT: tf.Tensor | None, *, top_k: int, capacity: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Assigns tokens to expert slots, group by group.

    Returns:
      slot_BTK: slot of each choice: expert * C + position; E * C for a dropped choice.
      gate_BTK: weight of each choice; 0 for a dropped choice.
      fraction_BE: each expert's share of the T K choices, before dropping.
    """
    batch, length, num_experts = probabilities_BTE.shape
    top_BTK, expert_BTK = tf.math.top_k(probabilities_BTE, top_k)  # lowest index first on ties
    gate_BTK = top_BTK / tf.reduce_sum(top_BTK, -1, keepdims=True)
    expert_BM = tf.reshape(tf.transpose(expert_BTK, (0, 2, 1)), (batch, -1))  # choice-major
    chosen_BME = tf.one_hot(expert_BM, num_experts, dtype=tf.int32)
    if mask_BT is not None:
        chosen_BME *= tf.cast(tf.tile(mask_BT, (1, top_k)), tf.int32)[..., None]
    place_BME = tf.cumsum(chosen_BME, 1) * chosen_BME  # 1-based; 0 where not chosen
    position_BKT = tf.reshape(tf.reduce_sum(place_BME, -1) - 1, (batch, top_k, length))
    position_BTK = tf.transpose(position_BKT, (0, 2, 1))
    kept_BTK = (position_BTK >= 0) & (position_BTK < capacity)
    slot_BTK = tf.where(kept_BTK, expert_BTK * capacity + position_BTK, num_experts * capacity)
    fraction_BE = tf.cast(tf.reduce_sum(chosen_BME, 1), gate_BTK.dtype) / (length * top_k)
    return slot_BTK, tf.where(kept_BTK, gate_BTK, tf.zeros_like(gate_BTK)), fraction_BE


class Experts(tf.Module):
    def __init__(self, spec: MoeSpec, *, param_dtype: tf.DType, name: str):
        super().__init__(name=name)
        self.spec = spec
        self.activation = ACTIVATIONS[spec.activation]

        def kernel(name: str, *shape: int) -> tf.Variable:
            return tf.Variable(tf.zeros(shape, param_dtype), name=name)

        d, f, e = spec.d_model, spec.d_ff, spec.num_experts
        self.router_kernel = kernel("router_kernel", d, e)
        self.up_kernel = kernel("up_kernel", e, d, f)
        self.down_kernel = kernel("down_kernel", e, f, d)

    def __call__(self, x_BTD: tf.Tensor, mask_BT: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns (output [B, T, D], auxiliary loss of each group [B])."""
        spec = self.spec
        batch, length, d_model = x_BTD.shape
        experts, capacity, top_k = spec.num_experts, spec.expert_capacity, spec.top_k
        slots = experts * capacity
        # The router stays in the parameters' dtype: float32 under bfloat16.
        flat_RD = tf.cast(tf.reshape(x_BTD, (-1, d_model)), self.router_kernel.dtype)
        probabilities_RE = tf.nn.softmax(tf.matmul(flat_RD, self.router_kernel))
        probabilities_BTE = tf.reshape(probabilities_RE, (batch, length, experts))
        slot_BTK, gate_BTK, fraction_BE = route(
            probabilities_BTE, mask_BT, top_k=top_k, capacity=capacity
        )
        counted_BTE = probabilities_BTE
        if mask_BT is not None:
            counted_BTE *= tf.cast(mask_BT, counted_BTE.dtype)[..., None]
        mean_BE = tf.reduce_sum(counted_BTE, 1) / length
        auxiliary_B = experts * tf.reduce_sum(fraction_BE * mean_BE, -1)

        # The token of each slot. Index T, a row of zeros, marks an empty slot. Dropped choices
        # write to one extra slot at the end, which is discarded below.
        group_BTK = tf.broadcast_to(tf.range(batch)[:, None, None], (batch, length, top_k))
        token_BTK = tf.broadcast_to(tf.range(length)[None, :, None], (batch, length, top_k))
        token_BS = tf.tensor_scatter_nd_update(
            tf.fill((batch, slots + 1), length), tf.stack([group_BTK, slot_BTK], -1), token_BTK
        )
        padded_RD = tf.reshape(tf.pad(x_BTD, ((0, 0), (0, 1), (0, 0))), (-1, d_model))
        rows_BEC = tf.reshape(
            token_BS[:, :-1] + tf.range(batch)[:, None] * (length + 1), (batch, experts, capacity)
        )
        x_EBCD = tf.gather(padded_RD, tf.transpose(rows_BEC, (1, 0, 2)))
        x_ERD = tf.reshape(x_EBCD, (experts, batch * capacity, d_model))
        hidden_ERF = self.activation(tf.matmul(x_ERD, tf.cast(self.up_kernel, x_ERD.dtype)))
        y_ERD = tf.matmul(hidden_ERF, tf.cast(self.down_kernel, x_ERD.dtype))
        # Rows of y are expert-major. One extra row holds zeros: dropped choices read this row.
        y_RD = tf.pad(tf.reshape(y_ERD, (-1, d_model)), ((0, 1), (0, 0)))
        expert_BTK, position_BTK = slot_BTK // capacity, slot_BTK % capacity
        rows_BTK = tf.where(
            slot_BTK < slots,
            (expert_BTK * batch + group_BTK) * capacity + position_BTK,
            slots * batch,
        )
        y_BTKD = tf.gather(y_RD, rows_BTK)
        y_BTD = tf.reduce_sum(y_BTKD * tf.cast(gate_BTK, y_BTKD.dtype)[..., None], 2)
        return y_BTD, auxiliary_B


class Block(tf.Module):
    def __init__(self, spec: MoeSpec, *, param_dtype: tf.DType, name: str):
        super().__init__(name=name)
        d, epsilon = spec.d_model, spec.layer_norm_epsilon
        self.attention_norm = LayerNorm(
            d, epsilon=epsilon, param_dtype=param_dtype, name="attention_norm"
        )
        self.attention = Attention(
            d, spec.num_heads, causal=True, param_dtype=param_dtype, name="attention"
        )
        self.experts_norm = LayerNorm(
            d, epsilon=epsilon, param_dtype=param_dtype, name="experts_norm"
        )
        self.experts = Experts(spec, param_dtype=param_dtype, name="experts")

    def __call__(self, x_BTD: tf.Tensor, mask_BT: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), mask_BT)
        y_BTD, auxiliary_B = self.experts(self.experts_norm(x_BTD), mask_BT)
        return x_BTD + y_BTD, auxiliary_B


class Moe(Embedder):
    def __init__(self, spec: MoeSpec, *, dtype: tf.DType, param_dtype: tf.DType):
        super().__init__(
            spec.vocabulary_size,
            spec.sequence_length,
            spec.d_model,
            dtype=dtype,
            param_dtype=param_dtype,
            name="moe",
        )
        self.block = [
            Block(spec, param_dtype=param_dtype, name=f"block_{index}")
            for index in range(spec.num_layers)
        ]
        self.final_norm = LayerNorm(
            spec.d_model,
            epsilon=spec.layer_norm_epsilon,
            param_dtype=param_dtype,
            name="final_norm",
        )
        self.tied = spec.tie_embeddings
        if not self.tied:
            self.head = Dense(
                spec.d_model, spec.vocabulary_size, param_dtype=param_dtype, name="head"
            )

    def __call__(
        self,
        tokens_BT: tf.Tensor,
        padding_mask_BT: tf.Tensor | None = None,
        *,
        dropout: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns (logits [B, T, V], auxiliary loss of each group [B])."""
        del dropout  # this family has no dropout
        x_BTD = self.embed(tokens_BT)
        auxiliary_B = 0.0
        for block in self.block:
            x_BTD, layer_auxiliary_B = block(x_BTD, padding_mask_BT)
            auxiliary_B += layer_auxiliary_B / len(self.block)
        x_BTD = self.final_norm(x_BTD)
        logits_BTV = self.tied_logits(x_BTD) if self.tied else self.head(x_BTD)
        return logits_BTV, auxiliary_B


def build(spec: MoeSpec, *, dtype: tf.DType, param_dtype: tf.DType, tweaks: Collection[str]) -> Moe:
    del tweaks  # no tweak changes TensorFlow's models
    return Moe(spec, dtype=dtype, param_dtype=param_dtype)
