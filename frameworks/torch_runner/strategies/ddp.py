"""DistributedDataParallel: one process per device, gradients all-reduced in buckets.

The backend is gloo on CPU and nccl on GPU. The wrapper divides gradients by the number of ranks.
The loss is multiplied by that number, so that gradients add up as in the other frameworks. A
subclass with a function ``reduce_gradients`` replaces the wrapper's own all-reduce.
"""

import contextlib
from typing import Any

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from isoscale.common.config.model_spec import Arrays
from isoscale.common.config.run_config import RunConfig
from isoscale.common.measure.strategy import WRAPPER
from isoscale.common.processes import ranks
from isoscale.frameworks.torch_runner import strategy
from isoscale.frameworks.torch_runner.strategies import bare
from isoscale.frameworks.torch_runner.strategy import Reduction

INFO = {
    "summary": "DistributedDataParallel, gloo on CPU and nccl on GPU",
    "process_model": "per_device",
    "max_devices": None,
    "mesh_axes": ("data",),
}


class Strategy(bare.Strategy):
    reduce_gradients: Reduction = WRAPPER

    def __init__(self, config: RunConfig):
        super().__init__(config)
        self.rank = ranks.own().rank
        # 512 MiB hold the gradients of every model here. PyTorch's default is 25 MiB, and 1 MiB for
        # the first bucket.
        self._bucket_mebibytes = 512 if "one-bucket" in config.tweaks else None
        self._on_gpu = self.devices[0].type == "cuda"
        self._backend = "nccl" if self._on_gpu else "gloo"
        # nccl for tensors on the GPU, gloo for the figures that ranks exchange on the host.
        backends = "cuda:nccl,cpu:gloo" if self._on_gpu else "gloo"
        if not distributed.is_initialized():
            distributed.init_process_group(backends)
        self.world_size = distributed.get_world_size()
        if self.world_size != config.devices:
            raise RuntimeError(
                f"WORLD_SIZE={self.world_size} differs from devices={config.devices}: start one "
                "process per device"
            )

    def wrap(self, computation: nn.Module) -> nn.Module:
        model = DistributedDataParallel(
            computation,
            device_ids=self.devices if self._on_gpu else None,
            gradient_as_bucket_view=True,
            bucket_cap_mb=self._bucket_mebibytes,
        )
        if callable(self.reduce_gradients):
            model.register_comm_hook(distributed.group.WORLD, self.reduce_gradients)
        return model

    def place_batch(self, batch: Arrays) -> dict[str, torch.Tensor]:
        def rows(value: np.ndarray) -> np.ndarray:
            share = len(value) // self.world_size
            return value[self.rank * share : (self.rank + 1) * share]

        own = {name: rows(value) if value.ndim else value for name, value in batch.items()}
        return super().place_batch(own)

    def scale_loss(self, loss: torch.Tensor) -> torch.Tensor:
        return loss * self.world_size

    def sync(self, model: nn.Module, sync: bool) -> contextlib.AbstractContextManager:
        assert isinstance(model, DistributedDataParallel)
        return contextlib.nullcontext() if sync else model.no_sync()

    def device_index(self) -> int:
        return self.rank

    def barrier(self) -> None:
        distributed.barrier()

    def gather(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * self.world_size
        distributed.all_gather_object(values, value)
        return values

    def read_totals(self, shares: torch.Tensor) -> np.ndarray:
        return sum(self.gather(super().read_totals(shares)))

    def read_rows(self, rows: torch.Tensor) -> np.ndarray:
        return np.concatenate(self.gather(super().read_rows(rows)))

    def read_shares(self, shares: Arrays) -> list[Arrays]:
        # Gradients of a scaled loss, before the wrapper takes their mean: this removes the scale.
        return self.gather({name: value / self.world_size for name, value in shares.items()})

    def describe(self) -> dict[str, Any]:
        return {
            "backend": self._backend,
            "world_size": self.world_size,
            "bucket_cap_mebibytes": self._bucket_mebibytes or "the default, 25",
        }

    def close(self) -> None:
        distributed.barrier()
        if self._backend == "nccl":
            distributed.destroy_process_group()
        # Closing gloo can hang (about one run in fifty) or abort, so gloo ends with the process.


def make(config: RunConfig) -> strategy.Strategy:
    return Strategy(config)
