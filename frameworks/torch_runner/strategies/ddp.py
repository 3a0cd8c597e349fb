"""DistributedDataParallel: one process per device, gradients all-reduced in buckets.

gloo on CPU, nccl on GPU. The wrapper divides by the number of ranks; the loss is multiplied by it,
so that gradients add up like everywhere else.
"""

import contextlib
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from isoscale.common.config.model_spec import Arrays
from isoscale.common.config.run_config import RunConfig
from isoscale.common.processes import ranks
from isoscale.frameworks.torch_runner.strategies import bare

INFO = {
    "summary": "DistributedDataParallel, gloo on CPU and nccl on GPU",
    "process_model": "per_device",
    "max_devices": None,
}


class Strategy(bare.Strategy):
    def __init__(self, config: RunConfig):
        own = ranks.own()
        self.rank = own.rank
        # 0.5 GiB holds every model here; the default is 25 MiB, and 1 MiB for the first bucket.
        self._bucket_mebibytes = 512 if "one-bucket" in config.tweaks else None
        self.device = bare.local_device(config, own.local_rank)
        self._backend = "nccl" if self.device.type == "cuda" else "gloo"
        # nccl for tensors on the GPU, gloo for the figures that ranks exchange on the host.
        backends = "cuda:nccl,cpu:gloo" if self._backend == "nccl" else "gloo"
        if not distributed.is_initialized():
            distributed.init_process_group(backends)
        self.world_size = distributed.get_world_size()
        if self.world_size != config.devices:
            raise RuntimeError(f"WORLD_SIZE={self.world_size} but devices={config.devices}")

    def wrap(self, model: nn.Module) -> nn.Module:
        return DistributedDataParallel(
            model,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            gradient_as_bucket_view=True,
            bucket_cap_mb=self._bucket_mebibytes,
        )

    def shard(self, batch: Arrays) -> Arrays:
        def rows(value):
            share = len(value) // self.world_size
            return value[self.rank * share : (self.rank + 1) * share]

        return {name: rows(value) if value.ndim else value for name, value in batch.items()}

    def scale_loss(self, loss: torch.Tensor) -> torch.Tensor:
        return loss * self.world_size

    def sync(self, model: nn.Module, sync: bool) -> contextlib.AbstractContextManager:
        assert isinstance(model, DistributedDataParallel)
        return contextlib.nullcontext() if sync else model.no_sync()

    def barrier(self) -> None:
        distributed.barrier()

    def gather(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * self.world_size
        distributed.all_gather_object(values, value)
        return values

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
        # gloo's end can hang (seen once in about fifty runs) or abort; the process ends instead.
