"""The device of this process."""

import torch

from isoscale.common.config.run_config import RunConfig
from isoscale.common.processes import ranks


def local_devices(config: RunConfig) -> list[torch.device]:
    """Returns a list of one device: a PyTorch process computes on a single device.

    Raises:
      RuntimeError: PyTorch cannot use the platform on this machine.
    """
    if config.platform == "cpu":
        return [torch.device("cpu")]
    if config.platform != "gpu" or not torch.cuda.is_available():
        raise RuntimeError(
            f"PyTorch cannot use the platform '{config.platform}' on this machine: "
            "use --platform=cpu"
        )
    per_device = config.process_model == "per_device"
    index = ranks.own().local_rank if per_device else 0
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    return [device]
