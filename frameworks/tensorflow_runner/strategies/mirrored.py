"""``tf.distribute.MirroredStrategy``: one process, a copy of every variable on each device."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from isoscale.common.config.model_spec import Arrays
from isoscale.common.config.run_config import RunConfig
from isoscale.frameworks.tensorflow_runner import strategy
from isoscale.frameworks.tensorflow_runner.strategies import bare

INFO = {
    "summary": "tf.distribute.MirroredStrategy",
    "process_model": "single",
    "max_devices": None,
    "mesh_axes": ("data",),
}


@functools.cache
def _mirrored(devices: tuple[str, ...], to_one: bool) -> tf.distribute.MirroredStrategy:
    """Returns the one strategy of this process.

    A second strategy in the process would use the numbers of the first one's collectives again.
    """
    if to_one:
        reduction = tf.distribute.ReductionToOneDevice()
        return tf.distribute.MirroredStrategy(devices, cross_device_ops=reduction)
    return tf.distribute.MirroredStrategy(devices)


class Strategy(bare.Strategy):
    def __init__(self, config: RunConfig):
        super().__init__(config)
        self._strategy = _mirrored(tuple(self.devices), "reduce-to-one-device" in config.tweaks)

    def scope(self) -> contextlib.AbstractContextManager:
        return self._strategy.scope()

    def place_batch(self, batch: Arrays) -> dict[str, Any]:
        return self._split(batch, axis=0)

    def place_pool(self, pool: Arrays) -> dict[str, Any]:
        return self._split(pool, axis=1)  # the first dim counts batches

    def _split(self, arrays: Arrays, *, axis: int) -> dict[str, Any]:
        def split(value: np.ndarray) -> Any:
            has_examples = value.ndim > axis
            shares = np.split(value, len(self.devices), axis) if has_examples else None

            def share(context: tf.distribute.ReplicaContext) -> tf.Tensor:
                replica = context.replica_id_in_sync_group
                with tf.device(self.devices[replica]):
                    return tf.constant(value if shares is None else shares[replica])

            return self._strategy.experimental_distribute_values_from_function(share)

        return {name: split(value) for name, value in arrays.items()}

    def wrap(self, computation: Callable) -> Callable:
        return lambda *arguments: self._strategy.run(computation, args=arguments)

    def reduce_gradients(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)

    def device_index(self) -> int | tf.Tensor:
        return tf.distribute.get_replica_context().replica_id_in_sync_group

    def local(self, variable: tf.Variable) -> tf.Variable:
        replica = tf.get_static_value(self.device_index())
        return self._strategy.experimental_local_results(variable)[replica]

    def per_replica(self, value: Any) -> Sequence[tf.Tensor]:
        return self._strategy.experimental_local_results(value)


def make(config: RunConfig) -> strategy.Strategy:
    return Strategy(config)
