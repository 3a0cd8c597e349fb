"""DistributedDataParallel: one process per device, gradients all-reduced in buckets.

The backend is gloo on CPU and nccl on GPU. The wrapper divides gradients by the number of ranks.
The loss is multiplied by that number, so that gradients add up as in the other frameworks. A
subclass with a function ``reduce_gradients`` replaces the wrapper's own all-reduce.
"""

import contextlib
import datetime
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from isoscale.common.config.model_spec import Arrays
from isoscale.common.config.run_config import RunConfig
from isoscale.common.disk.json_files import from_json, to_json
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


_DESCRIPTORS = 4
"""File descriptors of gloo itself; each peer needs up to two more."""
_USUAL_LIMIT = 1024
"""Usual limit of open files on Linux."""
_CAUSES = (
    ("Too many open files", "too few file descriptors ('ulimit -n')"),
    ("Unable to find address for", "GLOO_SOCKET_IFNAME names no network interface of this machine"),
    ("EADDRINUSE", "another program uses port MASTER_PORT; choose another one"),
    ("Connection reset by peer", "another rank has ended, or cannot open enough files"),
    ("Connection closed by peer", "another rank has ended"),
    ("onnection refused", "no rank 0 listens at MASTER_ADDR and MASTER_PORT"),
    ("getaddrinfo", "MASTER_ADDR names no machine"),
)
"""Text in an error of gloo or of the store, and its cause in words."""


def require_descriptors(world_size: int) -> None:
    """Raises this process's limit of open files if it is too low.

    Without enough descriptors, gloo closes connections and the other ranks report a reset.

    Raises:
      RuntimeError: the system does not allow the limit that the ranks need.
    """
    folder = Path("/proc/self/fd")
    if not folder.exists():  # not Linux
        return
    open_now = len(os.listdir(folder)) - 1  # without the folder itself
    need = open_now + _DESCRIPTORS + 2 * (world_size - 1)
    unlimited = resource.RLIM_INFINITY
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != unlimited and hard < need:
        raise RuntimeError(
            f"each of {world_size} ranks opens about {need} files; the limit is {hard} "
            "(raise it with 'ulimit -n')"
        )
    usual = max(need, _USUAL_LIMIT)
    if soft != unlimited and soft < usual:
        raised = usual if hard == unlimited else min(usual, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))


@contextlib.contextmanager
def errors_in_words() -> Iterator[None]:
    """Puts the cause of a failed connection before the message of gloo or of the store."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        text = str(error)
        cause = next((words for part, words in _CAUSES if part in text), None)
        if cause is None:
            raise
        raise ConnectionError(f"the ranks cannot connect: {cause} ({text[:200]})") from error


def _connect(backends: str, *, rank: int, world_size: int) -> None:
    # The watchdog finds ranks that hang. Ranks of a run that waits for its turn wait here.
    patience = datetime.timedelta(days=30)
    store = ranks.store()
    if store is None:  # torchrun or Slurm: their variables name the server
        distributed.init_process_group(backends, timeout=patience)
        return
    distributed.init_process_group(
        backends,
        store=distributed.FileStore(str(store), world_size),
        rank=rank,
        world_size=world_size,
        timeout=patience,
    )


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
            require_descriptors(config.devices)
            with errors_in_words():
                _connect(backends, rank=self.rank, world_size=config.devices)
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
        # Not all_gather_object: it unpickles what the other processes send.
        return [from_json(text) for text in self._gather_bytes(to_json(value).encode())]

    def _gather_bytes(self, data: bytes) -> list[bytes]:
        own = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        sizes = self._all_gather(torch.tensor([len(own)]))
        padded = torch.zeros(int(max(sizes)), dtype=torch.uint8)
        padded[: len(own)] = own
        found = self._all_gather(padded)
        return [bytes(row[: int(size)].numpy()) for row, size in zip(found, sizes, strict=True)]

    def _all_gather(self, own: torch.Tensor) -> list[torch.Tensor]:
        found = [torch.empty_like(own) for _ in range(self.world_size)]
        distributed.all_gather(found, own)
        return found

    def _gather_arrays(self, arrays: Arrays) -> list[Arrays]:
        own = safetensors.numpy.save({n: np.ascontiguousarray(a) for n, a in arrays.items()})
        return [safetensors.numpy.load(data) for data in self._gather_bytes(own)]

    def _gather_array(self, array: np.ndarray) -> list[np.ndarray]:
        return [found["array"] for found in self._gather_arrays({"array": array})]

    def read_totals(self, shares: torch.Tensor) -> np.ndarray:
        return np.sum(self._gather_array(super().read_totals(shares)), axis=0)

    def read_rows(self, rows: torch.Tensor) -> np.ndarray:
        return np.concatenate(self._gather_array(super().read_rows(rows)))

    def read_shares(self, shares: Arrays) -> list[Arrays]:
        # Gradients of a scaled loss, before the wrapper takes their mean: this removes the scale.
        return self._gather_arrays({n: value / self.world_size for n, value in shares.items()})

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
        # Closing a group of gloo alone can hang (about one run in fifty) or abort, so it ends with
        # the process.


def make(config: RunConfig) -> strategy.Strategy:
    return Strategy(config)
