"""Known problems of machines and frameworks: a table of conditions, each with its remedy.

An entry speaks only where the facts at hand show that it applies, and says which facts. What is
``unknown`` triggers nothing. Figures that are not of this machine say where they were measured.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any, Literal

from isoscale.common.machine.describe import UNKNOWN

Facts = dict[str, Any]
"""What ``isoscale doctor --json`` prints, less the problems."""

GIB = 2**30
_PYTHONS = ((3, 11), (3, 13))
# They decide what is shown, or are taken away from workers, or are meant: nothing to warn of.
_HARMLESS = {
    "GLOO_SOCKET_IFNAME",
    "JAX_TRACEBACK_FILTERING",
    "RANK",
    "TF_CPP_MIN_LOG_LEVEL",
    "WORLD_SIZE",
}
DISTURBED_SHARE = 0.9
"""A product that had its core for less of the time was disturbed by other programs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is known to go wrong, or to be misread.

    Attributes:
      id: a short name.
      severity: ``problem``: results suffer here; ``note``: good to know here.
      evidence: facts -> what shows that it applies here, or None.
      meaning: what it does.
      remedy: what helps, or that nothing is to be done.
    """

    id: str
    severity: Literal["problem", "note"]
    evidence: Callable[[Facts], str | None]
    meaning: str
    remedy: str


def find(facts: Facts) -> list[dict[str, str]]:
    """Returns the problems that apply, those that hurt first."""
    found = []
    for entry in PROBLEMS:
        evidence = entry.evidence(facts)
        if evidence is not None:
            found.append(
                {
                    "id": entry.id,
                    "severity": entry.severity,
                    "evidence": evidence,
                    "meaning": entry.meaning,
                    "remedy": entry.remedy,
                }
            )
    return sorted(found, key=lambda entry: entry["severity"] != "problem")


# What the conditions share.


def _number(value: Any) -> float | None:
    """Returns a figure, or None if it is unknown."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _ok(facts: Facts) -> dict[str, Facts]:
    """Returns the frameworks that were examined with success."""
    return {n: f for n, f in facts["frameworks"].items() if f["status"] == "ok"}


def _cores(facts: Facts) -> int:
    return len(facts["machine"]["available_cores"])


def _system(facts: Facts) -> str:
    return facts["machine"]["operating_system"].split("-")[0]


def gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"


def is_disturbed(product: dict[str, Any]) -> bool:
    """Whether other programs had the CPU core during a measurement of a matrix product."""
    return product["core_share"] < DISTURBED_SHARE


# The conditions, in the order of the table below.


def _python(facts: Facts) -> str | None:
    pythons = {"isoscale": facts["machine"]["python"]}
    pythons |= {n: f["interpreter"]["python"] for n, f in _ok(facts).items()}
    outside = [
        f"{name}: Python {version}"
        for name, version in pythons.items()
        if not _PYTHONS[0] <= tuple(map(int, version.split(".")[:2])) <= _PYTHONS[1]
    ]
    return ", ".join(outside) or None


def _few_cores(facts: Facts) -> str | None:
    return "1 physical core is usable" if _cores(facts) < 2 else None


def _smt(facts: Facts) -> str | None:
    physical = _number(facts["machine"]["physical_cores"])
    logical = _number(facts["machine"]["logical_cores"])
    if physical is None or logical is None or logical <= physical:
        return None
    return f"{logical:.0f} logical CPUs on {physical:.0f} physical cores"


def _affinity(facts: Facts) -> str | None:
    cpus, logical = facts["settings"]["affinity"], _number(facts["machine"]["logical_cores"])
    if cpus == UNKNOWN or logical is None or len(cpus) >= logical:
        return None
    return f"affinity allows CPUs {', '.join(map(str, cpus))}: {len(cpus)} of {logical:.0f}"


def _quota(facts: Facts) -> str | None:
    quota = _number(facts["settings"]["cpu_quota"])
    if quota is None or quota >= _cores(facts):
        return None
    return f"{quota:g} CPUs' worth of time is allowed, {_cores(facts)} cores are visible"


