"""The devices of this process."""

import jax

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
            f"JAX sees {len(devices)} {config.platform} devices, fewer than the run needs: "
            "lower --devices"
        )
    return devices[:count]
