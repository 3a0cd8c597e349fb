"""The device of this process."""

import torch

from isoscale.common.config.run_config import RunConfig
from isoscale.common.processes import ranks


def local_devices(config: RunConfig) -> list[torch.device]:
    """Returns the device of this process, in a list: a PyTorch process computes on one.

    Raises:
      RuntimeError: PyTorch does not see it.
    """
    if config.platform == "cpu":
        return [torch.device("cpu")]
    if config.platform != "gpu" or not torch.cuda.is_available():
        raise RuntimeError(f"this PyTorch has no {config.platform} support")
    per_device = config.process_model == "per_device"
    index = ranks.own().local_rank if per_device else 0
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    return [device]
