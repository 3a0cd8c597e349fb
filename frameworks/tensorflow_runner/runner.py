"""The TensorFlow runner: one ``tf.function`` step over ``tf.Module`` models."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from isoscale.common.config.model_spec import Arrays
from isoscale.common.config.run_config import RunConfig
from isoscale.common.measure.batches import (
    check_logits,
    metric_names,
    split_scalars,
    stack_pool,
    unroll,
    without_gradient,
)
from isoscale.common.measure.runner import Runner, StepBlock
from isoscale.common.reference.optimizer import OptimizerState
from isoscale.frameworks.tensorflow_runner import optimizer as optimizers
from isoscale.frameworks.tensorflow_runner import precision
from isoscale.frameworks.tensorflow_runner.parameters import canonical_variables
from isoscale.frameworks.tensorflow_runner.strategy import Strategy
from isoscale.models.layers.tf_layers import Attention

Batch = Any
Metrics = dict[str, tf.Tensor]

# No Python `if` or loop depends on a tensor, so AutoGraph would only slow down tracing.
_function = functools.partial(tf.function, autograph=False)


class TensorFlowRunner(Runner):
    """Trains with one compiled function; the strategy runs it on every replica."""

    def __init__(
        self,
        config: RunConfig,
        *,
        build_model: Callable[..., tf.Module],
        make_strategy: Callable[[RunConfig], Strategy],
    ):
        precision.set_tf32(config.tf32)
        self._config = config
        self._spec = spec = config.spec
        self._strategy = self.ranks = make_strategy(config)
        self._parameter_dtype = tf.as_dtype(config.parameter_dtype)
        self._dropout = spec.dropout > 0
        with self._strategy.scope():
            self._model = build_model(
                spec,
                dtype=tf.as_dtype(config.dtype),
                param_dtype=self._parameter_dtype,
                tweaks=config.tweaks,
            )
            self._variables = canonical_variables(self._model, spec)
            self._optimizer = optimizers.Optimizer(
                config.optimizer,
                self._variables,
                decayed={p.name for p in spec.parameters() if p.decay},
                local=self._strategy.local,
            )
        self.set_parameters(spec.initial_parameters(seed=config.seed))

        wrap = self._strategy.wrap
        # XLA compiles the forward and backward pass of the model. The reduction and the fused
        # update are separate operations with and without XLA.
        self._compute, predict = self._loss_and_gradients, self._predict
        if config.compile_mode == "xla":
            self._compute = _function(self._compute, jit_compile=True)
            predict = _function(predict, jit_compile=True)
        self._train = _function(wrap(self._train_step))
        self._train_block = _function(self._train_steps)
        self._forward = _function(wrap(lambda batch: predict(batch)))
        self._gradients = _function(wrap(self._reduced_gradients))
        self._shares = _function(wrap(lambda batch: self._compute(batch, None)))

    # What a step computes on one replica.

    def _call_model(self, batch: Batch, dropout_seed: tf.Tensor | None) -> tuple:
        inputs = [batch[name] for name in self._spec.input_names]
        output = self._model(*inputs, dropout=dropout_seed)
        logits, auxiliary_B = output if isinstance(output, tuple) else (output, None)
        check_logits(self._spec, logits.shape, logits.dtype.name, wanted=self._config.dtype)
        return logits, auxiliary_B

    def _loss(self, batch: Batch, dropout_seed: tf.Tensor | None) -> tuple[tf.Tensor, Metrics]:
        """Returns (this shard's share of the loss, metrics); shares add up to the global loss."""
        logits, auxiliary_B = self._call_model(batch, dropout_seed)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            batch["labels"], tf.cast(logits, self._parameter_dtype)
        )
        loss = tf.reduce_sum(losses * batch["weights"]) / batch["normalizer"]
        if auxiliary_B is None:
            return loss, {"loss": loss}
        auxiliary = tf.reduce_sum(auxiliary_B * batch["group_weights"]) / batch["groups"]
        total = loss + self._spec.auxiliary_loss_coefficient * auxiliary
        return total, {"loss": total, "cross_entropy": loss, "auxiliary_loss": auxiliary}

    def _loss_and_gradients(
        self, batch: Batch, dropout_seed: tf.Tensor | None
    ) -> tuple[Metrics, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            loss, metrics = self._loss(batch, dropout_seed)
        gradients = tape.gradient(loss, list(self._variables.values()))
        if any(gradient is None for gradient in gradients):
            raise without_gradient(dict(zip(self._variables, gradients, strict=True)))
        # Gradients of embeddings are sparse here; the optimizer's formula needs dense ones.
        return metrics, [tf.convert_to_tensor(gradient) for gradient in gradients]

    def _accumulated_gradients(
        self, batch: Batch, dropout_seed: tf.Tensor | None
    ) -> tuple[Metrics, list[tf.Tensor]]:
        """Returns metrics and gradients of this replica's rows, summed over parts of the rows."""
        count = self._config.gradient_accumulation_steps
        rows, whole = split_scalars(batch)
        parts = {
            name: tf.reshape(value, (count, value.shape[0] // count, *value.shape[1:]))
            for name, value in rows.items()
        }

        def body(index: tf.Tensor, metrics: Metrics, gradients: list[tf.Tensor]) -> tuple:
            part = {name: value[index] for name, value in parts.items()}
            seed = dropout_seed
            if seed is not None:
                seed += tf.stack([tf.constant(0, tf.int64), 2**16 * tf.cast(index, tf.int64)])
            found = self._compute({**part, **whole}, seed)
            return index + 1, *tf.nest.map_structure(tf.add, (metrics, gradients), found)

        zero = tf.zeros((), self._parameter_dtype)
        start = (
            tf.constant(0),
            dict.fromkeys(metric_names(self._spec), zero),
            [tf.zeros(variable.shape, variable.dtype) for variable in self._variables.values()],
        )
        _, metrics, gradients = tf.while_loop(
            lambda index, *_: index < count, body, start, parallel_iterations=1
        )
        return metrics, gradients

    def _train_step(self, batch: Batch) -> Metrics:
        seed = None
        if self._dropout:
            step = tf.identity(self._strategy.local(self._optimizer.step))
            replica = tf.cast(self._strategy.device_index(), tf.int64)
            # Two 64-bit words: (seed, replica) and (step, part of the batch, layer); the model adds
            # the layer.
            seed = tf.stack([self._config.seed * 2**16 + replica, step * 2**32])
        accumulates = self._config.gradient_accumulation_steps > 1
        compute = self._accumulated_gradients if accumulates else self._compute
        metrics, gradients = compute(batch, seed)
        self._optimizer.apply(self._reduce(gradients))
        return metrics

    def _train_steps(self, pool: Batch, first: tf.Tensor) -> Metrics:
        """Runs ``steps_per_dispatch`` steps; the first dim of the pool's tensors counts batches."""
        steps = self._config.steps_per_dispatch

        def train(pool: Batch, step: tf.Tensor) -> Metrics:
            batch = {name: value[step % value.shape[0]] for name, value in pool.items()}
            return self._train_step(batch)

        names = metric_names(self._spec)
        run = self._strategy.wrap(train)

        def body(step: tf.Tensor, *rows: tf.TensorArray) -> tuple:
            metrics = run(pool, first + step)
            totals = (tf.add_n(list(self._strategy.per_replica(metrics[name]))) for name in names)
            written = (row.write(step, total) for row, total in zip(rows, totals, strict=True))
            return step + 1, *written

        empty = (tf.TensorArray(self._parameter_dtype, steps) for _ in names)
        _, *rows = tf.while_loop(
            lambda step, *_: step < steps, body, (tf.constant(0), *empty), parallel_iterations=1
        )
        return {name: row.stack() for name, row in zip(names, rows, strict=True)}

    def _predict(self, batch: Batch) -> tf.Tensor:
        logits, _ = self._call_model(batch, None)
        return tf.cast(logits, self._parameter_dtype)

    def _reduce(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        reduce = self._strategy.reduce_gradients
        return reduce(gradients) if callable(reduce) else gradients

    def _reduced_gradients(self, batch: Batch) -> tuple[Metrics, list[tf.Tensor]]:
        metrics, gradients = self._compute(batch, None)
        return metrics, self._reduce(gradients)

    # The contract.

    def place(self, batch: Arrays) -> Batch:
        return self._strategy.place_batch(batch)

    def place_pool(self, batches: list[Arrays]) -> Batch:
        return self._strategy.place_pool(stack_pool(batches))

    def step(self, batch: Batch | StepBlock) -> Any:
        if isinstance(batch, StepBlock):
            return self._train_block(batch.pool, tf.constant(batch.first)), batch.steps
        return self._train(batch), None

    def forward(self, batch: Batch) -> Any:
        return self._forward(batch)

    def gradients(self, batch: Batch, *, sync: bool = True) -> Any:
        return *(self._gradients if sync else self._shares)(batch), sync

    def wait(self) -> None:
        tf.test.experimental.sync_devices()

    def wait_for(self, handle: Any) -> None:
        # On CPU a call returns after its work.
        if self._config.platform != "cpu":
            for value in tf.nest.flatten(handle):
                for tensor in self._strategy.per_replica(value):
                    if tf.is_tensor(tensor):
                        tensor.numpy()

    def metrics(self, handles: list[Any]) -> list[dict[str, float]]:
        rows = []
        for metrics, steps in handles:
            totals = {name: self._strategy.read_totals(value) for name, value in metrics.items()}
            rows += unroll(totals, steps=steps)
        return rows

    def read_logits(self, handle: Any) -> np.ndarray:
        return self._strategy.read_rows(handle)

    def read_gradients(self, handle: Any) -> tuple[dict[str, float], list[Arrays]]:
        metrics, gradients, reduced = handle
        named = dict(zip(self._variables, gradients, strict=True))
        shares = self._strategy.read_shares(named)  # if reduced, each holds the whole gradient
        return self.metrics([(metrics, None)])[0], shares[:1] if reduced else shares

    def _read(self, variables: dict[str, tf.Variable]) -> Arrays:
        return {name: variable.numpy() for name, variable in variables.items()}

    def _write(self, variables: dict[str, tf.Variable], arrays: Arrays) -> None:
        for name, variable in variables.items():
            variable.assign(tf.cast(arrays[name], variable.dtype))

    def parameters(self) -> Arrays:
        return self._read(self._variables)

    def set_parameters(self, parameters: Arrays) -> None:
        self._write(self._variables, parameters)

    def optimizer_state(self) -> OptimizerState:
        slots = {slot: self._read(values) for slot, values in self._optimizer.slots.items()}
        return OptimizerState(slots=slots, step=int(self._optimizer.step.numpy()))

    def set_optimizer_state(self, state: OptimizerState) -> None:
        for slot, variables in self._optimizer.slots.items():
            self._write(variables, state.slots[slot])
        self._optimizer.step.assign(state.step)

    def accelerator_peak_bytes(self) -> list[int] | None:
        if self._config.platform == "cpu":
            return None
        return [
            tf.config.experimental.get_memory_info(device.lstrip("/"))["peak"]
            for device in self._strategy.devices
        ]

    def describe(self) -> dict[str, Any]:
        attends = any(isinstance(module, Attention) for module in self._model.submodules)
        return {
            "versions": {"tensorflow": tf.__version__, "numpy": np.__version__},
            "devices": self._strategy.devices,
            "device_kind": self._config.platform,
            "matmul_precision": precision.in_force(),
            "intra_op_threads": tf.config.threading.get_intra_op_parallelism_threads(),
            "inter_op_threads": tf.config.threading.get_inter_op_parallelism_threads(),
            "optimizer": "fused",
            **({"attention": "written out"} if attends else {}),
            **self._strategy.describe(),
        }

    def close(self) -> None:
        self.wait()
        self._strategy.close()


RUNNER = TensorFlowRunner
