"""Ranks: the processes of one run, one per device, identified by the variables of torchrun.

isoscale sets these variables for the ranks that it starts; torchrun sets them for its ranks. Under
Slurm, ``srun`` starts the ranks, and the job's script sets the same variables from Slurm's
(``RANK=$SLURM_PROCID``, ``LOCAL_RANK=$SLURM_LOCALID``, ``WORLD_SIZE=$SLURM_NTASKS``). isoscale does
not read Slurm's variables, because Slurm also sets them in the job's script, which is not a rank.
"""

import dataclasses
import os
from collections.abc import Mapping

from isoscale.common.config.errors import ConfigError
from isoscale.common.processes.ports import free_port

VARIABLES = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)
"""Variables that a launcher of ranks sets; a process outside the run must not inherit them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rank:
    """The place of a process in its run.

    Attributes:
      rank: number of the process in the run, from 0.
      local_rank: number of the process on this machine, from 0.
    """

    rank: int
    local_rank: int


def environments(count: int) -> list[dict[str, str]]:
    """Returns the variables of each rank of a run on this machine, as torchrun sets them."""
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        # Otherwise gloo resolves the host name, which may have a wrong address or none.
        "GLOO_SOCKET_IFNAME": "lo",
    }
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def own() -> Rank:
    """Returns the rank of this process; rank 0 if no launcher set one."""
    rank = int(os.environ.get("RANK", "0"))
    return Rank(rank=rank, local_rank=int(os.environ.get("LOCAL_RANK", rank)))


def read(*, devices: int, variables: Mapping[str, str] = os.environ) -> Rank | None:
    """Returns the rank of this process; None if no launcher set one.

    Args:
      devices: number of devices of the run, and of its ranks.
      variables: environment variables.

    Raises:
      ConfigError: RANK is set, but the other variables are missing or do not fit.
    """
    if "RANK" not in variables:
        return None

    def number(name: str, default: str = "") -> int:
        text = variables.get(name, default)
        if not text.isdecimal():
            raise ConfigError(f"RANK is set, but {name}={text!r} is not a whole number")
        return int(text)

    rank, world_size, _ = (number(name) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    if not variables.get("MASTER_ADDR"):
        raise ConfigError("RANK is set, but MASTER_ADDR is not")
    if world_size != devices or rank >= devices:
        raise ConfigError(
            f"RANK={rank} of WORLD_SIZE={world_size} does not fit devices={devices}: start one "
            "process per device"
        )
    return Rank(rank=rank, local_rank=number("LOCAL_RANK", str(rank)))
