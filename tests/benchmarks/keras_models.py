"""The presets as a good Keras 3 user would write and train them.

Set ``KERAS_BACKEND`` and build the runner before you import this file: the runner sets threads,
devices and precision of the process. Both sides share sizes, start values and batches, but no code.
Equal losses therefore show that both train the same model.

Dims: B batch, T sequence, D d_model, F d_ff, E experts, C capacity, K top_k, M = K T choices,
S = E C slots, R rows of a flattened tensor.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from isoscale.common.config.model_spec import ModelSpec
from isoscale.common.registry import lookup
from isoscale.models.mlp.spec import MlpSpec
from isoscale.models.moe.spec import MoeSpec
from isoscale.models.transformer.spec import TransformerSpec

Step = Callable[[int, int], float]
Parts = dict[str, layers.Layer]
"""Canonical path, for example ``block_0/attention/query`` -> the layer with its variables."""


def make_step(
    model: str,
    initial: dict[str, np.ndarray],
    batches: list[dict[str, np.ndarray]],
    *,
    steps_per_execution: int = 1,
    jit_compile: bool | str = "auto",
) -> list[tuple[Step, str]]:
    """Returns (step, name) for each of Keras's two ways to train; both train one model.

    ``step(first, count)`` trains on ``count`` batches of the pool, starting at ``first``, waits for
    them, and returns their mean loss (``fit``) or the loss of the last batch (``train_on_batch``).

    Args:
      model: name of a preset.
      initial: canonical name -> start values.
      batches: the pool.
      steps_per_execution, jit_compile: arguments of ``keras.Model.compile``;
        ``steps_per_execution`` affects ``fit`` only.
    """
    spec = lookup.preset(model).spec
    net, parts = _build(spec)
    variables = {p.name: _variable(parts, p.name) for p in spec.parameters()}
    for name, value in initial.items():
        # Keras's attention kernels are [D, N, H] or [N, H, D]; our heads have the same order.
        variables[name].assign(value.reshape(variables[name].shape))
    optimizer = keras.optimizers.AdamW(
        learning_rate=1e-3,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        weight_decay=0.01,
        global_clipnorm=1.0,
    )
    optimizer.exclude_from_weight_decay(
        var_list=[variables[p.name] for p in spec.parameters() if not p.decay]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    net.compile(
        optimizer=optimizer,
        loss=loss,
        steps_per_execution=steps_per_execution,
        jit_compile=jit_compile,
    )
    # Tensors of the backend, as in the runners: the comparison leaves out the copy of a batch.
    placed = [keras.tree.map_structure(ops.convert_to_tensor, _data(spec, b)) for b in batches]
    dataset = _dataset(placed)

    def train_on_batch(first: int, count: int) -> float:
        loss: Any = None
        for i in range(first, first + count):
            loss = net.train_on_batch(*placed[i % len(placed)])
        return float(loss)

    def fit(first: int, count: int) -> float:
        history = net.fit(dataset(first, count), steps_per_epoch=count, shuffle=False, verbose=0)
        return history.history["loss"][0]

    return [(train_on_batch, "train_on_batch"), (fit, "fit")]


def _data(spec: ModelSpec, batch: dict[str, np.ndarray]) -> tuple:
    """Returns (inputs, labels), and the weights of the labels unless all are 1."""
    data = ({name: batch[name] for name in spec.input_names}, batch["labels"])
    return data if (batch["weights"] == 1).all() else (*data, batch["weights"])


def _dataset(placed: list[tuple]) -> Callable[[int, int], Any]:
    """Returns a function (first, count) -> the data of ``fit``, in memory, in the fastest form."""
    if keras.backend.backend() != "tensorflow":
        return lambda first, count: (placed[i % len(placed)] for i in range(first, first + count))
    import tensorflow as tf

    stacked = tf.nest.map_structure(lambda *parts: tf.stack(parts), *placed)
    options = tf.data.Options()
    # On one core, tuning and prefetching threads took as long as a step of a small model.
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    pool = tf.data.Dataset.from_tensor_slices(stacked).repeat().with_options(options)
    return lambda first, count: pool.skip(first % len(placed)) if first % len(placed) else pool


def _variable(parts: Parts, name: str) -> keras.Variable:
    path, leaf = name.rsplit("/", 1)
    layer = parts[path]
    if isinstance(layer, layers.LayerNormalization):
        return layer.gamma if leaf == "scale" else layer.beta
    return layer.embeddings if isinstance(layer, layers.Embedding) else getattr(layer, leaf)


def _build(spec: ModelSpec) -> tuple[keras.Model, Parts]:
    if isinstance(spec, MlpSpec):
        return _mlp(spec)
    assert isinstance(spec, TransformerSpec | MoeSpec)
    return _token_model(spec)


def _mlp(spec: MlpSpec) -> tuple[keras.Model, Parts]:
    inputs = x = keras.Input((spec.input_size,))
    parts: Parts = {}
    for i, (_, size) in enumerate(spec.layer_sizes):
        last = i == len(spec.hidden_sizes)
        layer = parts[f"dense_{i}"] = layers.Dense(size, activation=None if last else "relu")
        x = layer(x)
    return keras.Model({"inputs": inputs}, x), parts


def _gelu(x: Any) -> Any:
    return keras.activations.gelu(x, approximate=True)


def _token_model(spec: TransformerSpec | MoeSpec) -> tuple[keras.Model, Parts]:
    """Returns the pre-norm transformer, with dense feed-forward layers or with experts."""
    parts: Parts = {}

    def apply(name: str, layer: layers.Layer, *arguments: Any, **options: Any) -> Any:
        parts[name] = layer
        return layer(*arguments, **options)

    def norm(name: str, x: Any) -> Any:
        return apply(name, layers.LayerNormalization(epsilon=1e-5), x)

    causal = isinstance(spec, MoeSpec) or spec.causal
    inputs = {"tokens": keras.Input((spec.sequence_length,), dtype="int32")}
    mask = attention_mask = None
    if spec.variable_length:
        inputs["padding_mask"] = mask = keras.Input((spec.sequence_length,), dtype="bool")
        attention_mask = ops.expand_dims(mask, 1)
    embedding = layers.Embedding(spec.vocabulary_size, spec.d_model)
    x = apply("token_embedding", embedding, inputs["tokens"])
    x = apply("position_embedding", Positions(), x)
    for i in range(spec.num_layers):
        block = f"block_{i}"
        y = norm(f"{block}/attention_norm", x)
        attention = layers.MultiHeadAttention(spec.num_heads, spec.d_model // spec.num_heads)
        y = attention(y, y, attention_mask=attention_mask, use_causal_mask=causal)
        for part in ("query", "key", "value", "output"):
            parts[f"{block}/attention/{part}"] = getattr(attention, f"{part}_dense")
        x = layers.add([x, y])
        if isinstance(spec, MoeSpec):
            y = apply(f"{block}/experts", Experts(spec), norm(f"{block}/experts_norm", x))
        else:
            y = norm(f"{block}/feed_forward_norm", x)
            y = apply(f"{block}/feed_forward/up", layers.Dense(spec.d_ff, activation=_gelu), y)
            y = apply(f"{block}/feed_forward/down", layers.Dense(spec.d_model), y)
        x = layers.add([x, y])
    x = norm("final_norm", x)
    if not causal:
        x = layers.GlobalAveragePooling1D()(x, mask=mask)
    outputs = spec.vocabulary_size if causal else spec.num_classes
    return keras.Model(inputs, apply("head", layers.Dense(outputs), x)), parts


class Positions(layers.Layer):
    """Adds a learned embedding of the position."""

    def build(self, shape: tuple) -> None:
        self.embedding = self.add_weight(shape=shape[1:], name="embedding")

    def call(self, x_BTD: Any) -> Any:
        return x_BTD + self.embedding


class Experts(layers.Layer):
    """The experts of ``models/moe/spec.py``, for sequences without padding.

    The layer gathers tokens into slots. The other usual way, products with one-hot matrices, made a
    step of moe_tiny slower by 10 % in TensorFlow and by 40 % in JAX.
    """

    def __init__(self, spec: MoeSpec):
        super().__init__()
        assert not spec.variable_length
        self.spec = spec

    def build(self, shape: tuple) -> None:
        d, f, e = self.spec.d_model, self.spec.d_ff, self.spec.num_experts
        self.router_kernel = self.add_weight(shape=(d, e), name="router_kernel")
        self.up_kernel = self.add_weight(shape=(e, d, f), name="up_kernel")
        self.down_kernel = self.add_weight(shape=(e, f, d), name="down_kernel")

    def call(self, x_BTD: Any) -> Any:
        spec = self.spec
        batch, (length, width) = ops.shape(x_BTD)[0], x_BTD.shape[1:]
        experts, capacity, top_k = spec.num_experts, spec.expert_capacity, spec.top_k
        slots = experts * capacity

        def choices(a_BTK: Any) -> Any:  # choice-major [B, M]
            return ops.reshape(ops.transpose(a_BTK, (0, 2, 1)), (-1, top_k * length))

        probabilities_BTE = ops.softmax(ops.matmul(x_BTD, self.router_kernel))
        top_BTK, expert_BTK = ops.top_k(probabilities_BTE, top_k)
        gate_BM = choices(top_BTK / ops.sum(top_BTK, axis=-1, keepdims=True))
        expert_BM = choices(expert_BTK)
        chosen_BME = ops.one_hot(expert_BM, experts, dtype="int32")
        position_BM = ops.sum(ops.cumsum(chosen_BME, axis=1) * chosen_BME, axis=-1) - 1
        fraction_BE = ops.cast(ops.sum(chosen_BME, axis=1), x_BTD.dtype) / (length * top_k)
        mean_BE = ops.mean(probabilities_BTE, axis=1)
        auxiliary = experts * ops.mean(ops.sum(fraction_BE * mean_BE, axis=-1))
        self.add_loss(spec.aux_loss_weight / spec.num_layers * auxiliary)

        # All dropped choices write to one slot past the end, which is cut off. Empty slots read
        # row 0 of a padded sequence, which is zeros.
        kept_BM = position_BM < capacity
        slot_BM = ops.where(kept_BM, expert_BM * capacity + position_BM, slots)
        group_B1 = ops.expand_dims(ops.arange(batch), 1)
        token_BM = ops.broadcast_to(ops.tile(ops.arange(length) + 1, top_k), ops.shape(slot_BM))
        token_R = ops.scatter(
            ops.reshape(slot_BM + group_B1 * (slots + 1), (-1, 1)),
            ops.reshape(token_BM, (-1,)),
            (batch * (slots + 1),),
        )
        token_BS = ops.reshape(token_R, (-1, slots + 1))[:, :-1]
        padded_RD = ops.reshape(ops.pad(x_BTD, ((0, 0), (1, 0), (0, 0))), (-1, width))
        x_BSD = ops.take(padded_RD, token_BS + group_B1 * (length + 1), axis=0)
        x_EBCD = ops.transpose(ops.reshape(x_BSD, (-1, experts, capacity, width)), (1, 0, 2, 3))
        x_ERD = ops.reshape(x_EBCD, (experts, -1, width))
        y_ERD = ops.matmul(_gelu(ops.matmul(x_ERD, self.up_kernel)), self.down_kernel)
        y_BECD = ops.transpose(ops.reshape(y_ERD, (experts, -1, capacity, width)), (1, 0, 2, 3))
        # A dropped choice reads slot 0, with weight 0.
        rows_BM = ops.where(kept_BM, slot_BM, 0) + group_B1 * slots
        y_BMD = ops.take(ops.reshape(y_BECD, (-1, width)), rows_BM, axis=0)
        y_BMD = y_BMD * ops.expand_dims(ops.where(kept_BM, gate_BM, 0.0), -1)
        return ops.sum(ops.reshape(y_BMD, (-1, top_k, length, width)), axis=1)
