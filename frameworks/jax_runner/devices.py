"""The devices of this process, and results that count devices."""

from typing import Any

import jax

from isoscale.common.config.counts import counted
from isoscale.common.config.model_spec import Arrays
from isoscale.common.config.run_config import RunConfig


def local_devices(config: RunConfig) -> list[jax.Device]:
    """Returns the devices of this process: all of the run, or (``per_device``) one.

    In a ``per_device`` run ``environment`` shows each rank its own device only. The first devices
    are therefore the right ones for both process models.

    Raises:
      RuntimeError: JAX sees too few devices.
    """
    count = config.devices // config.processes
    devices = jax.local_devices()
    if len(devices) < count:
        raise RuntimeError(
            f"JAX sees {counted(len(devices), f'{config.platform} device')}, fewer than the run "
            "needs: lower --devices"
        )
    return devices[:count]


def by_device(shares: Any, count: int) -> list[Arrays]:
    """Returns the results of each device, on the host.

    Args:
      shares: name -> array of shape [count, ...]; the first dim counts devices.
      count: number of devices.
    """
    host = jax.device_get(shares)
    return [{name: value[i] for name, value in host.items()} for i in range(count)]
