"""The environment variables of a run: a user's shell must not change what is measured.

Many variables change what a framework computes, compiles or allocates, or on which core a thread
runs. They belong to families: the names of a family begin alike. Of these families, a process of
isoscale gets only the variables that isoscale sets, those that are kept here, and those that the
user hands on with ``--env``. Variables outside the families (``PATH``, ``HOME``, ...) stay.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence

from isoscale.common.config.errors import ConfigError, shown

FAMILIES = (
    # Threads and mathematics: OpenMP, MKL, oneDNN, BLAS.
    *("BLIS_", "DNNL_", "GOMP_", "GOTO_", "KMP_", "MKL_", "NUMEXPR_", "OMP_", "ONEDNN_"),
    *("OPENBLAS_", "VECLIB_"),
    # Accelerators, and communication.
    *("CUBLAS_", "CUDA_", "CUDNN_", "GLOO_", "HIP_", "HSA_", "MIOPEN_", "NCCL_", "NVIDIA_TF32_"),
    *("RCCL_", "ROCBLAS_", "ROCR_", "TPU_"),
    # Allocators, and the dynamic linker.
    *("GLIBC_TUNABLES", "JEMALLOC_", "LD_AUDIT", "LD_BIND_NOT", "LD_PRELOAD", "LD_PROFILE"),
    *("MALLOC_", "MIMALLOC_", "TCMALLOC_"),
    # Python's own: debugging, allocation, optimization.
    *("PYTHONASYNCIODEBUG", "PYTHONDEBUG", "PYTHONDEVMODE", "PYTHONDUMPREFS", "PYTHONINSPECT"),
    *("PYTHONMALLOC", "PYTHONOPTIMIZE", "PYTHONPERFSUPPORT", "PYTHONPROFILEIMPORTTIME"),
    *("PYTHONTRACEMALLOC", "PYTHONVERBOSE", "PYTHON_CPU_COUNT", "PYTHON_GIL", "PYTHON_JIT"),
    *("PYTHON_PERF_", "PYTHON_PRESITE", "PYTHON_THREAD_"),
)
"""How the names begin that belong to no single framework; ``FrameworkInfo`` has the others."""

EARLY = ("GLIBC_TUNABLES", "JEMALLOC_", "LD_", "MALLOC_", "MIMALLOC_", "PYTHON", "TCMALLOC_")
"""How the names begin that are read before a Python program can change them."""

_VISIBLE_DEVICES = (
    *("CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
)
_PLACES = ("CUDA_CACHE_PATH", "CUDA_HOME", "CUDA_MPS_", "CUDA_PATH")
"""Where things are; these variables change nothing that is measured after the first step."""
_NETWORK = ("GLOO_SOCKET_IFNAME", "NCCL_", "RCCL_")
_PLATFORM = {"gpu": _NETWORK, "tpu": ("TPU_",)}
_OWN = ("ISOSCALE_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_")
_FILES = {
    "LD_AUDIT": re.compile(r":"),
    "LD_PRELOAD": re.compile(r"[:\s]+"),
    "NCCL_TOPO_FILE": None,
    "OMP_TOOL_LIBRARIES": re.compile(r":"),
}
"""Variables that name files -> what separates the files. Without a file, programs go on."""
_FORM = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}", re.ASCII)
_LONGEST_VALUE = 1000
_MOST_NAMED = 12


def is_name(text: str) -> bool:
    """Returns whether a text can be printed and used as the name of a variable."""
    return bool(_FORM.fullmatch(text))


def governed(name: str, families: Iterable[str] = ()) -> bool:
    """Returns whether isoscale decides about a variable.

    Args:
      name: name of the variable.
      families: how the names of the frameworks' variables begin.
    """
    return name.startswith((*FAMILIES, *families))


def inherited(
    present: Mapping[str, str],
    *,
    families: Iterable[str],
    kept: Iterable[str] = (),
    platform: str = "cpu",
    launcher: Iterable[str] | None = None,
) -> dict[str, str]:
    """Returns the variables that a process of isoscale gets from its launcher's environment.

    Args:
      present: the launcher's environment.
      families: how the names of the frameworks' variables begin.
      kept: variables of these families that frameworks keep.
      platform: on GPUs and TPUs, the variables of their network stay.
      launcher: how the names begin that another launcher (torchrun, Slurm) gives its ranks; None:
        the process is no rank of such a launcher.
    """
    stays = (*_VISIBLE_DEVICES, *_PLACES, *kept, *_PLATFORM.get(platform, ()))
    if launcher is not None:
        stays = (*stays, *_NETWORK, *launcher)
    beginnings = tuple(families)
    return {
        name: value
        for name, value in present.items()
        if not governed(name, beginnings) or name.startswith(stays)
    }


def removed_line(names: Sequence[str]) -> str | None:
    """Returns the line that names the variables that runs do not get; None without such."""
    if not names:
        return None
    printable = [name if is_name(name) else ascii(name)[:40] for name in sorted(names)]
    more = len(names) - _MOST_NAMED
    listed = ", ".join(printable[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    return (
        f"isoscale: runs do not get these variables of this shell: {listed} (--env=NAME=VALUE "
        "hands a variable on and makes it part of the cell)"
    )


def parse_handed(entries: Sequence[str], *, families: Iterable[str]) -> dict[str, str]:
    """Returns the variables of ``--env``: name -> value.

    Args:
      entries: ``NAME=VALUE``, each.
      families: how the names of the frameworks' variables begin.

    Raises:
      ConfigError: an entry has another form, its variable is not one that runs would lose, or a
        file that it names is missing.
    """
    found: dict[str, str] = {}
    for entry in entries:
        name, separator, value = entry.partition("=")
        if not separator or not is_name(name):
            raise ConfigError(f"--env={shown(entry)}: must be NAME=VALUE, as in --env=TF_X=1")
        if name.startswith(_OWN):
            raise ConfigError(f"--env={shown(entry)}: isoscale sets {name} itself")
        if not governed(name, families):
            raise ConfigError(
                f"--env={shown(entry)}: runs get {shown(name)} from the shell, and it is no known "
                "variable of a framework or library; set it in the shell"
            )
        if len(value) > _LONGEST_VALUE or not value.isprintable():
            raise ConfigError(
                f"--env={shown(entry)}: the value must have at most {_LONGEST_VALUE} printable "
                "characters"
            )
        if found.get(name, value) != value:
            raise ConfigError(f"--env has two values for {name}; choose one")
        for path in _paths(name, value):
            if not os.path.isfile(path):
                raise ConfigError(
                    f"--env={shown(entry)}: there is no file {shown(path)}; the run would go on "
                    "without it"
                )
        found[name] = value
    return found


def _paths(name: str, value: str) -> list[str]:
    """Returns the paths of files in a variable's value; [] for a variable that names no files.

    The linker looks for a name without a slash in its own folders, and replaces words like $LIB.
    """
    if name not in _FILES:
        return []
    separator = _FILES[name]
    parts = separator.split(value) if separator else [value]
    return [part for part in parts if "/" in part and "$" not in part]
