"""Realistic bugs, each a change of one expression, and the flags with which parity finds it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from tests.mutations.planting import Change, plant

JAX, TF, TORCH = "frameworks/jax_runner", "frameworks/tensorflow_runner", "frameworks/torch_runner"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mutation:
    """One bug.

    Attributes:
      name: name of the bug.
      path: file with the bug.
      old, new: the correct expression and its replacement.
      within: function or method with the expression; None: anywhere in the file.
      places: number of occurrences of the expression; all are replaced.
      flags: flags of ``isoscale parity`` with which it finds the bug.
    """

    name: str
    path: str
    old: str
    new: str
    within: str | None = None
    places: int = 1
    flags: tuple[str, ...]

    def apply(self, root: Path) -> None:
        """Plants the bug in a copy of the code.

        Raises:
          ValueError: the file has another number of occurrences of the expression.
        """
        change = Change(old=self.old, new=self.new, within=self.within, places=self.places)
        plant(root / self.path, change)


def _look(*models: str, framework: str, devices: int = 1, strategy: str = "bare") -> Sequence[str]:
    return (
        f"--models={','.join(models)}",
        f"--frameworks={framework}",
        f"--devices={devices}",
        f"--strategies={strategy}",
    )


def _jax(*models: str, **options: object) -> tuple[str, ...]:
    return tuple(_look(*models, framework="jax", **options))  # type: ignore[arg-type]


def _tf(*models: str, **options: object) -> tuple[str, ...]:
    return tuple(_look(*models, framework="tensorflow", **options))  # type: ignore[arg-type]


def _torch(*models: str, **options: object) -> tuple[str, ...]:
    return tuple(_look(*models, framework="torch", **options))  # type: ignore[arg-type]


PMAP = {"devices": 2, "strategy": "pmap"}
PJIT = {"devices": 2, "strategy": "pjit"}
MIRRORED = {"devices": 2, "strategy": "mirrored"}
DDP = {"devices": 2, "strategy": "ddp"}
BFLOAT16 = ("--dtype=bfloat16", "--nopieces")
"""Overrides the flag --dtype=float64 of other mutations: of two flags the last one wins."""

MUTATIONS = (
    # The optimizer.
    Mutation(
        name="torch-epsilon-moved",
        path=f"{TORCH}/optimizer.py",
        old="config.epsilon",
        new="config.epsilon * 10",
        flags=_torch("mlp_plain"),
    ),
    Mutation(
        name="tensorflow-epsilon-hat",
        path=f"{TF}/optimizer.py",
        old="config.epsilon * tf.sqrt(1.0 - power2)",
        new="tf.constant(config.epsilon, tf.float64)",
        flags=_tf("mlp_plain"),
    ),
    Mutation(
        name="torch-clipping-adds-1e-6",
        path=f"{TORCH}/optimizer.py",
        old="clip_norm / norm",
        new="clip_norm / (norm + 1e-6)",
        flags=_torch("mlp_plain"),
    ),
    Mutation(
        name="jax-clipping-forgets-to-stop-at-one",
        path=f"{JAX}/optimizer.py",
        old="jnp.minimum(1.0, clip_norm / optax.global_norm(gradients))",
        new="clip_norm / optax.global_norm(gradients)",
        flags=_jax("transformer_encoder_unpadded"),  # in some steps the norm is below 1
    ),
    Mutation(
        name="tensorflow-clips-each-tensor",
        path=f"{TF}/optimizer.py",
        old="[gradient * scale for gradient in gradients]",
        new="[tf.clip_by_norm(gradient, clip_norm) for gradient in gradients]",
        flags=_tf("mlp_plain"),
    ),
    Mutation(
        name="jax-schedule-off-by-one",
        path=f"{JAX}/optimizer.py",
        old="(step + 1) / max(warmup, 1)",
        new="step / max(warmup, 1)",
        flags=_jax("mlp_plain/adamw_linear_clipped"),
    ),
    Mutation(
        name="tensorflow-decay-starts-a-step-early",
        path=f"{TF}/optimizer.py",
        old="(step - warmup) / (config.schedule_steps - warmup)",
        new="(step - warmup + 1.0) / (config.schedule_steps - warmup)",
        flags=_tf("mlp_plain/sgd_cosine_clipped"),
    ),
    Mutation(
        name="torch-schedule-a-step-ahead",
        path=f"{TORCH}/runner.py",
        old="learning_rate(config, self._updates)",
        new="learning_rate(config, self._updates + 1)",
        flags=_torch("mlp_plain/adamw_linear_clipped"),
    ),
    Mutation(
        name="torch-decays-biases-too",
        path=f"{TORCH}/optimizer.py",
        old="0.0",
        new="config.weight_decay",
        flags=_torch("mlp_plain"),
    ),
    Mutation(
        name="jax-decays-everything",
        path=f"{JAX}/optimizer.py",
        old="decayed",
        new="None",
        within="make",
        places=2,
        flags=_jax("mlp_plain"),
    ),
    Mutation(
        name="tensorflow-decays-after-the-update",
        path=f"{TF}/optimizer.py",
        old="variable * tf.cast(1.0 - rate * config.weight_decay, dtype)",
        new="variable * tf.cast(1.0 - config.weight_decay, dtype)",
        flags=_tf("mlp_plain"),
    ),
    Mutation(
        name="tensorflow-bias-correction-a-step-ahead",
        path=f"{TF}/optimizer.py",
        old="step + 1",
        new="step + 2",
        within="_adamw",
        flags=_tf("mlp_plain"),
    ),
    Mutation(
        name="tensorflow-momentum-is-dampened",
        path=f"{TF}/optimizer.py",
        old="tf.constant(config.momentum, dtype)",
        new="tf.constant(config.momentum * 0.9, dtype)",
        flags=_tf("mlp_plain/sgd_unclipped"),
    ),
    # The reduction over devices.
    Mutation(
        name="pmap-mean-for-sum",
        path=f"{JAX}/strategies/pmap.py",
        old="jax.lax.psum(gradients, AXIS)",
        new="jax.lax.pmean(gradients, AXIS)",
        flags=_jax("mlp_plain", **PMAP),
    ),
    Mutation(
        name="mirrored-mean-for-sum",
        path=f"{TF}/strategies/mirrored.py",
        old="tf.distribute.ReduceOp.SUM",
        new="tf.distribute.ReduceOp.MEAN",
        flags=_tf("mlp_plain", **MIRRORED),
    ),
    Mutation(
        name="ddp-mean-for-sum",
        path=f"{TORCH}/strategies/ddp.py",
        old="loss * self.world_size",
        new="loss",
        flags=_torch("mlp_plain", **DDP),
    ),
    Mutation(
        name="ddp-normaliser-of-its-own-shard",
        path=f"{TORCH}/runner.py",
        old="torch.dot(losses, batch['weights'].flatten()) / batch['normalizer']",
        new=(
            "torch.dot(losses, batch['weights'].flatten()) / "
            "(batch['weights'].sum() * self._strategy.world_size)"
        ),
        flags=_torch("mlp_plain", **DDP),
    ),
    Mutation(
        name="pmap-groups-of-its-own-shard",
        path=f"{JAX}/runner.py",
        old="(auxiliary_B * batch['group_weights']).sum() / batch['groups']",
        new=(
            "(auxiliary_B * batch['group_weights']).sum() / "
            "(batch['group_weights'].sum() * len(self._strategy.devices))"
        ),
        flags=_jax("moe_unused", **PMAP),
    ),
    Mutation(
        name="mirrored-replicas-take-the-same-share",
        path=f"{TF}/strategies/mirrored.py",
        old="shares[replica]",
        new="shares[0]",
        flags=_tf("mlp_plain", **MIRRORED),
    ),
    Mutation(
        name="ddp-ranks-take-the-same-share",
        path=f"{TORCH}/strategies/ddp.py",
        old="value[self.rank * share : (self.rank + 1) * share]",
        new="value[:share]",
        flags=_torch("mlp_plain", **DDP),
    ),
    Mutation(
        name="ddp-shares-are-not-rescaled",
        path=f"{TORCH}/strategies/ddp.py",
        old="value / self.world_size",
        new="value",
        flags=_torch("mlp_plain", **DDP),
    ),
    # Layers.
    Mutation(
        name="jax-forgotten-bias",
        path="models/layers/flax_layers.py",
        old="y.astype(bias.dtype) + bias",
        new="y.astype(bias.dtype) + 0 * bias",
        flags=_jax("mlp_plain"),
    ),
    Mutation(
        name="tensorflow-wrong-gelu",
        path="models/layers/tf_layers.py",
        old="0.044715",
        new="0.04471",
        flags=_tf("transformer_encoder"),
    ),
    Mutation(
        name="torch-exact-gelu-for-tanh",
        path="models/layers/torch_layers.py",
        old="functools.partial(functional.gelu, approximate='tanh')",
        new="functional.gelu",
        flags=_torch("transformer_encoder"),
    ),
    Mutation(
        name="jax-tanh-gelu-for-exact",
        path="models/layers/flax_layers.py",
        old="functools.partial(jax.nn.gelu, approximate=False)",
        new="functools.partial(jax.nn.gelu, approximate=True)",
        flags=_jax("transformer_encoder_unpadded"),
    ),
    Mutation(
        name="torch-fixed-layer-norm-epsilon",
        path="models/transformer/torch_model.py",
        old="spec.layer_norm_epsilon",
        new="1e-05",
        places=3,
        flags=_torch("transformer_encoder_unpadded"),
    ),
    Mutation(
        name="jax-keras-layer-norm-epsilon",
        path="models/transformer/flax_model.py",
        old="spec.layer_norm_epsilon",
        new="1e-06",
        within="__init__",
        places=2,
        flags=_jax("transformer_encoder"),
    ),
    Mutation(
        name="tensorflow-unbiased-variance",
        path="models/layers/tf_layers.py",
        old="tf.reduce_mean(tf.square(centered), -1, keepdims=True)",
        new="tf.reduce_sum(tf.square(centered), -1, keepdims=True) / (y.shape[-1] - 1)",
        flags=_tf("transformer_encoder"),
    ),
    Mutation(
        name="torch-square-kernels-transposed",
        path=f"{TORCH}/parameters.py",
        old="name in self._transposed",
        new="name in self._transposed and array.shape[0] != array.shape[1]",
        places=2,
        flags=_torch("transformer_encoder"),
    ),
    Mutation(
        name="jax-keys-from-the-query-kernel",
        path="models/layers/flax_layers.py",
        old="self.key(x_BTD)",
        new="self.query(x_BTD) + 0 * self.key(x_BTD)",
        flags=_jax("transformer_causal"),
    ),
    Mutation(
        name="jax-padding-ignored-under-a-causal-mask",
        path="models/layers/flax_layers.py",
        old="allowed & padding_B11S",
        new="allowed",
        flags=_jax("transformer_causal_padded"),
    ),
    Mutation(
        name="tensorflow-padding-counts-in-the-mean",
        path="models/transformer/tf_model.py",
        old="tf.reduce_sum(x_BTD * mask_BT1, 1)",
        new="tf.reduce_sum(x_BTD, 1)",
        flags=_tf("transformer_encoder"),
    ),
    Mutation(
        name="tensorflow-sees-one-token-ahead",
        path="models/layers/tf_layers.py",
        old="tf.linalg.band_part(tf.ones((length, length), tf.bool), -1, 0)",
        new="tf.linalg.band_part(tf.ones((length, length), tf.bool), -1, 1)",
        flags=_tf("transformer_causal"),
    ),
    Mutation(
        name="jax-scores-over-d-model",
        path="models/layers/flax_layers.py",
        old="query.shape[-1] ** (-0.5)",
        new="(query.shape[-1] * query.shape[-2]) ** (-0.5)",
        flags=_jax("transformer_causal"),
    ),
    Mutation(
        name="torch-positions-reversed",
        path="models/layers/torch_layers.py",
        old="positions_TD.to(self.dtype)",
        new="positions_TD.to(self.dtype).flip(0)",
        flags=_torch("transformer_causal"),
    ),
    Mutation(
        name="jax-tied-embedding-without-its-gradient",
        path="models/layers/flax_layers.py",
        old="self.token_embedding.embedding[...].astype(x_BTD.dtype)",
        new="jax.lax.stop_gradient(self.token_embedding.embedding[...].astype(x_BTD.dtype))",
        flags=(
            "--models=transformer_causal_padded",
            "--frameworks=jax,torch",
            "--devices=1",
            "--strategies=bare",
        ),
    ),
    Mutation(
        name="torch-bias-added-in-bfloat16",
        path="models/layers/torch_layers.py",
        old="linear(x, self.weight.to(x.dtype), None) + self.bias",
        new="linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))",
        flags=(*_torch("mlp_plain"), *BFLOAT16),
    ),
    Mutation(
        name="jax-bias-added-in-bfloat16",
        path="models/layers/flax_layers.py",
        old="y.astype(bias.dtype) + bias",
        new="y + bias.astype(y.dtype)",
        flags=(*_jax("mlp_plain"), *BFLOAT16),
    ),
    Mutation(
        name="tensorflow-bias-added-in-bfloat16",
        path="models/layers/tf_layers.py",
        old="tf.nn.bias_add(tf.cast(y, self.bias.dtype), self.bias)",
        new="tf.nn.bias_add(y, tf.cast(self.bias, y.dtype))",
        flags=(*_tf("mlp_plain"), *BFLOAT16),
    ),
    # Mixtures of experts.
    Mutation(
        name="jax-last-expert-dropped",
        path="models/moe/flax_model.py",
        old="jax.lax.top_k(probabilities_TE, top_k)",
        new="jax.lax.top_k(probabilities_TE.at[:, -1].set(0.0), top_k)",
        flags=_jax("moe_plain"),
    ),
    Mutation(
        name="tensorflow-one-slot-too-many",
        path="models/moe/tf_model.py",
        old="position_BTK < capacity",
        new="position_BTK <= capacity",
        flags=_tf("moe_plain"),
    ),
    Mutation(
        name="torch-slots-filled-token-by-token",
        path="models/moe/torch_model.py",
        old="expert_BTK.transpose(1, 2).reshape(batch, -1)",
        new="expert_BTK.reshape(batch, -1)",
        flags=_torch("moe_plain"),
    ),
    Mutation(
        name="jax-gates-not-renormalised",
        path="models/moe/flax_model.py",
        old="top_TK / top_TK.sum(-1, keepdims=True)",
        new="top_TK",
        flags=_jax("moe_plain"),
    ),
    Mutation(
        name="torch-ties-to-the-highest-index",
        path="models/moe/torch_model.py",
        old="torch.sort(probabilities_BTE, dim=-1, descending=True, stable=True)",
        new=(
            "(lambda s: (s[0].flip(-1), s[1].flip(-1)))"
            "(torch.sort(probabilities_BTE, dim=-1, stable=True))"
        ),
        flags=_torch("moe_ties"),
    ),
    Mutation(
        name="tensorflow-auxiliary-loss-without-k",
        path="models/moe/tf_model.py",
        old="length * top_k",
        new="length",
        flags=_tf("moe_plain"),
    ),
    Mutation(
        name="torch-auxiliary-coefficient-forgotten",
        path=f"{TORCH}/runner.py",
        old="self._spec.auxiliary_loss_coefficient * auxiliary",
        new="auxiliary",
        flags=_torch("moe_plain"),
    ),
    Mutation(
        name="jax-padding-is-routed",
        path="models/moe/flax_model.py",
        old="jnp.tile(mask_T, top_k)[:, None]",
        new="1",
        flags=_jax("moe_padded"),
    ),
    # The loss, the data, the start.
    Mutation(
        name="jax-weights-ignored",
        path=f"{JAX}/runner.py",
        old="(losses * batch['weights']).sum()",
        new="losses.sum()",
        flags=_jax("mlp_plain"),
    ),
    Mutation(
        name="jax-seed-shifted",
        path=f"{JAX}/runner.py",
        old="spec.initial_parameters(seed=config.seed)",
        new="spec.initial_parameters(seed=config.seed + 1)",
        flags=_jax("mlp_plain"),
    ),
    Mutation(
        name="glorot-bound-by-the-wrong-fan",
        path="common/config/initializers.py",
        old="6.0 / (fan_in + fan_out)",
        new="6.0 / (2 * fan_out)",
        flags=_torch("mlp_plain"),
    ),
    Mutation(
        name="glorot-takes-the-input-for-the-output",
        path="common/config/initializers.py",
        old="math.prod((sizes[dim] for dim in self.fan_out))",
        new="math.prod((sizes[dim] for dim in self.fan_in))",
        flags=_torch("mlp_plain"),
    ),
    Mutation(
        name="normal-of-another-width",
        path="common/config/initializers.py",
        old="self.std * generator.standard_normal(tuple(sizes.values()))",
        new="1.25 * self.std * generator.standard_normal(tuple(sizes.values()))",
        flags=_torch("transformer_causal"),
    ),
    # Accumulation, dropout, state, blocks.
    Mutation(
        name="jax-accumulation-keeps-the-last-part",
        path=f"{JAX}/runner.py",
        old="jax.tree.map(jnp.add, total, compute(*inputs))",
        new="compute(*inputs)",
        flags=_jax("mlp_plain/accumulated"),
    ),
    Mutation(
        name="tensorflow-accumulates-one-part-twice",
        path=f"{TF}/runner.py",
        old="value[index]",
        new="value[0]",
        flags=_tf("mlp_plain/accumulated"),
    ),
    Mutation(
        name="ddp-reduces-no-part",
        path=f"{TORCH}/runner.py",
        old="index == parts - 1",
        new="False",
        flags=_torch("mlp_plain/accumulated", **DDP),
    ),
    Mutation(
        name="torch-dropout-of-another-rate",
        path="models/mlp/torch_model.py",
        old="functional.dropout(x_BF, self.dropout_rate)",
        new="functional.dropout(x_BF, self.dropout_rate + 0.05)",
        flags=_torch("mlp_plain/dropout"),
    ),
    Mutation(
        name="torch-dropout-in-the-forward-pass-alone",
        path=f"{TORCH}/runner.py",
        old="self._call_model(batch, None)",
        new="self._call_model(batch, True)",
        within="_predict",
        flags=_torch("mlp_plain/dropout"),
    ),
    Mutation(
        name="pmap-one-mask-for-all-devices",
        path=f"{JAX}/strategies/pmap.py",
        old="jax.lax.axis_index(AXIS)",
        new="0",
        flags=_jax("mlp_plain/dropout", **PMAP),
    ),
    Mutation(
        name="tensorflow-the-same-mask-in-every-step",
        path=f"{TF}/runner.py",
        old="step * 2**32",
        new="0 * step",
        flags=_tf("mlp_plain/dropout"),
    ),
    Mutation(
        name="jax-the-same-mask-in-every-part",
        path=f"{JAX}/runner.py",
        old="jax.random.fold_in(dropout_key, index)",
        new="jax.random.fold_in(dropout_key, 0 * index)",
        flags=_jax("mlp_plain/dropout_accumulated"),
    ),
    Mutation(
        name="tensorflow-the-same-mask-in-every-part",
        path=f"{TF}/runner.py",
        old="2**16 * tf.cast(index, tf.int64)",
        new="0 * tf.cast(index, tf.int64)",
        flags=_tf("mlp_plain/dropout_accumulated"),
    ),
    Mutation(
        name="jax-restoring-forgets-the-count",
        path=f"{JAX}/runner.py",
        old="np.asarray(self._updates, np.int32)",
        new="np.asarray(0, np.int32)",
        places=2,  # the count of the optimizer, and the count of dropout
        flags=_jax("mlp_plain"),
    ),
    Mutation(
        name="jax-blocks-begin-a-batch-late",
        path=f"{JAX}/runner.py",
        old="step % stacked.shape[0]",
        new="(step + 1) % stacked.shape[0]",
        flags=(*_jax("mlp_plain"), "--tuning=tuned"),
    ),
    # Large activations: with the usual start values, parity does not see these bugs.
    Mutation(
        name="torch-relu6-for-relu",
        path="models/mlp/torch_model.py",
        old="functional.relu(layer(x_BF))",
        new="functional.relu6(layer(x_BF))",
        flags=_torch("mlp_plain/large"),
    ),
    Mutation(
        name="jax-relu6-for-relu",
        path="models/mlp/flax_model.py",
        old="jax.nn.relu(layer(x_BF))",
        new="jax.nn.relu6(layer(x_BF))",
        flags=_jax("mlp_plain/large"),
    ),
    Mutation(
        name="tensorflow-relu6-for-relu",
        path="models/mlp/tf_model.py",
        old="tf.nn.relu(layer(x_BF))",
        new="tf.nn.relu6(layer(x_BF))",
        flags=_tf("mlp_plain/large"),
    ),
    Mutation(
        name="torch-relu6-in-the-transformer",
        path="models/layers/torch_layers.py",
        old="functional.relu",
        new="functional.relu6",
        flags=_torch("transformer_causal_padded/large"),
    ),
    Mutation(
        name="jax-tanh-gelu-in-the-tails",
        path="models/layers/flax_layers.py",
        old="functools.partial(jax.nn.gelu, approximate=False)",
        new="lambda x: jnp.where(abs(x) > 3.5, jax.nn.gelu(x, True), jax.nn.gelu(x, False))",
        flags=_jax("transformer_encoder_unpadded/large"),
    ),
    Mutation(
        name="torch-exact-gelu-in-the-tails",
        path="models/layers/torch_layers.py",
        old="functools.partial(functional.gelu, approximate='tanh')",
        new=(
            "lambda x: torch.where(abs(x) > 4.5, functional.gelu(x), functional.gelu(x, "
            "approximate='tanh'))"
        ),
        flags=_torch("moe_plain/large"),
    ),
    Mutation(
        name="tensorflow-gelu-clips-its-tanh",
        path="models/layers/tf_layers.py",
        old="tf.tanh(inner)",
        new="tf.tanh(tf.clip_by_value(inner, -6.0, 6.0))",
        flags=_tf("transformer_encoder/large"),
    ),
    Mutation(
        name="jax-attention-clips-its-scores",
        path="models/layers/flax_layers.py",
        old="jax.nn.softmax(scores_BNTS)",
        new="jax.nn.softmax(jnp.clip(scores_BNTS, -50.0, 50.0))",
        flags=_jax("transformer_causal/large"),
    ),
    Mutation(
        name="tensorflow-attention-clips-its-scores",
        path="models/layers/tf_layers.py",
        old="tf.nn.softmax(scores_BNTS)",
        new="tf.nn.softmax(tf.clip_by_value(scores_BNTS, -50.0, 50.0))",
        flags=_tf("transformer_encoder/large"),
    ),
    Mutation(
        name="torch-attention-clips-its-queries",
        path="models/layers/torch_layers.py",
        old="heads(self.query(x_BTD))",
        new="heads(self.query(x_BTD)).clamp(-8.0, 8.0)",
        flags=_torch("transformer_encoder/large"),
    ),
    Mutation(
        name="torch-router-keeps-a-least-probability",
        path="models/moe/torch_model.py",
        old="torch.softmax(x_BTD.to(self.router_kernel.dtype) @ self.router_kernel, -1)",
        new=(
            "torch.softmax(x_BTD.to(self.router_kernel.dtype) @ self.router_kernel, "
            "-1).clamp(min=1e-06)"
        ),
        flags=_torch("moe_plain/large"),
    ),
    Mutation(
        name="jax-loss-overflows",
        path=f"{JAX}/runner.py",
        old="optax.losses.softmax_cross_entropy_with_integer_labels(logits, batch['labels'])",
        new=(
            "jnp.log(jnp.exp(logits).sum(-1)) - jnp.take_along_axis(logits, "
            "batch['labels'][..., None], -1)[..., 0]"
        ),
        flags=_jax("mlp_plain/large"),
    ),
    Mutation(
        name="tensorflow-loss-overflows",
        path=f"{TF}/runner.py",
        old=(
            "tf.nn.sparse_softmax_cross_entropy_with_logits(batch['labels'], tf.cast(logits, "
            "self._parameter_dtype))"
        ),
        new=(
            "tf.math.log(tf.reduce_sum(tf.exp(logits), -1)) - tf.gather(logits, "
            "batch['labels'], batch_dims=batch['labels'].shape.rank)"
        ),
        flags=_tf("moe_padded/large"),
    ),
    Mutation(
        name="torch-loss-overflows",
        path=f"{TORCH}/runner.py",
        old=(
            "functional.cross_entropy(logits.flatten(0, -2), batch['labels'].flatten(), "
            "reduction='none')"
        ),
        new=(
            "functional.nll_loss(functional.softmax(logits.flatten(0, -2), -1).log(), "
            "batch['labels'].flatten(), reduction='none')"
        ),
        flags=_torch("transformer_causal/large"),
    ),
    Mutation(
        name="torch-loss-overflows-in-float32",
        path=f"{TORCH}/runner.py",
        old=(
            "functional.cross_entropy(logits.flatten(0, -2), batch['labels'].flatten(), "
            "reduction='none')"
        ),
        new=(
            "(logits.exp().sum(-1).log() - logits.gather(-1, batch['labels'].long()[..., "
            "None])[..., 0]).flatten()"
        ),
        flags=(*_torch("transformer_encoder/large"), "--dtype=float32"),
    ),
    Mutation(
        name="torch-logits-are-clipped",
        path=f"{TORCH}/runner.py",
        old="logits.to(self._parameter_dtype)",
        new="logits.to(self._parameter_dtype).clamp(-50.0, 50.0)",
        within="_loss",
        flags=_torch("transformer_causal_padded/large"),
    ),
    Mutation(
        name="tensorflow-tiny-variances-are-raised",
        path="models/layers/tf_layers.py",
        old="tf.math.rsqrt(variance + self.epsilon)",
        new="tf.math.rsqrt(tf.maximum(variance, 1e-06) + self.epsilon)",
        flags=_tf("transformer_causal/large"),
    ),
    Mutation(
        name="torch-large-inputs-of-layer-norm-are-clipped",
        path="models/layers/torch_layers.py",
        old="super().forward(x)",
        new="super().forward(x.clamp(-50.0, 50.0))",
        within="forward",
        flags=_torch("moe_padded/large"),
    ),
    Mutation(
        name="jax-large-inputs-of-layer-norm-are-clipped",
        path="models/layers/flax_layers.py",
        old="super().__call__(x, mask=mask)",
        new="super().__call__(jnp.clip(x, -50.0, 50.0), mask=mask)",
        flags=_jax("moe_plain/large"),
    ),
)
