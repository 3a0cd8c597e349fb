"""``jax.pmap``: one program per device, with explicit collectives.

Current JAX builds ``pmap`` on ``jit`` and ``shard_map``. Here ``psum`` gets the gradients that the
optimizer reads. Under pjit the compiler chooses: it adds up gradients of kernels before they are
transposed, which the tweak ``kernel-gradient`` changes.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from isoscale.common.config.model_spec import Arrays
from isoscale.common.config.run_config import RunConfig
from isoscale.frameworks.jax_runner import strategy
from isoscale.frameworks.jax_runner.devices import by_device
from isoscale.frameworks.jax_runner.strategies import bare
from isoscale.frameworks.jax_runner.strategy import Call, Tree

INFO = {
    "summary": "jax.pmap, one program per device with psum",
    "process_model": "single",
    "max_devices": None,
    "mesh_axes": ("data",),
    "note": "pmap is built on jit and shard_map in current JAX: a gap to pjit is overhead.",
}

AXIS = "data"
_MAPPED: dict[Call, dict[str, Any]] = {
    # The dim of each argument and result that counts devices; None: all devices hold equal values.
    "step": {"in_axes": (None, 0), "out_axes": (None, 0), "donate_argnums": (0,)},
    "block": {"in_axes": (None, 0, None), "out_axes": (None, 0), "donate_argnums": (0,)},
    "forward": {"in_axes": (None, 0)},
    "gradients": {"in_axes": (None, 0), "out_axes": (0, None)},
    "shares": {"in_axes": (None, 0)},
}


class Strategy(bare.Strategy):
    """The first dim of batches and metrics counts devices; the state has no such dim.

    All devices hold the same state: ``None`` in ``in_axes`` and ``out_axes`` says so. If the state
    had a leading dim of 1 on each device, XLA would copy parameters and moments in every step
    instead of updating them in place (two devices, ``mlp_large``: a quarter of the step).
    """

    def __init__(self, config: RunConfig):
        super().__init__(config)
        mesh = jax.sharding.Mesh(np.array(self.devices), (AXIS,))
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

    def wrap(self, computation: Callable, *, call: Call) -> Callable:
        return jax.pmap(computation, axis_name=AXIS, devices=self.devices, **_MAPPED[call])

    def place_pool(self, pool: Arrays) -> Tree:
        def split(value: np.ndarray) -> np.ndarray:
            if value.ndim == 1:
                return self._replicate(value)
            batches, examples = value.shape[:2]
            devices = len(self.devices)
            shares = value.reshape(batches, devices, examples // devices, *value.shape[2:])
            return shares.swapaxes(0, 1)

        return jax.device_put({name: split(value) for name, value in pool.items()}, self._split)

    def reduce_gradients(self, gradients: Tree) -> Tree:
        return jax.lax.psum(gradients, AXIS)

    def device_index(self) -> jax.Array | None:
        return jax.lax.axis_index(AXIS)

    def read_totals(self, shares: np.ndarray) -> np.ndarray:
        return shares.sum(0)  # [devices], or [devices, steps] of a block

    def read_rows(self, rows: jax.Array) -> np.ndarray:
        return np.asarray(rows).reshape(-1, *rows.shape[2:])

    def read_shares(self, shares: Tree) -> list[Arrays]:
        return by_device(shares, len(self.devices))


def make(config: RunConfig) -> strategy.Strategy:
    return Strategy(config)
