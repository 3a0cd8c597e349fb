"""One device, no distribution strategy: the base case."""

import contextlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from isoscale.common.config.model_spec import Arrays
from isoscale.common.config.run_config import RunConfig

INFO = {
    "summary": "one device, tf.function, no distribution strategy",
    "process_model": "single",
    "max_devices": 1,
    "mesh_axes": (),
}


class Strategy:
    def __init__(self, config: RunConfig, devices: list[str]):
        del config
        self._device = devices[0]

    def scope(self) -> contextlib.AbstractContextManager:
        return tf.device(self._device)

    def place(self, batch: Arrays) -> dict[str, tf.Tensor]:
        with tf.device(self._device):
            return {name: tf.constant(value) for name, value in batch.items()}

    def place_pool(self, pool: Arrays) -> dict[str, tf.Tensor]:
        return self.place(pool)

    def run(self, function: Callable, *arguments: Any) -> Any:
        with tf.device(self._device):
            return function(*arguments)

    def all_reduce(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        return gradients

    def local(self, variable: tf.Variable) -> tf.Variable:
        return variable

    def replica_id(self) -> int:
        return 0

    def per_replica(self, value: Any) -> list[tf.Tensor]:
        return [value]
