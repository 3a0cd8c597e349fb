"""Reads the settings of this computer: limits, pages, clocks, load, GPU links.

An unknown fact is ``unknown``. The functions take the root of the file system, so that a test can
give them another machine. Sizes are in bytes unless a name says otherwise.
"""

import os
import platform
import re
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import psutil

from isoscale.common.machine import describe
from isoscale.common.machine.control_groups import control_groups, cpu_quota, read
from isoscale.common.machine.describe import UNKNOWN, query

_ROOT = Path("/")

GPU_FIELDS = {
    "name": "name",
    "memory": "memory.total",
    "memory_used": "memory.used",
    "utilization": "utilization.gpu",
    "driver": "driver_version",
    "pcie_generation": "pcie.link.gen.current",
    "pcie_generation_max": "pcie.link.gen.max",
    "pcie_width": "pcie.link.width.current",
    "pcie_width_max": "pcie.link.width.max",
    "persistence_mode": "persistence_mode",
    "sm_clock": "clocks.sm",
    "sm_clock_max": "clocks.max.sm",
    "power_limit": "power.limit",
}
"""isoscale's name -> the field of ``nvidia-smi --query-gpu``."""


def _memory_limit(root: Path, total: int) -> tuple[int | str | None, int | None]:
    """Returns (lowest memory limit of the control groups, least free memory below a limit)."""
    folders = control_groups("memory", root)
    limits = []
    for folder in folders:
        limit, used = read(folder / "memory.max"), read(folder / "memory.current")
        if limit is None:
            limit = read(folder / "memory.limit_in_bytes")
            used = read(folder / "memory.usage_in_bytes")
        # Version 1 writes "no limit" as a number larger than any memory.
        if limit is None or limit == "max" or int(limit) >= total:
            continue
        statistics = read(folder / "memory.stat") or ""
        cache = re.search(r"^(?:total_)?inactive_file (\d+)", statistics, re.MULTILINE)
        in_use = int(used or 0) - (int(cache[1]) if cache else 0)
        limits.append((int(limit), max(0, int(limit) - in_use)))
    if not limits:
        return None if folders else UNKNOWN, None
    # The lowest limit and the least free memory may belong to different groups.
    return min(limit for limit, _ in limits), min(left for _, left in limits)


def memory(root: Path = _ROOT) -> dict[str, Any]:
    """Returns total and available memory, the control groups' limit, and the swap in use."""
    virtual = psutil.virtual_memory()
    limit, left = _memory_limit(root, virtual.total)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # psutil warns where swap counters are missing
            swap: int | str = psutil.swap_memory().used
    except (OSError, RuntimeError):
        swap = UNKNOWN
    return {
        "total_bytes": virtual.total,
        "available_bytes": min(virtual.available, virtual.available if left is None else left),
        "limit_bytes": limit,
        "swap_used_bytes": swap,
    }


def caches(cpu: int, root: Path = _ROOT) -> dict[str, dict[str, Any]] | str:
    """Returns the caches of a CPU (``L1d``, ``L2``, ...): size, and the CPUs that share each."""
    found = {}
    folders = sorted((root / f"sys/devices/system/cpu/cpu{cpu}/cache").glob("index[0-9]*"))
    for folder in folders:
        level, size = read(folder / "level"), read(folder / "size")
        kind = {"Data": "d", "Instruction": "i"}.get(read(folder / "type") or "", "")
        match = re.fullmatch(r"(\d+)([KM]?)", size or "")
        if level and match:
            found[f"L{level}{kind}"] = {
                "bytes": int(match[1]) * {"": 1, "K": 2**10, "M": 2**20}[match[2]],
                "shared_by_cpus": read(folder / "shared_cpu_list") or UNKNOWN,
            }
    return found or UNKNOWN


def numa_nodes(root: Path = _ROOT) -> int | str:
    """Returns the number of NUMA nodes."""
    nodes = list((root / "sys/devices/system/node").glob("node[0-9]*"))
    return len(nodes) or UNKNOWN


def huge_pages(root: Path = _ROOT) -> str:
    """Returns the mode of transparent huge pages: ``always``, ``madvise`` or ``never``."""
    text = read(root / "sys/kernel/mm/transparent_hugepage/enabled") or ""
    chosen = re.search(r"\[(\w+)\]", text)
    return chosen[1] if chosen else UNKNOWN


def clocks(cpus: list[int], root: Path = _ROOT) -> dict[str, Any]:
    """Returns driver, governors, boost (``on`` or ``off``) and current clocks of some CPUs.

    In a virtual machine these facts are usually unknown.
    """
    system = root / "sys/devices/system/cpu"

    def values(name: str) -> list[str]:
        texts = [read(system / f"cpu{cpu}/cpufreq/{name}") for cpu in cpus]
        return sorted({text for text in texts if text})

    boost = {"0": "off", "1": "on"}.get(read(system / "cpufreq/boost") or "")
    # The same setting, with the opposite meaning of 0 and 1.
    no_turbo = {"0": "on", "1": "off"}.get(read(system / "intel_pstate/no_turbo") or "")
    current = [int(text) / 1000 for text in values("scaling_cur_freq") if text.isdecimal()]
    return {
        "driver": ", ".join(values("scaling_driver")) or UNKNOWN,
        "governors": values("scaling_governor") or UNKNOWN,
        "boost": boost or no_turbo or UNKNOWN,
        "current_mhz": [min(current), max(current)] if current else UNKNOWN,
    }


