"""Known problems of GPUs, of their driver, and of the CUDA libraries of several frameworks."""

import re

from isoscale.common.config.counts import counted
from isoscale.common.machine.describe import UNKNOWN
from isoscale.common.machine.problem import Facts, Problem, examined, number


def _shared_memory(facts: Facts) -> str | None:
    size = number(facts["settings"]["shared_memory_bytes"])
    if size is None or size > 64 * 2**20 or len(facts["gpus"]) < 2:
        return None
    return f"/dev/shm has {size / 2**20:.0f} MiB, and the machine has {len(facts['gpus'])} GPUs"


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
            return f"different CUDA versions in one interpreter, {executable}: {wanted}"
    return None


def _gpu_not_seen(facts: Facts) -> str | None:
    if not facts["gpus"]:
        return None
    blind = []
    for name, entry in examined(facts).items():
        seen = entry.get("gpu")
        # None: the runner does not support GPUs. An unknown fact counts as a visible GPU; a failed
        # product is another problem.
        if seen is None or seen.get("devices") or "product_error" in seen:
            continue
        why = seen.get("error") or seen.get("gpu_error")
        blind.append(f"{name} ({entry['build']}{f'; {why}' if why else ''})")
    if not blind:
        return None
    hidden = facts["environment"].get("CUDA_VISIBLE_DEVICES")
    setting = "" if hidden is None else f"; CUDA_VISIBLE_DEVICES={hidden!r} is set"
    return (
        f"nvidia-smi lists {counted(len(facts['gpus']), 'GPU')}; frameworks that find no GPU: "
        f"{', '.join(blind)}"
        f"{setting}"
    )


def _driver_fails(facts: Facts) -> str | None:
    return "nvidia-smi is installed and fails" if facts["gpu_driver_fails"] else None


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
        meaning="The frameworks need different CUDA libraries. In one interpreter, a framework may "
        "load the wrong library or find no library.",
        remedy="Make one interpreter per framework with pip install '.[cuda-jax]', "
        "'.[cuda-tensorflow]' and '.[cuda-torch]'; add --python_jax=PATH, "
        "--python_tensorflow=PATH and --python_torch=PATH.",
    ),
    Problem(
        id="gpu_driver_fails",
        severity="problem",
        topic="gpu",
        evidence=_driver_fails,
        meaning="The GPUs are unknown, and --platform=gpu fails. Either the driver is broken, or "
        "the machine was not restarted after an update of the driver.",
        remedy="Run nvidia-smi and read its message; a restart of the machine often helps.",
    ),
    Problem(
        id="gpu_driver_too_old",
        severity="problem",
        topic="gpu",
        evidence=_driver_too_old,
        meaning="The frameworks are built for a newer CUDA than the driver supports. They fail on "
        "the GPU.",
        remedy="Install a newer driver, or a build of the framework for the driver's CUDA version.",
    ),
    Problem(
        id="gpu_product_failed",
        severity="problem",
        topic="gpu",
        evidence=_gpu_product,
        meaning="The framework finds the GPU, but a matrix product on the GPU fails.",
        remedy="If GPU memory is short, end the other programs on the GPU or choose a smaller "
        "--sgemm_size.",
    ),
    Problem(
        id="gpu_not_seen",
        severity="problem",
        topic="gpu",
        evidence=_gpu_not_seen,
        meaning="--platform=gpu fails for these frameworks: they lack GPU support, or do not find "
        "their CUDA libraries.",
        remedy="Install the GPU build in a separate interpreter (for the three frameworks of this "
        "repository: pip install '.[cuda-jax]', '.[cuda-tensorflow]', '.[cuda-torch]') and add "
        "--python_<framework>=PATH.",
    ),
    Problem(
        id="gpu_busy",
        severity="problem",
        topic="gpu",
        evidence=_gpu_busy,
        meaning="Another program computes on the GPU: figures measured at this time are wrong.",
        remedy="Wait for the end of the other program, or choose other GPUs with "
        "CUDA_VISIBLE_DEVICES.",
    ),
    Problem(
        id="small_shared_memory",
        severity="note",
        topic="gpu",
        evidence=_shared_memory,
        meaning="If GPUs of one machine have no direct path, NCCL sends their data through "
        "/dev/shm. NCCL fails if /dev/shm is full.",
        remedy="Start the container with --shm-size=1g or --ipc=host.",
    ),
    Problem(
        id="gpu_link_width",
        severity="note",
        topic="gpu",
        evidence=_gpu_width,
        meaning="The PCIe link uses fewer lanes than GPU and slot support. Copies between host and "
        "GPU, and between GPUs without NVLink, are slower.",
        remedy="Use another slot or another machine type; otherwise consider the slower copies in "
        "comparisons.",
    ),
    Problem(
        id="gpu_persistence",
        severity="note",
        topic="gpu",
        evidence=_gpu_persistence,
        meaning="The driver may unload between runs. Every run is a new process, so each start can "
        "take seconds longer.",
        remedy="Run as root: nvidia-smi -pm 1.",
    ),
)
