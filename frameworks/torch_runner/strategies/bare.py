"""One device, no distribution wrapper: the base case."""

import contextlib

import numpy as np
import torch
from torch import nn

from isoscale.common.config.model_spec import Arrays
from isoscale.common.config.run_config import RunConfig
from isoscale.common.measure.strategy import NONE, OneProcess
from isoscale.frameworks.torch_runner import strategy
from isoscale.frameworks.torch_runner.devices import local_devices
from isoscale.frameworks.torch_runner.strategy import Reduction

INFO = {
    "summary": "one device, no distribution wrapper",
    "process_model": "single",
    "max_devices": 1,
    "mesh_axes": (),
}


class Strategy(OneProcess):
    reduce_gradients: Reduction = NONE

    def __init__(self, config: RunConfig):
        self.devices = local_devices(config)

    def place_batch(self, batch: Arrays) -> dict[str, torch.Tensor]:
        placed = {}
        for name, value in batch.items():
            tensor = torch.from_numpy(value)
            if name == "labels":
                tensor = tensor.long()  # cross_entropy needs int64 labels
            placed[name] = tensor.to(self.devices[0])
        return placed

    def wrap(self, computation: nn.Module) -> nn.Module:
        return computation

    def sync(self, model: nn.Module, sync: bool) -> contextlib.AbstractContextManager:
        del model, sync
        return contextlib.nullcontext()

    def scale_loss(self, loss: torch.Tensor) -> torch.Tensor:
        return loss

    def device_index(self) -> int:
        return 0

    def read_totals(self, shares: torch.Tensor) -> np.ndarray:
        return shares.cpu().numpy()

    def read_rows(self, rows: torch.Tensor) -> np.ndarray:
        return rows.cpu().numpy()

    def read_shares(self, shares: Arrays) -> list[Arrays]:
        return [shares]


def make(config: RunConfig) -> strategy.Strategy:
    return Strategy(config)
