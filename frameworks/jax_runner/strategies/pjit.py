"""``jax.jit`` with NamedSharding on a named mesh: the compiler places the collectives."""

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from isoscale.common.config.model_spec import Arrays
from isoscale.common.config.run_config import RunConfig
from isoscale.common.measure.strategy import COMPILER
from isoscale.frameworks.jax_runner import strategy
from isoscale.frameworks.jax_runner.devices import by_device
from isoscale.frameworks.jax_runner.strategies import bare
from isoscale.frameworks.jax_runner.strategy import Call, Reduction, Tree

INFO = {
    "summary": "jax.jit with NamedSharding on a mesh (data)",
    "process_model": "single",
    "max_devices": None,
    "mesh_axes": ("data",),
}

AXIS = "data"


class Strategy(bare.Strategy):
    """Parameters are replicated, and the batch dim is split over the mesh axis ``data``."""

    reduce_gradients: Reduction = COMPILER

    def __init__(self, config: RunConfig):
        super().__init__(config)
        self._mesh = jax.sharding.Mesh(np.array(self.devices), (AXIS,))
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
        """Splits the second dim, which counts examples; the first dim counts batches."""
        by_example = NamedSharding(self._mesh, PartitionSpec(None, AXIS))
        shardings = {
            name: by_example if value.ndim > 1 else self._replicated for name, value in pool.items()
        }
        return jax.device_put(pool, shardings)

    def wrap(self, computation: Callable, *, call: Call) -> Callable:
        if call in ("step", "block"):
            return jax.jit(computation, donate_argnums=(0,), out_shardings=self._replicated)
        return self._wrap_shares(computation) if call == "shares" else jax.jit(computation)

    def _wrap_shares(self, computation: Callable) -> Callable:
        """Returns a function that computes each device's share; the first dim counts devices."""

        def local(state: Tree, batch: Tree) -> Tree:
            return jax.tree.map(lambda value: value[None], computation(state, batch))

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
        """Every device splits its own rows, so that no row moves between devices."""
        by_part = NamedSharding(self._mesh, PartitionSpec(None, AXIS))

        def split(value: jax.Array) -> jax.Array:
            by_device = value.reshape(len(self.devices), parts, -1, *value.shape[1:])
            merged = by_device.swapaxes(0, 1).reshape(parts, -1, *value.shape[1:])
            return jax.lax.with_sharding_constraint(merged, by_part)

        return jax.tree.map(split, rows)

    def read_shares(self, shares: Tree) -> list[Arrays]:
        return by_device(shares, len(self.devices))


def make(config: RunConfig) -> strategy.Strategy:
    return Strategy(config)
