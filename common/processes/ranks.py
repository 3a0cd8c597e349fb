"""Ranks: the processes of one run, one per device, identified by the variables of torchrun.

torchrun sets these variables for its ranks. isoscale sets them for the ranks that it starts, except
the address of a server: its ranks meet in a file, which other users of the machine can neither read
nor write.

Under Slurm, ``srun`` starts the ranks, and the job's script sets the variables of torchrun from
Slurm's (``RANK=$SLURM_PROCID``, ``LOCAL_RANK=$SLURM_LOCALID``, ``WORLD_SIZE=$SLURM_NTASKS``,
``LOCAL_WORLD_SIZE=$SLURM_NTASKS_PER_NODE``).
isoscale does not read Slurm's variables, because Slurm also sets them in the job's script, which is
not a rank.
"""

import contextlib
import dataclasses
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from isoscale.common.config.errors import ConfigError, shown
from isoscale.common.disk.writing import RANKS, temporary_folder, writing

FOLDER = RANKS
_STORE = "ISOSCALE_STORE"
"""Path of the file in which the ranks of one machine meet."""

_MOST_DIGITS = 9
VARIABLES = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    _STORE,
)
"""Variables that a launcher of ranks sets; a process outside the run must not inherit them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rank:
    """The place of a process in its run.

    Attributes:
      rank: number of the process in the run, from 0.
      local_rank: number of the process on this machine, from 0.
      local_world_size: number of the run's processes on this machine; 1 if no launcher set it.
    """

    rank: int
    local_rank: int
    local_world_size: int = 1


@contextlib.contextmanager
def environments(count: int, *, folder: Path) -> Iterator[list[dict[str, str]]]:
    """Yields the variables of each rank of a run on this machine.

    Args:
      count: number of ranks.
      folder: an existing folder; it holds the ranks' meeting file until the context ends.

    Raises:
      FolderError: the operating system refuses to write into the folder.
    """
    # Only this user may enter this folder: the file needs no secret.
    with writing(folder):
        held, private = temporary_folder(folder, prefix=FOLDER)
    try:
        yield _variables(count, private.resolve() / "store")
    finally:
        os.close(held)
        shutil.rmtree(private, ignore_errors=True)


def _variables(count: int, store: Path) -> list[dict[str, str]]:
    shared = {
        _STORE: str(store),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        # Otherwise gloo resolves the host name: it may have a wrong address, none, or one that
        # other machines reach.
        "GLOO_SOCKET_IFNAME": "lo",
    }
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def stand_alone(own: Rank) -> None:
    """Makes this process a rank alone, for its framework: it computes on its own device only.

    Args:
      own: its place among the processes of its run.
    """
    alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    if _STORE in os.environ:
        alone[_STORE] = f"{os.environ[_STORE]}.{own.rank}"
    os.environ.update(alone)


def own() -> Rank:
    """Returns the rank of this process; rank 0 if no launcher set one."""
    rank = int(os.environ.get("RANK", "0"))
    return Rank(rank=rank, local_rank=int(os.environ.get("LOCAL_RANK", rank)))


def store() -> Path | None:
    """Returns the file in which the ranks meet; None: the variables name a server (torchrun).

    Raises:
      PermissionError: another user may write the file.
    """
    path = os.environ.get(_STORE)
    if path is None:
        return None
    folder = Path(path).parent
    found = folder.lstat()
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise PermissionError(f"{_STORE}: other users may enter {folder}")
    return Path(path)


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
        if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
            raise ConfigError(f"RANK is set, but {name}={shown(text)!r} is not a whole number")
        return int(text)

    rank, world_size = number("RANK"), number("WORLD_SIZE")
    if _STORE not in variables:
        number("MASTER_PORT")
        if not variables.get("MASTER_ADDR"):
            raise ConfigError("RANK is set, but MASTER_ADDR is not")
    if world_size != devices or rank >= devices:
        raise ConfigError(
            f"RANK={rank} of WORLD_SIZE={world_size} does not fit devices={devices}: start one "
            "process per device"
        )
    if not variables.get("LOCAL_WORLD_SIZE"):
        raise ConfigError(
            "RANK is set, but LOCAL_WORLD_SIZE is not: set it to the number of ranks on this "
            "machine (torchrun does; with srun: LOCAL_WORLD_SIZE=$SLURM_NTASKS_PER_NODE)"
        )
    local_rank, local_size = number("LOCAL_RANK", str(rank)), number("LOCAL_WORLD_SIZE")
    if not 1 <= local_size <= world_size:
        raise ConfigError(
            f"LOCAL_WORLD_SIZE={local_size} must be a whole number, 1 to WORLD_SIZE={world_size}"
        )
    if local_rank >= local_size:
        raise ConfigError(
            f"LOCAL_RANK={local_rank} must be below LOCAL_WORLD_SIZE={local_size}, the number of "
            "ranks on this machine"
        )
    if local_rank > rank or (local_size == world_size and local_rank != rank):
        raise ConfigError(
            f"LOCAL_RANK={local_rank} does not fit RANK={rank} with "
            f"LOCAL_WORLD_SIZE={local_size} of WORLD_SIZE={world_size} ranks on this machine"
        )
    return Rank(rank=rank, local_rank=local_rank, local_world_size=local_size)
