"""One device, no distribution strategy: the base case."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from isoscale.common.config.model_spec import Arrays
from isoscale.common.config.run_config import RunConfig
from isoscale.common.measure.strategy import NONE, OneProcess
from isoscale.frameworks.tensorflow_runner import strategy
from isoscale.frameworks.tensorflow_runner.devices import local_devices
from isoscale.frameworks.tensorflow_runner.strategy import Reduction

INFO = {
    "summary": "one device, tf.function, no distribution strategy",
    "process_model": "single",
    "max_devices": 1,
    "mesh_axes": (),
}


class Strategy(OneProcess):
    reduce_gradients: Reduction = NONE

    def __init__(self, config: RunConfig):
        self.devices = local_devices(config)

    def scope(self) -> contextlib.AbstractContextManager:
        return tf.device(self.devices[0])

    def place_batch(self, batch: Arrays) -> dict[str, Any]:
        with tf.device(self.devices[0]):
            return {name: tf.constant(value) for name, value in batch.items()}

    def place_pool(self, pool: Arrays) -> dict[str, Any]:
        return self.place_batch(pool)

    def wrap(self, computation: Callable) -> Callable:
        def run(*arguments: Any) -> Any:
            with tf.device(self.devices[0]):
                return computation(*arguments)

        return run

    def device_index(self) -> int | tf.Tensor:
        return 0

    def local(self, variable: tf.Variable) -> tf.Variable:
        return variable

    def per_replica(self, value: Any) -> Sequence[tf.Tensor]:
        return [value]

    def read_totals(self, shares: Any) -> np.ndarray:
        return sum(share.numpy() for share in self.per_replica(shares))

    def read_rows(self, rows: Any) -> np.ndarray:
        return np.concatenate([share.numpy() for share in self.per_replica(rows)])

    def read_shares(self, shares: dict[str, Any]) -> list[Arrays]:
        replicas = {name: self.per_replica(value) for name, value in shares.items()}
        return [
            {name: values[i].numpy() for name, values in replicas.items()}
            for i in range(len(self.devices))
        ]


def make(config: RunConfig) -> strategy.Strategy:
    return Strategy(config)
