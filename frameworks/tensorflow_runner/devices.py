"""The devices of this process."""

import tensorflow as tf

from isoscale.common.config.counts import counted
from isoscale.common.config.run_config import RunConfig
from isoscale.common.processes import ranks


def local_devices(config: RunConfig) -> list[str]:
    """Sets up the devices of this process: all of the run, or (``per_device``) one.

    Returns:
      The names of the devices.

    Raises:
      RuntimeError: TensorFlow sees too few devices.
    """
    count = config.devices // config.processes
    kind = config.platform.upper()
    physical = tf.config.list_physical_devices(kind)
    if config.platform == "cpu":
        # The devices share the thread pools of the process. Each operation gets the threads of one
        # device; otherwise TensorFlow would spread each operation over the cores of all devices.
        threads = config.threads_per_device
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads * count)
        tf.config.set_logical_device_configuration(
            physical[0], [tf.config.LogicalDeviceConfiguration()] * count
        )
    else:
        first = ranks.own().local_rank if config.process_model == "per_device" else 0
        if len(physical) < first + count:
            raise RuntimeError(
                f"TensorFlow sees {counted(len(physical), f'{config.platform} device')}, fewer "
                "than the run needs: lower --devices"
            )
        tf.config.set_visible_devices(physical[first : first + count], kind)
    return [f"/{kind}:{index}" for index in range(count)]