def _busy(facts: Facts) -> str | None:
    busy, load = facts["activity"]["busy_cpus"], facts["settings"]["load_average"]
    if busy < max(0.2, 0.1 * _cores(facts)):
        return None
    average = "" if load == UNKNOWN else f"; load average {load[0]:.1f} over 1 minute"
    return (
        f"measured before anything was started: {busy:.1f} of the usable CPUs were in use for "
        f"{facts['activity']['seconds']:g} s{average}"
    )


def _virtual(facts: Facts) -> str | None:
    if facts["settings"]["virtual_machine"] is not True:
        return None
    stolen = _number(facts["activity"]["stolen"])
    time = "unknown" if stolen is None else f"{100 * stolen:.1f} % (measured just now)"
    return f"the processor has the hypervisor flag; steal time {time}"


def _steal(facts: Facts) -> str | None:
    stolen = _number(facts["activity"]["stolen"])
    if stolen is None or stolen < 0.01:
        return None
    return f"{100 * stolen:.1f} % of the time was stolen (measured just now)"


def _governor(facts: Facts) -> str | None:
    clocks = facts["settings"]["clocks"]
    if clocks["governors"] in (UNKNOWN, ["performance"]):
        return None
    return f"governor {', '.join(clocks['governors'])}, driver {clocks['driver']}"


def _boost(facts: Facts) -> str | None:
    on = facts["settings"]["clocks"]["boost"] == "on"
    return "boost is on" if on and _cores(facts) > 1 else None


def _memory(facts: Facts) -> str | None:
    memory = facts["settings"]["memory"]
    if memory["available_bytes"] >= 4 * GIB:
        return None
    return f"{gib(memory['available_bytes'])} of {gib(memory['total_bytes'])} are available"


def _swap(facts: Facts) -> str | None:
    used = _number(facts["settings"]["memory"]["swap_used_bytes"])
    return f"{gib(used)} of swap is in use" if used is not None and used > 0.1 * GIB else None


def _disk(facts: Facts) -> str | None:
    free = _number(facts["settings"]["disk_free_bytes"])
    return f"{gib(free)} is free where results go" if free is not None and free < GIB else None


def _shared_memory(facts: Facts) -> str | None:
    size = _number(facts["settings"]["shared_memory_bytes"])
    if size is None or size > 64 * 2**20 or len(facts["gpus"]) < 2:
        return None
    return f"/dev/shm has {size / 2**20:.0f} MiB and there are {len(facts['gpus'])} GPUs"


def _page_faults(facts: Facts, *, mode: str) -> str | None:
    jax = _ok(facts).get("jax")
    library = re.fullmatch(r"glibc (\d+)\.(\d+)", facts["settings"]["c_library"])
    environment = facts["environment"]
    if (
        jax is None
        or library is None
        or (int(library[1]), int(library[2])) < (2, 35)
        or facts["settings"]["transparent_huge_pages"] != mode
        or re.search(r"malloc\.(hugetlb|mmap_max)", environment.get("GLIBC_TUNABLES", ""))
        or "malloc" in environment.get("LD_PRELOAD", "")
    ):
        return None
    return (
        f"JAX {jax['versions']['jax']}, {library[0]}, transparent huge pages '{mode}', "
        "GLIBC_TUNABLES without glibc.malloc.hugetlb and mmap_max"
    )


def _mkl(facts: Facts, *, slow: bool) -> str | None:
    torch, machine = _ok(facts).get("torch"), facts["machine"]
    if (
        torch is None
        or torch.get("mkl_takes_for_intel") is not False
        or machine["cpu_vendor"] in (UNKNOWN, "GenuineIntel")
        or "avx512f" not in machine["instruction_sets"]
    ):
        return None
    products = {
        name: entry["matrix_product"]
        for name, entry in _ok(facts).items()
        if entry["matrix_product"] != UNKNOWN
    }
    rates = {name: p["best_flops_per_second"] / 1e9 for name, p in products.items()}
    disturbed = [name for name, product in products.items() if is_disturbed(product)]
    # Disturbed figures prove nothing, and one framework has nothing to be slower than.
    shown = "torch" in rates and not disturbed and rates["torch"] < 0.8 * max(rates.values())
    if shown != slow:
        return None
    figures = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
    marks = f"; disturbed by other programs: {', '.join(disturbed)}" if disturbed else ""
    return (
        f"the processor is {machine['cpu_vendor']} with avx512f, and MKL's own check says that it "
        f"is not Intel's; best float32 product on one core, measured, in GFLOP/s: "
        f"{figures or UNKNOWN}{marks}"
    )


