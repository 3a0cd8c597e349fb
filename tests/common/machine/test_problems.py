"""Every known problem: facts that show it, and facts next to them that do not."""

import copy
from typing import Any

import pytest

from isoscale.common.machine import problems
from isoscale.common.machine.describe import UNKNOWN

MIB, GIB = 2**20, 2**30


def product(rate: float, *, core_share: float = 1.0) -> dict[str, Any]:
    return {
        "size": 1024,
        "best_flops_per_second": rate * 1e9,
        "median_flops_per_second": rate * 1e9,
        "n": 9,
        "core_share": core_share,
    }


def framework(name: str, version: str, **facts: Any) -> dict[str, Any]:
    return {
        "status": "ok",
        "interpreter": {"python": "3.12.4", "executable": "/venv/bin/python"},
        "versions": {name: version, "numpy": "2.4.6"},
        "cuda_packages": [],
        "environment_set": {},
        "devices": ["cpu"],
        "build": "CPU only",
        "cuda": None,
        "matrix_library": UNKNOWN,
        "instruction_set": UNKNOWN,
        "threads": 1,
        "tf32_by_default": UNKNOWN,
        "matrix_product": UNKNOWN,
        "gpu": None,
        **facts,
    }


GPU = {
    "name": "GPU", "memory": "80000 MiB", "memory_used": "1 MiB", "utilization": "0 %",
    "driver": "580.1", "pcie_generation": "1", "pcie_generation_max": "5", "pcie_width": "16",
    "pcie_width_max": "16", "persistence_mode": "Enabled", "sm_clock": "345 MHz",
    "sm_clock_max": "1980 MHz", "power_limit": "700.00 W",
}  # fmt: skip
COMPILER = {"name": "g++", "found": "/usr/bin/g++", "python_headers": True}
JAX = framework("jax", "0.10.2", matrix_product=product(100.0))
TENSORFLOW = framework("tensorflow", "2.21.0", matrix_product=product(98.0))
TORCH = framework(
    "torch",
    "2.13.0+cpu",
    matrix_product=product(95.0),
    mkl_takes_for_intel=False,
    compiler=COMPILER,
)
QUIET: dict[str, Any] = {
    "machine": {
        "cpu_model": "A processor",
        "cpu_vendor": "GenuineIntel",
        "instruction_sets": ["avx2", "avx512f"],
        "architecture": "x86_64",
        "physical_cores": 4,
        "logical_cores": 4,
        "available_cores": [0, 1, 2, 3],
        "operating_system": "Linux-6.1-x86_64-with-glibc2.36",
        "python": "3.12.4",
    },
    "settings": {
        "affinity": [0, 1, 2, 3],
        "cpu_quota": None,
        "memory": {
            "total_bytes": 64 * GIB,
            "available_bytes": 60 * GIB,
            "limit_bytes": None,
            "swap_used_bytes": 0,
        },
        "transparent_huge_pages": "always",
        "clocks": {
            "driver": "acpi-cpufreq",
            "governors": ["performance"],
            "boost": "off",
            "current_mhz": [3000.0, 3000.0],
        },
        "virtual_machine": False,
        "load_average": [0.1, 0.1, 0.1],
        "shared_memory_bytes": 32 * GIB,
        "disk_free_bytes": 100 * GIB,
        "c_library": "glibc 2.36",
    },
    "activity": {"seconds": 1.0, "busy_cpus": 0.05, "stolen": 0.0},
    "gpus": [],
    "gpu_driver_fails": False,
    "cuda_of_driver": UNKNOWN,
    "environment": {},
    "tested_versions": {"jax": "0.10.2", "torch": "2.13.0", "numpy": "2.4.6"},
    "frameworks": {},
}


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """Returns the quiet facts with some changed; ``a/b`` is facts["a"]["b"]."""
    facts = copy.deepcopy(QUIET)
    for path, value in changes.items():
        *folders, last = path.split("/")
        place = facts
        for folder in folders:
            place = place[folder]
        place[last] = copy.deepcopy(value)
    return facts


def found(changes: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {entry["id"]: entry for entry in problems.find(changed(changes))}


AMD = {"machine/cpu_vendor": "AuthenticAMD"}
MADVISE = {"settings/transparent_huge_pages": "madvise"}
ONE_JAX, ONE_TORCH = {"frameworks/jax": JAX}, {"frameworks/torch": TORCH}
ALL = {**ONE_JAX, "frameworks/tensorflow": TENSORFLOW, **ONE_TORCH}
DISTURBED_JAX = {**JAX, "matrix_product": product(99.0, core_share=0.5)}
SLOW = {"frameworks/torch": {**TORCH, "matrix_product": product(50.0)}}
ON_GPU = {"devices": ["cuda:0"], "matrix_product": UNKNOWN}
CUDA12 = {**TENSORFLOW, "cuda": "12.5.1", "gpu": ON_GPU}
CUDA13 = {**TORCH, "cuda": "13.0", "gpu": ON_GPU}
ELSEWHERE = {"python": "3.12.4", "executable": "/other/bin/python"}

CASES = [
    # id, facts that show it, part of the evidence, facts that do not show it
    ("python_version", {"machine/python": "3.10.14"}, "3.10.14", {"machine/python": "3.13.1"}),
    (
        "python_version",
        {"frameworks/jax": {**JAX, "interpreter": {**ELSEWHERE, "python": "3.14.0"}}},
        "jax: Python 3.14.0",
        ONE_JAX,
    ),
    ("few_cores", {"machine/available_cores": [2]}, "1 physical", {}),
    ("cpu_quota", {"settings/cpu_quota": 1.5}, "1.5 CPUs", {"settings/cpu_quota": 4.0}),
    ("cpu_quota", {"settings/cpu_quota": 3.9}, "4 cores", {"settings/cpu_quota": UNKNOWN}),
    ("busy", {"activity/busy_cpus": 1.7}, "1.7 of", {"activity/busy_cpus": 0.3}),
    ("gpu_driver_fails", {"gpu_driver_fails": True}, "nvidia-smi", {"gpu_driver_fails": False}),
    (
        "gpu_driver_too_old",
        {"gpus": [GPU], "cuda_of_driver": "12.8", "frameworks/torch": CUDA13},
        "torch CUDA 13.0",
        {"gpus": [GPU], "cuda_of_driver": "13.1", "frameworks/torch": CUDA13},
    ),
    (
        "gpu_product_failed",
        {
            "gpus": [GPU],
            "frameworks/torch": {**CUDA13, "gpu": {**ON_GPU, "product_error": "out of memory"}},
        },
        "torch: out of memory",
        {"gpus": [GPU], "frameworks/torch": CUDA13},
    ),
    (
        "gpu_not_seen",
        {"gpus": [GPU], "frameworks/torch": {**TORCH, "gpu": {"devices": []}}},
        "torch",
        {
            "gpus": [GPU],
            "frameworks/torch": {**TORCH, "gpu": {"devices": [], "product_error": "memory"}},
        },
    ),
    ("steal_time", {"activity/stolen": 0.05}, "5.0 %", {"activity/stolen": UNKNOWN}),
    (
        "little_memory",
        {"settings/memory/available_bytes": 2 * GIB},
        "2.0 GiB of 64.0 GiB",
        {"settings/memory/available_bytes": 5 * GIB},
    ),
    ("little_disk", {"settings/disk_free_bytes": 100 * MIB}, "0.1 GiB", {}),
    ("mkl_slow_here", {**AMD, **ALL, **SLOW}, "torch 50", {**ALL, **SLOW}),
    ("mkl_slow_here", {**AMD, **ALL, **SLOW}, "jax 100", {**AMD, **ALL}),
    (
        "mkl_slow_here",
        {**AMD, **ALL, **SLOW},
        "AuthenticAMD with avx512f",
        {**AMD, **ALL, **SLOW, "machine/instruction_sets": ["avx2"]},
    ),
    (
        "mkl_slow_here",
        {**AMD, **ALL, **SLOW},
        "tensorflow 98",
        {**AMD, **ALL, **SLOW, "frameworks/jax": DISTURBED_JAX},
    ),
    ("mkl_without_avx512", {**AMD, **ALL}, "torch 95", {**AMD, **ALL, **SLOW}),
    (
        "mkl_without_avx512",
        {**AMD, "frameworks/torch": {**TORCH, "matrix_product": product(9, core_share=0.4)}},
        "disturbed by other programs: torch",
        {**AMD, "frameworks/torch": {**TORCH, "mkl_takes_for_intel": True}},
    ),
    (
        "mkl_without_avx512",
        {**AMD, "frameworks/torch": {**TORCH, "matrix_product": UNKNOWN}},
        "GFLOP/s: unknown",
        {**AMD, "frameworks/torch": {**TORCH, "mkl_takes_for_intel": UNKNOWN}},
    ),
    (
        "cuda_versions_clash",
        {"gpus": [GPU], "frameworks/tensorflow": CUDA12, "frameworks/torch": CUDA13},
        "tensorflow CUDA 12.5.1, torch CUDA 13.0",
        {"frameworks/tensorflow": CUDA12, "frameworks/torch": CUDA13},
    ),
    (
        "cuda_versions_clash",
        {"gpus": [GPU], "frameworks/tensorflow": CUDA12, "frameworks/torch": CUDA13},
        "/venv/bin/python",
        {
            "gpus": [GPU],
            "frameworks/tensorflow": CUDA12,
            "frameworks/torch": {**CUDA13, "interpreter": ELSEWHERE},
        },
    ),
    (
        "gpu_not_seen",
        {"gpus": [GPU], "frameworks/torch": {**TORCH, "gpu": {"devices": []}}},
        "torch (CPU only)",
        {"gpus": [GPU], "frameworks/torch": CUDA13},
    ),
    (
        "gpu_not_seen",
        {
            "gpus": [GPU],
            "environment/CUDA_VISIBLE_DEVICES": "",
            "frameworks/jax": {**JAX, "gpu": {"error": "RuntimeError: no cuda"}},
        },
        "RuntimeError: no cuda); CUDA_VISIBLE_DEVICES='' is set",
        {"gpus": [GPU], "frameworks/jax": {**JAX, "gpu": {"devices": UNKNOWN}}},
    ),
    ("gpu_busy", {"gpus": [{**GPU, "utilization": "97 %"}]}, "97 %", {"gpus": [GPU]}),
    (
        "environment",
        {"environment": {"LD_PRELOAD": "x.so"}},
        "LD_PRELOAD='x.so'",
        {"environment": {"TF_CPP_MIN_LOG_LEVEL": "2"}},
    ),
    (
        "environment",
        {
            "environment": {"XLA_FLAGS": "--a"},
            "frameworks/jax": {**JAX, "environment_set": {"XLA_FLAGS": "--b"}},
        },
        "(isoscale sets its own for jax on CPU)",
        {},
    ),
    (
        "other_versions",
        {"frameworks/jax": framework("jax", "0.11.0")},
        "jax 0.11.0 (tested: 0.10.2)",
        ONE_TORCH,  # a local part of a version (+cpu) is the same version
    ),
    (
        "other_versions",
        {"frameworks/torch": framework("torch", "2.14.1+cpu")},
        "torch 2.14.1+cpu (tested: 2.13.0)",
        {"frameworks/torch": framework("torch", "2.14.1"), "tested_versions": UNKNOWN},
    ),
    ("page_faults", {**MADVISE, **ONE_JAX}, "glibc 2.36", ONE_JAX),
    (
        "page_faults",
        {**MADVISE, **ONE_JAX},
        "'madvise'",
        {**MADVISE, **ONE_JAX, "environment": {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}},
    ),
    (
        "page_faults",
        {**MADVISE, **ONE_JAX, "environment": {"GLIBC_TUNABLES": "glibc.malloc.check=1"}},
        "JAX 0.10.2",
        {**MADVISE, **ONE_JAX, "settings/c_library": "glibc 2.31"},  # has no such tunable
    ),
    (
        "page_faults",
        {**MADVISE, **ONE_JAX},
        "'madvise'",
        {**MADVISE, **ONE_JAX, "environment": {"GLIBC_TUNABLES": "glibc.malloc.mmap_max=0"}},
    ),
    (
        "page_faults_never",
        {"settings/transparent_huge_pages": "never", **ONE_JAX},
        "'never'",
        {"settings/transparent_huge_pages": "never", **ONE_TORCH},
    ),
    ("virtual_machine", {"settings/virtual_machine": True}, "hypervisor", {}),
    (
        "frequency_governor",
        {"settings/clocks/governors": ["performance", "powersave"]},
        "powersave",
        {"settings/clocks/governors": UNKNOWN},
    ),
    ("boost", {"settings/clocks/boost": "on"}, "on", {"settings/clocks/boost": UNKNOWN}),
    ("hardware_threads", {"machine/logical_cores": 8}, "8 logical CPUs on 4", {}),
    (
        "affinity",
        {"settings/affinity": [0, 1]},
        "2 of 4",
        {"settings/affinity": UNKNOWN},
    ),
    (
        "swap",
        {"settings/memory/swap_used_bytes": GIB},
        "1.0 GiB",
        {"settings/memory/swap_used_bytes": UNKNOWN},
    ),
    ("jax_cpu_collectives", ONE_JAX, "4 cores", {**ONE_JAX, "machine/available_cores": [0]}),
    (
        "torchrun_threads",
        ONE_TORCH,
        "OMP_NUM_THREADS",
        {**ONE_TORCH, "environment": {"OMP_NUM_THREADS": "4"}},
    ),
    ("gloo_loopback", ONE_TORCH, "4 CPU devices", ONE_JAX),
    (
        "compiler_for_torch_compile",
        {"frameworks/torch": {**TORCH, "compiler": {**COMPILER, "found": None}}},
        "'g++' is not found",
        ONE_TORCH,
    ),
    (
        "compiler_for_torch_compile",
        {"frameworks/torch": {**TORCH, "compiler": {**COMPILER, "python_headers": False}}},
        "Python.h",
        ONE_JAX,
    ),
    (
        "cuda_build_without_gpu",
        {"frameworks/torch": {**TORCH, "cuda": "13.0"}},
        "CUDA 13.0",
        {"gpus": [GPU], "frameworks/torch": CUDA13},
    ),
    (
        "tensorflow_gpu_platform",
        {
            "machine/operating_system": "macOS-15.1-arm64-arm-64bit",
            "frameworks/tensorflow": TENSORFLOW,
        },
        "macOS",
        {"frameworks/tensorflow": TENSORFLOW},
    ),
    (
        "small_shared_memory",
        {"gpus": [GPU, GPU], "settings/shared_memory_bytes": 64 * MIB},
        "64 MiB and there are 2 GPUs",
        {"gpus": [GPU], "settings/shared_memory_bytes": 64 * MIB},
    ),
    (
        "gpu_link_width",
        {"gpus": [{**GPU, "pcie_width": "8"}]},
        "x8 of x16",
        {"gpus": [{**GPU, "pcie_width": UNKNOWN}]},
    ),
    (
        "gpu_persistence",
        {"gpus": [GPU, {**GPU, "persistence_mode": "Disabled"}]},
        "GPU 1",
        {"gpus": [{**GPU, "persistence_mode": UNKNOWN}]},
    ),
]


def test_a_quiet_machine_has_no_problems() -> None:
    assert found({}) == {}


@pytest.mark.parametrize(
    "name, shown, evidence, hidden", CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)]
)
def test_a_problem_shows_where_it_is_and_nowhere_else(name, shown, evidence, hidden) -> None:
    entry = found(shown)[name]
    assert evidence in entry["evidence"]
    assert entry["severity"] in ("problem", "note")
    assert entry["meaning"]
    assert entry["remedy"]
    assert name not in found(hidden)


def test_every_problem_has_a_case_and_a_name_of_its_own() -> None:
    names = [entry.id for entry in problems.PROBLEMS]
    assert len(set(names)) == len(names)
    assert set(names) == {case[0] for case in CASES}


def test_problems_come_before_notes() -> None:
    entries = problems.find(changed({**ONE_JAX, "settings/disk_free_bytes": 0}))
    assert [entry["severity"] for entry in entries] == ["problem", "note"]


def test_what_is_unknown_triggers_nothing() -> None:
    """Except what needs no such fact: these frameworks on four cores."""
    unknown = {
        **{f"machine/{name}": UNKNOWN for name in ("cpu_vendor", "instruction_sets")},
        **{f"machine/{name}": UNKNOWN for name in ("physical_cores", "logical_cores")},
        **{f"settings/{name}": UNKNOWN for name in set(QUIET["settings"]) - {"memory", "clocks"}},
        **{f"settings/clocks/{name}": UNKNOWN for name in QUIET["settings"]["clocks"]},
        "settings/memory/swap_used_bytes": UNKNOWN,
        "activity/stolen": UNKNOWN,
        "tested_versions": UNKNOWN,
        "gpus": [dict.fromkeys(GPU, UNKNOWN)] * 2,
        "frameworks/jax": framework(
            "jax", UNKNOWN, build=UNKNOWN, cuda=UNKNOWN, gpu={"devices": UNKNOWN}
        ),
    }
    assert set(found(unknown)) == {"jax_cpu_collectives"}


@pytest.mark.parametrize("status", ["missing", "failed"])
def test_a_framework_that_was_not_seen_triggers_nothing(status: str) -> None:
    assert found({"frameworks/torch": {"status": status, "error": "x"}}) == {}
