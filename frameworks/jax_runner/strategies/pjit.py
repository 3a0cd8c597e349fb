"""``jax.jit`` with NamedSharding on a named mesh: the compiler places the collectives."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from isoscale.common.config.model_spec import Arrays
from isoscale.common.config.run_config import RunConfig

INFO = {
    "summary": "jax.jit with NamedSharding on a mesh (data)",
    "process_model": "single",
    "max_devices": None,
    "mesh_axes": ("data",),
}

Tree = Any

AXIS = "data"


class Strategy:
    """Parameters are replicated, and the batch dim is split over the mesh axis ``data``."""

    def __init__(self, config: RunConfig, devices: list[jax.Device]):
        del config
        self.devices = devices
        self._mesh = jax.sharding.Mesh(np.array(devices), (AXIS,))
        self._replicated = NamedSharding(self._mesh, PartitionSpec())
        self._split = NamedSharding(self._mesh, PartitionSpec(AXIS))

    def place_state(self, tree: Tree) -> Tree:
        return jax.device_put(tree, self._replicated)

    def place_batch(self, batch: Arrays) -> Tree:
        shardings = {
            name: self._split if value.ndim else self._replicated for name, value in batch.items()
        }
        return jax.device_put(batch, shardings)

    def place_pool(self, pool: Arrays) -> Tree:
        """The batch dim is the second one: the first counts batches."""
        by_example = NamedSharding(self._mesh, PartitionSpec(None, AXIS))
        shardings = {
            name: by_example if value.ndim > 1 else self._replicated for name, value in pool.items()
        }
        return jax.device_put(pool, shardings)

    def compile_step(self, function: Callable) -> Callable:
        return jax.jit(function, donate_argnums=(0,), out_shardings=self._replicated)

    compile_block = compile_step

    def compile_forward(self, function: Callable) -> Callable:
        return jax.jit(function)

    compile_gradients = compile_forward

    def compile_without_sync(self, function: Callable) -> Callable:
        """Every device computes on its share alone; gradients come out stacked, one per device."""

        def local(state: Tree, batch: Tree) -> Tree:
            return jax.tree.map(lambda value: value[None], function(state, batch))

        def mapped(state: Tree, batch: Tree) -> Tree:
            batch_specs = {
                name: PartitionSpec(AXIS) if value.ndim else PartitionSpec()
                for name, value in batch.items()
            }
            return jax.shard_map(
                local,
                mesh=self._mesh,
                in_specs=(PartitionSpec(), batch_specs),
                out_specs=PartitionSpec(AXIS),
                check_vma=False,
            )(state, batch)

        return jax.jit(mapped)

    def split_rows(self, rows: Tree, parts: int) -> Tree:
        """Every device splits its own rows, so that none of them moves."""
        by_part = NamedSharding(self._mesh, PartitionSpec(None, AXIS))

        def split(value: jax.Array) -> jax.Array:
            by_device = value.reshape(len(self.devices), parts, -1, *value.shape[1:])
            merged = by_device.swapaxes(0, 1).reshape(parts, -1, *value.shape[1:])
            return jax.lax.with_sharding_constraint(merged, by_part)

        return jax.tree.map(split, rows)

    def all_reduce(self, gradients: Tree) -> Tree:
        return gradients  # the program is global: the compiler reduces

    def per_device_key(self, key: jax.Array) -> jax.Array:
        return key  # one global mask, split over the devices

    def total(self, value: np.ndarray) -> float:
        return float(value.sum())  # a scalar, or one share per device

    def totals(self, values: np.ndarray) -> np.ndarray:
        return values  # [steps], global

    def read_rows(self, array: np.ndarray) -> np.ndarray:
        return array

    def read_shares(self, tree: Tree) -> list[Arrays]:
        host = jax.device_get(tree)
        return [{name: value[i] for name, value in host.items()} for i in range(len(self.devices))]

    def read_state(self, tree: Tree) -> Tree:
        return jax.device_get(tree)