def _jax_collectives(facts: Facts) -> str | None:
    jax = _ok(facts).get("jax")
    if jax is None or _cores(facts) < 2:
        return None
    return f"JAX {jax['versions']['jax']}, {_cores(facts)} cores: several CPU devices are possible"


def _torchrun(facts: Facts) -> str | None:
    if "torch" not in _ok(facts) or _cores(facts) < 2:
        return None
    if "OMP_NUM_THREADS" in facts["environment"]:
        return None
    return "OMP_NUM_THREADS is not set"


def _gloo(facts: Facts) -> str | None:
    if "torch" not in _ok(facts) or _cores(facts) < 2:
        return None
    return f"PyTorch ddp can run on {_cores(facts)} CPU devices, one process each"


def _cuda_clash(facts: Facts) -> str | None:
    if not facts["gpus"]:
        return None
    shared: dict[str, dict[str, str]] = {}
    for name, entry in _ok(facts).items():
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
    for name, entry in _ok(facts).items():
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
        for name, entry in _ok(facts).items()
        if isinstance(entry["cuda"], str)
        and entry["cuda"] != UNKNOWN
        and int(entry["cuda"].split(".")[0]) > int(newest.split(".")[0])
    ]
    return f"the driver supports CUDA {newest} at most; {', '.join(wanted)}" if wanted else None


def _gpu_product(facts: Facts) -> str | None:
    failed = [
        f"{name}: {entry['gpu']['product_error']}"
        for name, entry in _ok(facts).items()
        if entry.get("gpu") and "product_error" in entry["gpu"]
    ]
    return "; ".join(failed) or None


def _cuda_without_gpu(facts: Facts) -> str | None:
    torch = _ok(facts).get("torch")
    if (
        torch is None
        or facts["gpus"]
        or facts["gpu_driver_fails"]
        or torch["cuda"] in (None, UNKNOWN)
    ):
        return None
    return f"PyTorch {torch['versions']['torch']} is built for CUDA {torch['cuda']}, no GPU shows"


def _gpu_busy(facts: Facts) -> str | None:
    busy = [
        f"GPU {index}: {gpu['utilization']}, {gpu['memory_used']} in use"
        for index, gpu in enumerate(facts["gpus"])
        if (_number_in(gpu["utilization"]) or 0) >= 10
    ]
    return "; ".join(busy) or None


