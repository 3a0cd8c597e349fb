"""Known problems of GPUs, their driver, and the CUDA libraries of several frameworks."""

import re

from isoscale.common.machine.describe import UNKNOWN
from isoscale.common.machine.problem import Facts, Problem, examined, number


def _shared_memory(facts: Facts) -> str | None:
    size = number(facts["settings"]["shared_memory_bytes"])
    if size is None or size > 64 * 2**20 or len(facts["gpus"]) < 2:
        return None
    return f"/dev/shm has {size / 2**20:.0f} MiB and there are {len(facts['gpus'])} GPUs"


def _cuda_clash(facts: Facts) -> str | None:
    if not facts["gpus"]:
        return None
    shared: dict[str, dict[str, str]] = {}
    for name, entry in examined(facts).items():
        if isinstance(entry["cuda"], str) and entry["cuda"] != UNKNOWN:
            shared.setdefault(entry["interpreter"]["executable"], {})[name] = entry["cuda"]
    for executable, versions in shared.items():
        if len({version.split(".")[0] for version in versions.values()}) > 1:
            wanted = ", ".join(f"{name} CUDA {version}" for name, version in versions.items())
            return f"built for different CUDA versions in one interpreter, {executable}: {wanted}"
    return None


def _gpu_not_seen(facts: Facts) -> str | None:
    if not facts["gpus"]:
        return None
    blind = []
    for name, entry in examined(facts).items():
        seen = entry.get("gpu")
        # None: its runner works on no GPU. What is unknown counts as seen, and what fails for
        # another reason than that is another problem.
        if seen is None or seen.get("devices") or "product_error" in seen:
            continue
        why = seen.get("error") or seen.get("gpu_error")
        blind.append(f"{name} ({entry['build']}{f'; {why}' if why else ''})")
    if not blind:
        return None
    hidden = facts["environment"].get("CUDA_VISIBLE_DEVICES")
    setting = "" if hidden is None else f"; CUDA_VISIBLE_DEVICES={hidden!r} is set"
    return (
        f"nvidia-smi shows {len(facts['gpus'])} GPU(s), and none is seen by: {', '.join(blind)}"
        f"{setting}"
    )


def _driver_fails(facts: Facts) -> str | None:
    return "nvidia-smi is there and does not answer" if facts["gpu_driver_fails"] else None


def _driver_too_old(facts: Facts) -> str | None:
    newest = facts["cuda_of_driver"]
    if newest == UNKNOWN:
        return None
    wanted = [
        f"{name} CUDA {entry['cuda']}"
        for name, entry in examined(facts).items()
        if isinstance(entry["cuda"], str)
        and entry["cuda"] != UNKNOWN
        and int(entry["cuda"].split(".")[0]) > int(newest.split(".")[0])
    ]
    return f"the driver supports CUDA {newest} at most; {', '.join(wanted)}" if wanted else None


def _gpu_product(facts: Facts) -> str | None:
    failed = [
        f"{name}: {entry['gpu']['product_error']}"
        for name, entry in examined(facts).items()
        if entry.get("gpu") and "product_error" in entry["gpu"]
    ]
    return "; ".join(failed) or None


def _gpu_busy(facts: Facts) -> str | None:
    busy = [
        f"GPU {index}: {gpu['utilization']}, {gpu['memory_used']} in use"
        for index, gpu in enumerate(facts["gpus"])
        if (number_in(gpu["utilization"]) or 0) >= 10
    ]
    return "; ".join(busy) or None


def _gpu_width(facts: Facts) -> str | None:
    narrow = [
        f"GPU {index}: x{gpu['pcie_width']} of x{gpu['pcie_width_max']}"
        for index, gpu in enumerate(facts["gpus"])
        if (number_in(gpu["pcie_width"]) or 0) < (number_in(gpu["pcie_width_max"]) or 0)
        and gpu["pcie_width"] != UNKNOWN
    ]
    return "; ".join(narrow) or None


def _gpu_persistence(facts: Facts) -> str | None:
    off = [
        str(index)
        for index, gpu in enumerate(facts["gpus"])
        if gpu["persistence_mode"] == "Disabled"
    ]
    return f"persistence mode is off on GPU {', '.join(off)}" if off else None


def number_in(text: str) -> float | None:
    """Returns the figure at the start of ``97 %`` or ``1024 MiB``."""
    match = re.match(r"\d+(\.\d+)?", text)
    return float(match[0]) if match else None


PROBLEMS = (
    Problem(
        id="cuda_versions_clash",
        severity="problem",
        topic="gpu",
        evidence=_cuda_clash,
        meaning="The frameworks want different CUDA libraries: installed together, one may find "
        "the other's, or none.",
        remedy="One interpreter per framework, made with pip install '.[cuda-jax]', "
        "'.[cuda-tensorflow]' and '.[cuda-torch]', and given as --python_jax=PATH and so on.",
    ),
    Problem(
        id="gpu_driver_fails",
        severity="problem",
        topic="gpu",
        evidence=_driver_fails,
        meaning="Nothing is known of GPUs, and --platform=gpu cannot work: the driver is broken, "
        "or was updated without a restart.",
        remedy="Run nvidia-smi to see what it says; often restarting the machine helps.",
    ),
    Problem(
        id="gpu_driver_too_old",
        severity="problem",
        topic="gpu",
        evidence=_driver_too_old,
        meaning="A framework built for a newer CUDA than the driver knows fails on the GPU.",
        remedy="A newer driver, or a build of the framework for the driver's CUDA version.",
    ),
    Problem(
        id="gpu_product_failed",
        severity="problem",
        topic="gpu",
        evidence=_gpu_product,
        meaning="The framework sees the GPU and cannot multiply matrices on it.",
        remedy="If it lacks memory, end what uses the GPU or choose a smaller --sgemm_size.",
    ),
    Problem(
        id="gpu_not_seen",
        severity="problem",
        topic="gpu",
        evidence=_gpu_not_seen,
        meaning="--platform=gpu does not work for these frameworks: they are built without GPU "
        "support, or do not find the CUDA libraries that they want.",
        remedy="Install the GPU build in an interpreter of its own (for the three of this "
        "repository: pip install '.[cuda-jax]', '.[cuda-tensorflow]', '.[cuda-torch]') and give it "
        "as --python_<framework>=PATH.",
    ),
    Problem(
        id="gpu_busy",
        severity="problem",
        topic="gpu",
        evidence=_gpu_busy,
        meaning="Another program computes on the GPU: figures measured meanwhile are wrong.",
        remedy="Wait for it, or choose other GPUs with CUDA_VISIBLE_DEVICES.",
    ),
    Problem(
        id="small_shared_memory",
        severity="note",
        topic="gpu",
        evidence=_shared_memory,
        meaning="NCCL passes data between GPUs of one machine through /dev/shm where they have no "
        "direct path, and fails if it is full.",
        remedy="Start the container with --shm-size=1g or --ipc=host.",
    ),
    Problem(
        id="gpu_link_width",
        severity="note",
        topic="gpu",
        evidence=_gpu_width,
        meaning="The PCIe link has fewer lanes than GPU and slot could have: copies between host "
        "and GPU, and between GPUs without NVLink, are slower.",
        remedy="Another slot, or another machine type; else compare with it in mind.",
    ),
    Problem(
        id="gpu_persistence",
        severity="note",
        topic="gpu",
        evidence=_gpu_persistence,
        meaning="The driver may unload between runs, and every run is a fresh process: its start "
        "can take seconds longer.",
        remedy="As root: nvidia-smi -pm 1.",
    ),
)
