"""``jax.pmap``: one program per device, with explicit collectives.

On current JAX it is built on ``jit`` and ``shard_map``. It adds up what ``psum`` is given; under
pjit the compiler chooses, and adds up gradients of kernels before they are transposed (the tweak
``kernel-gradient``).
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from isoscale.common.config.model_spec import Arrays
from isoscale.common.config.run_config import RunConfig
from isoscale.frameworks.jax_runner.strategies import bare

INFO = {
    "summary": "jax.pmap, one program per device with psum",
    "process_model": "single",
    "max_devices": None,
    "note": "pmap is built on jit and shard_map in current JAX: a gap to pjit is API overhead.",
}

Tree = Any

AXIS = "data"


class Strategy:
    """Batches and metrics carry a leading dim of one entry per device; the state does not.

    Every device's copy of the state is the same, which ``None`` in ``in_axes`` and ``out_axes``
    says. With a leading dim of 1 on each device XLA updates nothing in place: it copies parameters
    and moments in every step (two devices, ``mlp_large``: a quarter of the step).
    """

    def __init__(self, config: RunConfig, devices: list[jax.Device]):
        del config
        self.devices = devices
        mesh = jax.sharding.Mesh(np.array(devices), (AXIS,))
        self._split = NamedSharding(mesh, PartitionSpec(AXIS))
        self._replicated = NamedSharding(mesh, PartitionSpec())

    def _replicate(self, value: Any) -> np.ndarray:
        value = np.asarray(value)
        return np.broadcast_to(value, (len(self.devices), *value.shape))

    def place_state(self, tree: Tree) -> Tree:
        return jax.device_put(tree, self._replicated)

    def place_batch(self, batch: Arrays) -> Tree:
        def split(value: np.ndarray) -> np.ndarray:
            if value.ndim == 0:
                return self._replicate(value)
            return value.reshape(len(self.devices), -1, *value.shape[1:])

        return jax.device_put({name: split(value) for name, value in batch.items()}, self._split)

    def _map(self, function: Callable, **axes: Any) -> Callable:
        return jax.pmap(function, axis_name=AXIS, devices=self.devices, **axes)

    def compile_step(self, function: Callable) -> Callable:
        return self._map(function, in_axes=(None, 0), out_axes=(None, 0), donate_argnums=(0,))

    def compile_block(self, function: Callable) -> Callable:
        return self._map(function, in_axes=(None, 0, None), out_axes=(None, 0), donate_argnums=(0,))

    def compile_forward(self, function: Callable) -> Callable:
        return self._map(function, in_axes=(None, 0))

    def compile_gradients(self, function: Callable) -> Callable:
        return self._map(function, in_axes=(None, 0), out_axes=(0, None))

    compile_without_sync = compile_forward

    def place_pool(self, pool: Arrays) -> Tree:
        def split(value: np.ndarray) -> np.ndarray:
            if value.ndim == 1:
                return self._replicate(value)
            batches, examples = value.shape[:2]
            devices = len(self.devices)
            shares = value.reshape(batches, devices, examples // devices, *value.shape[2:])
            return shares.swapaxes(0, 1)

        return jax.device_put({name: split(value) for name, value in pool.items()}, self._split)

    split_rows = bare.Strategy.split_rows  # each device sees its own rows alone

    def all_reduce(self, gradients: Tree) -> Tree:
        return jax.lax.psum(gradients, AXIS)

    def per_device_key(self, key: jax.Array) -> jax.Array:
        return jax.random.fold_in(key, jax.lax.axis_index(AXIS))

    def total(self, value: np.ndarray) -> float:
        return float(value.sum())  # one share per device

    def totals(self, values: np.ndarray) -> np.ndarray:
        return values.sum(0)  # [devices, steps], one share per device

    def read_rows(self, array: np.ndarray) -> np.ndarray:
        return array.reshape(-1, *array.shape[2:])

    def read_shares(self, tree: Tree) -> list[Arrays]:
        host = jax.device_get(tree)
        return [{name: value[i] for name, value in host.items()} for i in range(len(self.devices))]

    def read_state(self, tree: Tree) -> Tree:
        return jax.device_get(tree)