def _gpu_width(facts: Facts) -> str | None:
    narrow = [
        f"GPU {index}: x{gpu['pcie_width']} of x{gpu['pcie_width_max']}"
        for index, gpu in enumerate(facts["gpus"])
        if (_number_in(gpu["pcie_width"]) or 0) < (_number_in(gpu["pcie_width_max"]) or 0)
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


def _number_in(text: str) -> float | None:
    """Returns the figure at the start of ``97 %`` or ``1024 MiB``."""
    match = re.match(r"\d+(\.\d+)?", text)
    return float(match[0]) if match else None


def _tensorflow_platform(facts: Facts) -> str | None:
    system = _system(facts)
    if "tensorflow" not in _ok(facts):
        return None
    if system == "macOS" or (system == "Windows" and facts["gpus"]):
        return f"TensorFlow {_ok(facts)['tensorflow']['versions']['tensorflow']} on {system}"
    return None


def _environment(facts: Facts) -> str | None:
    texts = []
    for name, value in facts["environment"].items():
        if name in _HARMLESS:
            continue
        setters = [n for n, f in _ok(facts).items() if name in f["environment_set"]]
        note = f" (isoscale sets its own for {', '.join(setters)} on CPU)" if setters else ""
        texts.append(f"{name}={value!r}{note}")
    return "; ".join(texts) or None


def _versions(facts: Facts) -> str | None:
    tested = facts["tested_versions"]
    if tested == UNKNOWN:
        return None
    different = {}
    for entry in _ok(facts).values():
        for name, version in entry["versions"].items():
            want = tested.get(name)
            if want and version != UNKNOWN and version.split("+")[0] != want:
                different[name] = f"{name} {version} (tested: {want})"
    return ", ".join(different.values()) or None


def _compiler(facts: Facts) -> str | None:
    compiler = _ok(facts).get("torch", {}).get("compiler")
    if compiler is None:
        return None
    lacks = [] if compiler["found"] else [f"the C++ compiler '{compiler['name']}' is not found"]
    if not compiler["python_headers"]:
        lacks.append("Python.h of its interpreter is not found")
    return " and ".join(lacks) or None


_MKL_REMEDY = (
    "No supported switch is known: MKL_ENABLE_INSTRUCTIONS and its like change nothing. Preloading "
    "a library that defines mkl_serv_intel_cpu_true does, unsupported by the vendor and in need of "
    "a C compiler: --tuning=tuned does it, or --tweaks=+mkl-as-intel alone, and reports say so."
)

PROBLEMS = (
    Problem(
        id="python_version",
        severity="problem",
        evidence=_python,
        meaning="isoscale is tested with Python 3.11 to 3.13 only.",
        remedy="Make the environment with one of them: make PYTHON=/path/to/python3.12 setup.",
    ),
    Problem(
        id="few_cores",
        severity="problem",
        evidence=_few_cores,
        meaning="A CPU device is a core of its own, so scaling over CPU devices cannot be "
        "measured here; --allow_oversubscription shows overhead and correctness only.",
        remedy="Compare frameworks with --devices=1, or use a machine with more cores.",
    ),
    Problem(
        id="cpu_quota",
        severity="problem",
        evidence=_quota,
        meaning="The container is stopped for tens of milliseconds whenever its share is used up: "
        "windows jump, and devices past the share add nothing.",
        remedy="Raise the limit (docker --cpus, the CPU limit of a pod), or stay below it with "
        "--devices.",
    ),
    Problem(
        id="busy",
        severity="problem",
        evidence=_busy,
        meaning="Other programs take time from the cores that are measured: figures come out "
        "slower and spread wider. isoscale marks such runs as disturbed.",
        remedy="End or wait for the other programs, then look again.",
    ),
    Problem(
        id="steal_time",
        severity="problem",
        evidence=_steal,
        meaning="The hypervisor gives this machine's processors to others: timings jump, and no "
        "setting in here helps.",
        remedy="Use a machine with dedicated cores, or more runs (--runs=6 or more) and the "
        "intervals.",
    ),
    Problem(
        id="little_memory",
        severity="problem",
        evidence=_memory,
        meaning="The default models have peaked at 0.3 to 1.0 GiB in a run on two cores; larger "
        "ones, or more processes, may be ended for lack of memory.",
        remedy="End other programs, raise the container's memory limit, or choose smaller models "
        "and batches.",
    ),
    Problem(
        id="little_disk",
        severity="problem",
        evidence=_disk,
        meaning="Results may not be written in full.",
        remedy="Free space, or put results elsewhere with --out_dir.",
    ),
    Problem(
        id="mkl_slow_here",
        severity="problem",
        evidence=lambda facts: _mkl(facts, slow=True),
        meaning="PyTorch multiplies matrices with MKL, which keeps its AVX-512 kernels for Intel "
        "processors: a gap to the other frameworks here is partly this library's choice, not "
        "PyTorch's.",
        remedy=_MKL_REMEDY,
    ),
    Problem(
        id="cuda_versions_clash",
        severity="problem",
        evidence=_cuda_clash,
        meaning="The frameworks want different CUDA libraries: installed together, one may find "
        "the other's, or none.",
        remedy="One interpreter per framework, made with pip install '.[cuda-jax]', "
        "'.[cuda-tensorflow]' and '.[cuda-torch]', and given as --python_jax=PATH and so on.",
    ),
    Problem(
        id="gpu_driver_fails",
        severity="problem",
        evidence=_driver_fails,
        meaning="Nothing is known of GPUs, and --platform=gpu cannot work: the driver is broken, "
        "or was updated without a restart.",
        remedy="Run nvidia-smi to see what it says; often restarting the machine helps.",
    ),
    Problem(
        id="gpu_driver_too_old",
        severity="problem",
        evidence=_driver_too_old,
        meaning="A framework built for a newer CUDA than the driver knows fails on the GPU.",
        remedy="A newer driver, or a build of the framework for the driver's CUDA version.",
    ),
    Problem(
        id="gpu_product_failed",
        severity="problem",
        evidence=_gpu_product,
        meaning="The framework sees the GPU and cannot multiply matrices on it.",
        remedy="If it lacks memory, end what uses the GPU or choose a smaller --sgemm_size.",
    ),
    Problem(
        id="gpu_not_seen",
        severity="problem",
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
        evidence=_gpu_busy,
        meaning="Another program computes on the GPU: figures measured meanwhile are wrong.",
        remedy="Wait for it, or choose other GPUs with CUDA_VISIBLE_DEVICES.",
    ),
    Problem(
        id="environment",
        severity="note",
        evidence=_environment,
        meaning="These environment variables can change results or speed. Where isoscale sets its "
        "own value, yours is without effect; the others act on every run.",
        remedy="unset what is not meant; every run records what was set (environment.json).",
    ),
    Problem(
        id="other_versions",
        severity="note",
        evidence=_versions,
        meaning="isoscale was tested, and its published figures were measured, with other "
        "versions.",
        remedy="pip install --constraint constraints.txt --editable '.[dev]' restores the tested "
        "ones; with yours, run the parity tests (make parity) before you trust a comparison.",
    ),
    Problem(
        id="mkl_without_avx512",
        severity="note",
        evidence=lambda facts: _mkl(facts, slow=False),
        meaning="PyTorch multiplies matrices with MKL, which keeps its AVX-512 kernels for Intel "
        "processors. The figures do not show that it costs much here; that depends on the "
        "processor, the sizes and the number of threads.",
        remedy=_MKL_REMEDY,
    ),
    Problem(
        id="page_faults",
        severity="note",
        evidence=lambda facts: _page_faults(facts, mode="madvise"),
        meaning="JAX on CPU gets large temporaries from glibc's malloc, page by page. It is not "
        "measured here what that costs; on a 2-core AMD machine a step of a small transformer took "
        "110 ms, and 74 ms with huge pages.",
        remedy="--tuning=tuned, or --tweaks=+huge-pages,+keep-memory for all frameworks of a "
        "comparison ('isoscale tweaks' has the variables).",
    ),
    Problem(
        id="page_faults_never",
        severity="note",
        evidence=lambda facts: _page_faults(facts, mode="never"),
        meaning="JAX on CPU gets large temporaries from glibc's malloc, page by page. It is not "
        "measured here what that costs; on a 2-core AMD machine a step of a small transformer took "
        "110 ms, and 74 ms with huge pages, which this system never gives.",
        remedy="--tuning=tuned, or --tweaks=+keep-memory for all frameworks of a comparison. As "
        "root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, then +huge-pages too.",
    ),
    Problem(
        id="virtual_machine",
        severity="note",
        evidence=_virtual,
        meaning="Neighbours on the same hardware make timings noisy, and clocks, caches and cores "
        "may not be what this system is told.",
        remedy="More runs (--runs=6 or more) and the intervals; compare within one session.",
    ),
    Problem(
        id="frequency_governor",
        severity="note",
        evidence=_governor,
        meaning="The clock follows the load, so a window may begin at a lower clock than the next.",
        remedy="As root: cpupower frequency-set -g performance (undo it afterwards).",
    ),
    Problem(
        id="boost",
        severity="note",
        evidence=_boost,
        meaning="One busy core may clock higher than several: part of what looks like a loss in "
        "scaling over CPU devices can be the clock.",
        remedy="For scaling figures switch boost off, as root: echo 1 > "
        "/sys/devices/system/cpu/intel_pstate/no_turbo where that file exists, else echo 0 > "
        "/sys/devices/system/cpu/cpufreq/boost.",
    ),
    Problem(
        id="hardware_threads",
        severity="note",
        evidence=_smt,
        meaning="Two hardware threads share a core. isoscale counts physical cores: it takes one "
        "thread of each, and leaves the others idle.",
        remedy="Nothing to do; keep other programs off all threads of the cores in use.",
    ),
    Problem(
        id="affinity",
        severity="note",
        evidence=_affinity,
        meaning="This process was started with a part of the machine's CPUs; devices are made from "
        "those alone.",
        remedy="Nothing to do if it is meant (taskset, Slurm, a container's cpuset).",
    ),
    Problem(
        id="swap",
        severity="note",
        evidence=_swap,
        meaning="Some memory was moved to disk; if isoscale's is among it, timings jump.",
        remedy="End programs that need much memory before measuring.",
    ),
    Problem(
        id="jax_cpu_collectives",
        severity="note",
        evidence=_jax_collectives,
        meaning="With JAX 0.10.2, collectives of several CPU devices on few cores could wait for "
        "each other forever (pmap, 4 devices on 2 cores). isoscale sets an XLA flag against it and "
        "bounds the steps in flight; its watchdog ends what hangs all the same.",
        remedy="Nothing to do in isoscale; in your own scripts "
        "XLA_FLAGS=--xla_cpu_enable_concurrency_optimized_scheduler=false.",
    ),
    Problem(
        id="torchrun_threads",
        severity="note",
        evidence=_torchrun,
        meaning="torchrun gives its workers OMP_NUM_THREADS=1 where it is not set. isoscale sets "
        "the threads of its CPU runs itself, from --threads_per_device.",
        remedy="Nothing to do in isoscale; in your own scripts set OMP_NUM_THREADS.",
    ),
    Problem(
        id="gloo_loopback",
        severity="note",
        evidence=_gloo,
        meaning="Between processes on CPU, gradients travel through gloo over TCP loopback: 27 MB "
        "took 16 ms on a 2-core AMD machine (a memory-shared all-reduce 9 to 10 ms). It is not "
        "measured here. Strategies that drive all devices from one process do not pay it.",
        remedy="Nothing to do; compare strategies with it in mind.",
    ),
    Problem(
        id="compiler_for_torch_compile",
        severity="note",
        evidence=_compiler,
        meaning="--compile_modes=torch:compile builds C++ on CPU and fails without it; eager, the "
        "default, does not need it.",
        remedy="Install a C++ compiler and Python's headers (Debian, Ubuntu: apt install g++ "
        "python3-dev), or name the compiler in CXX.",
    ),
    Problem(
        id="cuda_build_without_gpu",
        severity="note",
        evidence=_cuda_without_gpu,
        meaning="It works on the CPU and takes gigabytes of disk for CUDA; otherwise harmless.",
        remedy="Nothing to do. For the small build, in a new environment: "
        "pip install torch --index-url https://download.pytorch.org/whl/cpu.",
    ),
    Problem(
        id="tensorflow_gpu_platform",
        severity="note",
        evidence=_tensorflow_platform,
        meaning="TensorFlow's own packages use no GPU on this system: not on macOS, and not on "
        "native Windows since 2.11.",
        remedy="Use Linux, or WSL2 on Windows, for --platform=gpu.",
    ),
    Problem(
        id="small_shared_memory",
        severity="note",
        evidence=_shared_memory,
        meaning="NCCL passes data between GPUs of one machine through /dev/shm where they have no "
        "direct path, and fails if it is full.",
        remedy="Start the container with --shm-size=1g or --ipc=host.",
    ),
    Problem(
        id="gpu_link_width",
        severity="note",
        evidence=_gpu_width,
        meaning="The PCIe link has fewer lanes than GPU and slot could have: copies between host "
        "and GPU, and between GPUs without NVLink, are slower.",
        remedy="Another slot, or another machine type; else compare with it in mind.",
    ),
    Problem(
        id="gpu_persistence",
        severity="note",
        evidence=_gpu_persistence,
        meaning="The driver may unload between runs, and every run is a fresh process: its start "
        "can take seconds longer.",
        remedy="As root: nvidia-smi -pm 1.",
    ),
)
"""Every known problem; each has an id of its own."""
