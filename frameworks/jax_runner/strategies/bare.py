"""One device, ``jax.jit``, no distribution wrapper: the base case."""

from collections.abc import Callable

import jax
import numpy as np

from isoscale.common.config.model_spec import Arrays
from isoscale.common.config.run_config import RunConfig
from isoscale.common.measure.strategy import NONE, OneProcess
from isoscale.frameworks.jax_runner import strategy
from isoscale.frameworks.jax_runner.devices import local_devices
from isoscale.frameworks.jax_runner.strategy import Call, Reduction, Tree

INFO = {
    "summary": "one device, jax.jit, no distribution wrapper",
    "process_model": "single",
    "max_devices": 1,
    "mesh_axes": (),
}


class Strategy(OneProcess):
    reduce_gradients: Reduction = NONE

    def __init__(self, config: RunConfig):
        self.devices = local_devices(config)

    def place_state(self, tree: Tree) -> Tree:
        return jax.device_put(tree, self.devices[0])

    def place_batch(self, batch: Arrays) -> Tree:
        return jax.device_put(batch, self.devices[0])

    def place_pool(self, pool: Arrays) -> Tree:
        return jax.device_put(pool, self.devices[0])

    def wrap(self, computation: Callable, *, call: Call) -> Callable:
        donated = (0,) if call in ("step", "block") else ()
        return jax.jit(computation, donate_argnums=donated)

    def device_index(self) -> jax.Array | None:
        return None

    def split_rows(self, rows: Tree, parts: int) -> Tree:
        return jax.tree.map(lambda value: value.reshape(parts, -1, *value.shape[1:]), rows)

    def read_totals(self, shares: np.ndarray) -> np.ndarray:
        return shares

    def read_rows(self, rows: jax.Array) -> np.ndarray:
        return np.asarray(rows)

    def read_shares(self, shares: Tree) -> list[Arrays]:
        return [jax.device_get(shares)]


def make(config: RunConfig) -> strategy.Strategy:
    return Strategy(config)
