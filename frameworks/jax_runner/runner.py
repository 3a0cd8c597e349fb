"""The JAX runner: one functional, jitted step with donated state."""

from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import optax
from flax import nnx

from isoscale.common.config.model_spec import Arrays
from isoscale.common.config.run_config import RunConfig
from isoscale.common.measure.batches import check_logits, split_scalars, stack_pool, unroll
from isoscale.common.measure.runner import Runner, StepBlock
from isoscale.common.reference.optimizer import OptimizerState
from isoscale.frameworks.jax_runner import attention, precision
from isoscale.frameworks.jax_runner import optimizer as optimizers
from isoscale.frameworks.jax_runner.parameters import canonical_name
from isoscale.frameworks.jax_runner.strategy import Strategy, Tree


class JaxRunner(Runner):
    """Trains with ``jax.jit`` or ``jax.pmap``; the strategy chooses.

    The state is a dict of canonical name -> array: it dispatches faster than an ``nnx.State``.
    Tracing rebuilds the module from the state, which costs nothing at run time.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        build_model: Callable[..., nnx.Module],
        make_strategy: Callable[[RunConfig], Strategy],
    ):
        jax.config.update("jax_enable_x64", config.dtype == "float64")
        precision.set_tf32(config.tf32)
        self._config = config
        self._spec = spec = config.spec
        self._strategy = self.ranks = make_strategy(config)
        self._parameter_dtype = jnp.dtype(config.parameter_dtype)

        abstract = nnx.eval_shape(
            lambda: build_model(
                spec,
                dtype=jnp.dtype(config.dtype),
                param_dtype=self._parameter_dtype,
                tweaks=config.tweaks,
            )
        )
        self._attention = attention.choose(abstract, config, strategy=self._strategy)
        self._graph, abstract_state = nnx.split(abstract)
        self._tree = jax.tree.structure(abstract_state)
        self._names = [canonical_name(tuple(path)) for path, _ in nnx.to_flat_state(abstract_state)]
        expected = {p.name for p in spec.parameters()}
        if set(self._names) != expected:
            raise RuntimeError(
                "the Flax module and the spec do not share these parameters: "
                f"{set(self._names) ^ expected}"
            )
        self._dropout = spec.dropout > 0
        self._optimizer = optimizers.make(
            config.optimizer, decayed={p.name: p.decay for p in spec.parameters()}
        )

        wrap = self._strategy.wrap
        self._train = wrap(self._train_step, call="step")
        self._train_block = wrap(self._train_steps, call="block")
        self._forward = wrap(self._predict, call="forward")
        self._gradients = wrap(self._reduced_gradients, call="gradients")
        self._shares = wrap(self._loss_and_gradients, call="shares")
        self._state: Tree = None
        self._updates = 0
        self._issued: Tree = None
        self.set_parameters(spec.initial_parameters(seed=config.seed))

    # What a step computes.

    def _call_model(self, parameters: Tree, batch: Tree, dropout_key: jax.Array | None) -> Tree:
        state = jax.tree.unflatten(self._tree, [parameters[name] for name in self._names])
        model = nnx.merge(self._graph, state)
        inputs = [batch[name] for name in self._spec.input_names]
        output = model(*inputs, dropout=dropout_key)
        logits, auxiliary_B = output if isinstance(output, tuple) else (output, None)
        check_logits(self._spec, logits.shape, str(logits.dtype), wanted=self._config.dtype)
        return logits, auxiliary_B

    def _loss(
        self, parameters: Tree, batch: Tree, dropout_key: jax.Array | None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Returns (this shard's share of the loss, metrics); shares add up to the global loss."""
        logits, auxiliary_B = self._call_model(parameters, batch, dropout_key)
        logits = logits.astype(self._parameter_dtype)
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
        loss = (losses * batch["weights"]).sum() / batch["normalizer"]
        if auxiliary_B is None:
            return loss, {"loss": loss}
        auxiliary = (auxiliary_B * batch["group_weights"]).sum() / batch["groups"]
        total = loss + self._spec.auxiliary_loss_coefficient * auxiliary
        return total, {"loss": total, "cross_entropy": loss, "auxiliary_loss": auxiliary}

    def _loss_and_gradients(
        self, state: Tree, batch: Tree, dropout_key: jax.Array | None = None
    ) -> tuple[dict[str, jax.Array], Tree]:
        gradients, metrics = jax.grad(self._loss, has_aux=True)(
            state["parameters"], batch, dropout_key
        )
        return metrics, gradients

    def _reduce(self, gradients: Tree) -> Tree:
        reduce = self._strategy.reduce_gradients
        return reduce(gradients) if callable(reduce) else gradients

    def _reduced_gradients(
        self, state: Tree, batch: Tree, dropout_key: jax.Array | None = None
    ) -> tuple[dict[str, jax.Array], Tree]:
        metrics, gradients = self._loss_and_gradients(state, batch, dropout_key)
        return metrics, self._reduce(gradients)

    def _accumulated_gradients(
        self, state: Tree, batch: Tree, dropout_key: jax.Array | None
    ) -> tuple[dict[str, jax.Array], Tree]:
        """Returns metrics and gradients, summed over parts of the batch.

        A reduction by a function runs once, after the last part. With pjit the compiler places the
        reduction: XLA reduces after every part.
        """
        count = self._config.gradient_accumulation_steps
        rows, whole = split_scalars(batch)
        parts = self._strategy.split_rows(rows, count)

        def compute(part: Tree, index: jax.Array) -> Tree:
            key = None if dropout_key is None else jax.random.fold_in(dropout_key, index)
            return self._loss_and_gradients(state, {**part, **whole}, key)

        def add(total: Tree, inputs: Tree) -> tuple[Tree, None]:
            return jax.tree.map(jnp.add, total, compute(*inputs)), None

        inputs = (parts, jnp.arange(count))
        shapes = jax.eval_shape(compute, *jax.tree.map(lambda value: value[0], inputs))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        (metrics, gradients), _ = jax.lax.scan(add, zeros, inputs)
        return metrics, self._reduce(gradients)

    def _predict(self, state: Tree, batch: Tree) -> jax.Array:
        logits, _ = self._call_model(state["parameters"], batch, None)
        return logits

    def _train_step(self, state: Tree, batch: Tree) -> tuple[Tree, dict[str, jax.Array]]:
        new_state, dropout_key = {}, None
        if self._dropout:
            # The key depends on seed and step only: a resumed training draws the same masks.
            key = jax.random.fold_in(jax.random.key(self._config.seed), state["step"])
            index = self._strategy.device_index()
            dropout_key = key if index is None else jax.random.fold_in(key, index)
            new_state["step"] = state["step"] + 1
        accumulates = self._config.gradient_accumulation_steps > 1
        compute = self._accumulated_gradients if accumulates else self._reduced_gradients
        metrics, gradients = compute(state, batch, dropout_key)
        updates, new_state["optimizer"] = self._optimizer.update(
            gradients, state["optimizer"], state["parameters"]
        )
        new_state["parameters"] = optax.apply_updates(state["parameters"], updates)
        return new_state, metrics

    def _train_steps(
        self, state: Tree, pool: Tree, first: jax.Array
    ) -> tuple[Tree, dict[str, jax.Array]]:
        """Runs ``steps_per_dispatch`` steps; the first dim of the pool's arrays counts batches."""

        def body(state: Tree, step: jax.Array) -> tuple[Tree, dict[str, jax.Array]]:
            def pick(stacked: jax.Array) -> jax.Array:
                return jax.lax.dynamic_index_in_dim(
                    stacked, step % stacked.shape[0], keepdims=False
                )

            return self._train_step(state, jax.tree.map(pick, pool))

        return jax.lax.scan(body, state, first + jnp.arange(self._config.steps_per_dispatch))

    # The contract.

    def place(self, batch: Arrays) -> Tree:
        return self._strategy.place_batch(batch)

    def place_pool(self, batches: list[Arrays]) -> Tree:
        return self._strategy.place_pool(stack_pool(batches))

    def rehearse(self, block: StepBlock) -> None:
        # The call donates the buffers of its state, so this state is a copy.
        state = jax.tree.map(jnp.copy, self._state)
        jax.block_until_ready(self._train_block(state, block.pool, block.first))

    def step(self, batch: Tree | StepBlock) -> Tree:
        if isinstance(batch, StepBlock):
            self._state, metrics = self._train_block(self._state, batch.pool, batch.first)
            self._updates += batch.steps
            self._issued = metrics
            return metrics, batch.steps
        self._state, metrics = self._train(self._state, batch)
        self._updates += 1
        self._issued = metrics
        return metrics, None

    def forward(self, batch: Tree) -> Tree:
        self._issued = self._forward(self._state, batch)
        return self._issued

    def gradients(self, batch: Tree, *, sync: bool = True) -> Tree:
        compiled = self._gradients if sync else self._shares
        self._issued = compiled(self._state, batch)
        return *self._issued, sync

    def wait(self) -> None:
        jax.block_until_ready((self._state, self._issued))

    def wait_for(self, handle: Tree) -> None:
        jax.block_until_ready(handle)

    def metrics(self, handles: list[Tree]) -> list[dict[str, float]]:
        rows = []
        for metrics, steps in jax.device_get(handles):
            totals = {name: self._strategy.read_totals(value) for name, value in metrics.items()}
            rows += unroll(totals, steps=steps)
        return rows

    def read_logits(self, handle: Tree) -> np.ndarray:
        return self._strategy.read_rows(handle.astype(self._parameter_dtype))

    def read_gradients(self, handle: Tree) -> tuple[dict[str, float], list[Arrays]]:
        metrics, gradients, reduced = handle
        if reduced:
            return self.metrics([(metrics, None)])[0], [jax.device_get(gradients)]
        shares = self._strategy.read_shares(metrics)
        totals = {name: np.sum([share[name] for share in shares]) for name in metrics}
        return unroll(totals, steps=None)[0], self._strategy.read_shares(gradients)

    def parameters(self) -> Arrays:
        return jax.device_get(self._state["parameters"])

    def set_parameters(self, parameters: Arrays) -> None:
        host = {name: parameters[name].astype(self._parameter_dtype) for name in self._names}
        if self._state is None:
            state = {"parameters": host, "optimizer": self._optimizer.init(host)}
            if self._dropout:
                state["step"] = np.asarray(0, np.int32)
            self._state = self._strategy.place_state(state)
        else:
            self._state = {**self._state, "parameters": self._strategy.place_state(host)}

    @property
    def _slots(self) -> dict[str, str]:
        return optimizers.SLOTS[self._config.optimizer.name]

    def optimizer_state(self) -> OptimizerState:
        slots = {
            slot: jax.device_get(optax.tree_utils.tree_get(self._state["optimizer"], field))
            for slot, field in self._slots.items()
        }
        return OptimizerState(slots=slots, step=self._updates)

    def set_optimizer_state(self, state: OptimizerState) -> None:
        self._updates = state.step
        fields: dict[str, Any] = {
            field: {n: v.astype(self._parameter_dtype) for n, v in state.slots[slot].items()}
            for slot, field in self._slots.items()
        }
        tree = optax.tree_utils
        if tree.tree_get_all_with_path(self._state["optimizer"], "count"):
            fields["count"] = np.asarray(self._updates, np.int32)
        # tree_set puts one ``count`` array into two leaves, of Adam and of the schedule. Donation
        # needs a buffer for each leaf; placing the complete tree creates them.
        new = tree.tree_set(self._state["optimizer"], **fields)
        self._state = {**self._state, "optimizer": self._strategy.place_state(new)}
        if self._dropout:
            step = np.asarray(self._updates, np.int32)
            self._state["step"] = self._strategy.place_state(step)

    def accelerator_peak_bytes(self) -> list[int] | None:
        statistics = [device.memory_stats() for device in self._strategy.devices]
        if any(not entry or "peak_bytes_in_use" not in entry for entry in statistics):
            return None
        return [entry["peak_bytes_in_use"] for entry in statistics]

    def describe(self) -> dict[str, Any]:
        return {
            "versions": {
                "jax": jax.__version__,
                "jaxlib": jaxlib.__version__,
                "flax": flax.__version__,
                "optax": optax.__version__,
                "numpy": np.__version__,
            },
            "devices": [str(device) for device in self._strategy.devices],
            "device_kind": self._strategy.devices[0].device_kind,
            "matmul_precision": precision.in_force(),
            "donated": "parameters and optimizer state",
            **({"attention": self._attention} if self._attention else {}),
            **self._strategy.describe(),
        }

    def close(self) -> None:
        self.wait()
        self._strategy.close()


RUNNER = JaxRunner
