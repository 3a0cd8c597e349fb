"""One device, ``jax.jit``, no distribution wrapper: the base case."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from isoscale.common.config.model_spec import Arrays
from isoscale.common.config.run_config import RunConfig

INFO = {
    "summary": "one device, jax.jit, no distribution wrapper",
    "process_model": "single",
    "max_devices": 1,
    "mesh_axes": (),
}

Tree = Any


class Strategy:
    def __init__(self, config: RunConfig, devices: list[jax.Device]):
        del config
        self.devices = devices

    def place_state(self, tree: Tree) -> Tree:
        return jax.device_put(tree, self.devices[0])

    def place_batch(self, batch: Arrays) -> Tree:
        return jax.device_put(batch, self.devices[0])

    def place_pool(self, pool: Arrays) -> Tree:
        return jax.device_put(pool, self.devices[0])

    def compile_step(self, function: Callable) -> Callable:
        return jax.jit(function, donate_argnums=(0,))

    compile_block = compile_step

    def compile_forward(self, function: Callable) -> Callable:
        return jax.jit(function)

    compile_gradients = compile_without_sync = compile_forward

    def split_rows(self, rows: Tree, parts: int) -> Tree:
        return jax.tree.map(lambda value: value.reshape(parts, -1, *value.shape[1:]), rows)

    def all_reduce(self, gradients: Tree) -> Tree:
        return gradients

    def per_device_key(self, key: jax.Array) -> jax.Array:
        return key

    def total(self, value: np.ndarray) -> float:
        return float(value)

    def totals(self, values: np.ndarray) -> np.ndarray:
        return values  # [steps]

    def read_rows(self, array: np.ndarray) -> np.ndarray:
        return array

    def read_shares(self, tree: Tree) -> list[Arrays]:
        return [jax.device_get(tree)]

    def read_state(self, tree: Tree) -> Tree:
        return jax.device_get(tree)
