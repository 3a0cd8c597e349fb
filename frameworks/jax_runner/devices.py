"""The devices of this process."""

import jax

from isoscale.common.config.run_config import RunConfig


def local_devices(config: RunConfig) -> list[jax.Device]:
    """Returns the devices that this process computes on: all, or (``per_device``) its own one.

    ``environment`` shows a rank of a ``per_device`` run its own device only, so that the first one
    is right in both.

    Raises:
      RuntimeError: JAX sees fewer.
    """
    count = config.devices // config.processes
    devices = jax.local_devices()
    if len(devices) < count:
        raise RuntimeError(f"JAX sees {len(devices)} {config.platform} devices")
    return devices[:count]