def virtual_machine(root: Path = _ROOT) -> bool | str:
    """Returns whether the processor has the hypervisor flag (x86 only)."""
    flags = re.search(r"^flags\s*:(.*)$", read(root / "proc/cpuinfo") or "", re.MULTILINE)
    return "hypervisor" in flags[1].split() if flags else UNKNOWN


def shared_memory(root: Path = _ROOT) -> int | str:
    """Returns the size of ``/dev/shm`` in bytes."""
    path = root / "dev/shm"
    return psutil.disk_usage(str(path)).total if path.is_dir() else UNKNOWN


def disk_free(folder: Path) -> int | str:
    """Returns the free disk space at ``folder`` (or at its nearest existing parent)."""
    for place in (folder, *folder.absolute().parents):
        if place.is_dir():
            return psutil.disk_usage(str(place)).free
    return UNKNOWN


def affinity() -> list[int] | str:
    """Returns the CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return UNKNOWN


def load_average() -> list[float] | str:
    """Returns the mean number of runnable tasks over 1, 5 and 15 minutes."""
    try:
        return list(os.getloadavg())
    except (AttributeError, OSError):
        return UNKNOWN


def facts(out_dir: Path, root: Path = _ROOT) -> dict[str, Any]:
    """Returns the settings of this machine; facts that the system does not show are ``unknown``.

    Args:
      out_dir: folder of the results; its free disk space is one of the facts.
      root: root of the file system.
    """
    cpus = affinity()
    known = cpus if isinstance(cpus, list) else list(range(psutil.cpu_count() or 1))
    library, version = platform.libc_ver()
    return {
        "affinity": cpus,
        "cpu_quota": cpu_quota(root),
        "memory": memory(root),
        "numa_nodes": numa_nodes(root),
        "caches": caches(known[0], root),
        "page_bytes": os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else UNKNOWN,
        "transparent_huge_pages": huge_pages(root),
        "clocks": clocks(known, root),
        "virtual_machine": virtual_machine(root),
        "load_average": load_average(),
        "shared_memory_bytes": shared_memory(root),
        "disk_free_bytes": disk_free(out_dir),
        "c_library": f"{library} {version}".strip() or UNKNOWN,
    }


def activity(seconds: float) -> dict[str, Any]:
    """Measures the load from other programs while this process sleeps.

    Args:
      seconds: duration of the measurement.

    Returns:
      ``seconds``: the argument.
      ``busy_cpus``: CPUs' worth of time used by all programs on the CPUs that this process may use.
      ``stolen``: share of time that the hypervisor gave to other machines (``unknown`` if the
      system does not count this time).
    """
    began, before = time.perf_counter(), psutil.cpu_times(percpu=True)
    time.sleep(seconds)
    after, elapsed = psutil.cpu_times(percpu=True), time.perf_counter() - began
    cpus = affinity()
    usable = [cpu for cpu in cpus if cpu < len(after)] if isinstance(cpus, list) else []
    looked_at = usable or list(range(len(after)))
    busy, stolen, counted = 0.0, 0.0, hasattr(after[0], "steal")
    for cpu in looked_at:
        spent = {
            name: getattr(after[cpu], name) - getattr(before[cpu], name)
            for name in after[cpu]._fields
            if not name.startswith("guest")  # user time includes guest time
        }
        stolen += spent.get("steal", 0.0)
        busy += sum(spent.values()) - sum(spent.get(n, 0.0) for n in ("idle", "iowait", "steal"))
    return {
        "seconds": seconds,
        # The system counts in ticks: over a short time the sum can exceed the number of CPUs.
        "busy_cpus": min(max(0.0, busy) / elapsed, len(looked_at)),
        "stolen": stolen / elapsed / len(looked_at) if counted else UNKNOWN,
    }


def gpus() -> list[dict[str, Any]]:
    """Returns nvidia-smi's facts about every GPU, with units; [] if nvidia-smi lists no GPU."""
    fields = ",".join(GPU_FIELDS.values())
    answer = query("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader")
    rows = [[value.strip() for value in line.split(",")] for line in (answer or "").splitlines()]
    if not rows or any(len(row) != len(GPU_FIELDS) for row in rows):
        # A driver that does not know one of the fields refuses the whole query.
        plain = describe.gpus()
        return [{name: gpu.get(name, UNKNOWN) for name in GPU_FIELDS} for gpu in plain]
    return [
        {
            name: UNKNOWN if "N/A" in value or value.startswith("[") else value
            for name, value in zip(GPU_FIELDS, row, strict=True)
        }
        for row in rows
    ]


def cuda_of_driver() -> str:
    """Returns the newest CUDA version that the GPU driver supports."""
    match = re.search(r"CUDA(?: UMD)? Version:\s*([\d.]+)", query("nvidia-smi") or "")
    return match[1] if match else UNKNOWN


def gpu_driver_fails() -> bool:
    """Returns whether nvidia-smi is installed and fails: then the GPUs are unknown."""
    return shutil.which("nvidia-smi") is not None and query("nvidia-smi") is None
