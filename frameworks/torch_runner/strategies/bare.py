"""One device, no distribution wrapper: the base case."""

import contextlib
from typing import Any

import torch
from torch import nn

from isoscale.common.config.model_spec import Arrays
from isoscale.common.config.run_config import RunConfig

INFO = {
    "summary": "one device, no distribution wrapper",
    "process_model": "single",
    "max_devices": 1,
    "mesh_axes": (),
}


def local_device(config: RunConfig, index: int) -> torch.device:
    """Returns the device of this process.

    Raises:
      RuntimeError: PyTorch does not see it.
    """
    if config.platform == "cpu":
        return torch.device("cpu")
    if config.platform != "gpu" or not torch.cuda.is_available():
        raise RuntimeError(f"this PyTorch has no {config.platform} support")
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    return device


class Strategy:
    rank = 0
    world_size = 1

    def __init__(self, config: RunConfig):
        self.device = local_device(config, 0)

    def wrap(self, model: nn.Module) -> nn.Module:
        return model

    def shard(self, batch: Arrays) -> Arrays:
        return batch

    def scale_loss(self, loss: torch.Tensor) -> torch.Tensor:
        return loss

    def sync(self, model: nn.Module, sync: bool) -> contextlib.AbstractContextManager:
        del model, sync
        return contextlib.nullcontext()

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def record_event(self) -> torch.cuda.Event | None:
        """On CPU a step has finished when the call returns."""
        if self.device.type != "cuda":
            return None
        event = torch.cuda.Event()
        event.record()
        return event

    def barrier(self) -> None:
        pass

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def describe(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass
