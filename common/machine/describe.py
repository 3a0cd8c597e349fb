"""Describes this computer. Unknown facts have the value ``unknown``."""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import psutil

from isoscale.common.machine.control_groups import cpu_quota
from isoscale.common.machine.cores import available_cores
from isoscale.common.machine.private import file_names, may_be_secret, without_paths
from isoscale.common.machine.variables import governed, is_name

UNKNOWN = "unknown"
QUERY_SECONDS = 30
"""Time limit of a query: on a machine with many GPUs, loading the driver takes long."""

# A full dump of the environment would leak secrets. These lists have the variables of the system,
# of CUDA, and of libraries that frameworks share; FrameworkInfo has those of a single framework.
_NUMBERS = """
    CUDA_DEVICE_MAX_CONNECTIONS CUDA_LAUNCH_BLOCKING DNNL_JIT_PROFILE DNNL_VERBOSE KMP_BLOCKTIME
    MKL_NUM_THREADS MKL_VERBOSE NCCL_BUFFSIZE NCCL_IB_DISABLE NCCL_IB_TIMEOUT NCCL_MAX_NCHANNELS
    NCCL_MIN_NCHANNELS NCCL_NTHREADS NCCL_P2P_DISABLE NCCL_SHM_DISABLE NVIDIA_TF32_OVERRIDE
    OMP_MAX_ACTIVE_LEVELS OMP_NUM_THREADS OMP_THREAD_LIMIT ONEDNN_VERBOSE OPENBLAS_NUM_THREADS RANK
    VECLIB_MAXIMUM_THREADS WORLD_SIZE
"""
_WORDS = """
    CUBLAS_WORKSPACE_CONFIG CUDA_DEVICE_ORDER CUDA_MODULE_LOADING CUDA_VISIBLE_DEVICES
    DNNL_CPU_ISA_HINTS DNNL_MAX_CPU_ISA GLOO_SOCKET_IFNAME GOMP_CPU_AFFINITY HIP_VISIBLE_DEVICES
    KMP_AFFINITY KMP_HW_SUBSET KMP_SETTINGS MKL_CBWR MKL_DEBUG_CPU_TYPE MKL_DOMAIN_NUM_THREADS
    MKL_DYNAMIC MKL_ENABLE_INSTRUCTIONS MKL_INTERFACE_LAYER MKL_THREADING_LAYER NCCL_ALGO NCCL_DEBUG
    NCCL_IB_HCA NCCL_NET NCCL_NET_GDR_LEVEL NCCL_P2P_LEVEL NCCL_PROTO NCCL_SOCKET_IFNAME OMP_DYNAMIC
    OMP_NESTED OMP_PLACES OMP_PROC_BIND OMP_SCHEDULE OMP_STACKSIZE OMP_WAIT_POLICY
    ONEDNN_CPU_ISA_HINTS ONEDNN_MAX_CPU_ISA OPENBLAS_CORETYPE
"""
_PRELOAD = "LD_PRELOAD"
_TEXTS = f"GLIBC_TUNABLES {_PRELOAD} MALLOC_CONF"
_NUMBER_FORM = re.compile(r"-?[\d.,:]{1,60}")
_WORD_FORM = re.compile(r"[\w ,.:;=+*^/{}()\[\]-]{1,80}", re.ASCII)
_TEXT_FORM = re.compile(r"[ -~]{1,2000}")
ENVIRONMENT = {
    **dict.fromkeys(_NUMBERS.split(), _NUMBER_FORM),
    **dict.fromkeys(_WORDS.split(), _WORD_FORM),
    **dict.fromkeys(_TEXTS.split(), _TEXT_FORM),
}
"""Environment variable -> the form of its value; a value of another form is not recorded."""


def environment(framework_names: Collection[str], families: Iterable[str] = ()) -> dict[str, str]:
    """Returns the environment variables that are set and change results or speed.

    Of a path, only the name of a preloaded library is recorded. A value that has not the form of
    its variable, or looks like a key, may be a secret that came there by mistake: the result says
    only how long it is. So it does for variables of a family that no list has.

    Args:
      framework_names: names of the frameworks' variables (``FrameworkInfo.variables``).
      families: how the names of the frameworks' variables begin.
    """
    known = {**dict.fromkeys(framework_names, _TEXT_FORM), **ENVIRONMENT}
    families = tuple(families)
    found: dict[str, str] = {}
    for name, value in sorted(os.environ.items()):
        if name not in known and not (governed(name, families) and is_name(name)):
            continue
        fits = value == "" or (name in known and known[name].fullmatch(value))
        shown = file_names(value) if name == _PRELOAD else without_paths(value)
        if not fits or may_be_secret(shown):
            shown = f"(not recorded: {len(value)} characters)"
        found[name] = shown
    return found


def changed_in_record(framework_names: Collection[str], families: Iterable[str] = ()) -> list[str]:
    """Returns the variables whose value ``environment`` does not show as it is."""
    shown = environment(framework_names, families)
    return [name for name, value in shown.items() if os.environ[name] != value]


def cpu_info() -> dict[str, str]:
    """Returns the first entry of each key in /proc/cpuinfo; {} on systems without this file."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    pairs = (line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    first: dict[str, str] = {}
    for key, value in pairs:
        first.setdefault(key.strip(), value.strip())
    return first


def query(*command: str) -> str | None:
    """Returns the output of a program; None if the program is missing, fails or is too slow."""
    if shutil.which(command[0]) is None:
        return None
    try:
        answer = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=QUERY_SECONDS,
            check=False,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return None
    # nvidia-smi underlines its headings even if the output is not a terminal.
    said = re.sub(r"\x1b\[[0-9;]*m", "", answer.stdout)
    return said.strip() if answer.returncode == 0 else None


def gpus() -> list[dict[str, str]]:
    """Returns name, memory and driver of every NVIDIA GPU that nvidia-smi lists."""
    answer = query(
        "nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"
    )
    if not answer:
        return []
    keys = ("name", "memory", "driver")
    lines = (line.split(", ") for line in answer.splitlines())
    return [dict(zip(keys, fields, strict=False)) for fields in lines]


def machine() -> dict[str, Any]:
    """Returns the facts about this machine that readers of results need."""
    info = cpu_info()
    # The key is "flags" on x86 and "Features" on ARM.
    flags = set(info.get("flags", info.get("Features", "")).split())
    x86 = ("avx", "avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16")
    interesting = (*x86, "asimd", "sve", "sve2", "i8mm", "bf16")
    graphics = gpus()
    return {
        "cpu_model": info.get("model name") or platform.processor() or UNKNOWN,
        "cpu_vendor": info.get("vendor_id", UNKNOWN),
        "instruction_sets": [name for name in interesting if name in flags] or UNKNOWN,
        "architecture": platform.machine() or UNKNOWN,
        "physical_cores": psutil.cpu_count(logical=False) or UNKNOWN,
        "logical_cores": psutil.cpu_count(logical=True) or UNKNOWN,
        "available_cores": available_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "operating_system": platform.platform(),
        "python": sys.version.split()[0],
        "gpus": graphics,
        "gpu_links": query("nvidia-smi", "topo", "-m") or UNKNOWN if graphics else None,
    }


_IDENTITY = (
    *("cpu_model", "instruction_sets", "architecture", "physical_cores", "memory_bytes"),
    "operating_system",
)


def identity(facts: dict[str, Any], *, usable_cores: int) -> dict[str, Any]:
    """Returns what tells machines apart; runs on different machines are not pooled.

    Args:
      facts: the facts that ``machine`` returns.
      usable_cores: number of cores that this process could use before it was pinned.
    """
    return {
        **{name: facts[name] for name in _IDENTITY},
        "usable_cores": usable_cores,
        "cpu_quota": cpu_quota(),
        "gpus": [gpu["name"] for gpu in facts["gpus"]],
    }


def native_libraries() -> list[dict[str, Any]]:
    """Returns the BLAS and OpenMP libraries in this process, with their kernels and threads.

    Call this function after the import of the framework. The list lacks statically linked libraries
    (Eigen and oneDNN in XLA and TensorFlow).
    """
    from threadpoolctl import threadpool_info

    keys = ("user_api", "internal_api", "version", "architecture", "num_threads")
    return [{key: entry[key] for key in keys if key in entry} for entry in threadpool_info()]
