"""Facts about a machine without problems, and functions that change these facts."""

import copy
from typing import Any

from isoscale.common.machine import problem
from isoscale.common.machine.describe import UNKNOWN
from isoscale.common.registry import lookup

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
    "removed_variables": [],
    "tested_versions": {"jax": "0.10.2", "torch": "2.13.0", "numpy": "2.4.6"},
    "frameworks": {},
}


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """Returns the quiet facts with changes; the key ``a/b`` means facts["a"]["b"]."""
    facts = copy.deepcopy(QUIET)
    for path, value in changes.items():
        *folders, last = path.split("/")
        place = facts
        for folder in folders:
            place = place[folder]
        place[last] = copy.deepcopy(value)
    return facts


def found(changes: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {entry["id"]: entry for entry in problem.find(changed(changes), lookup.problems())}


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


Case = tuple[str, dict[str, Any], str, dict[str, Any]]
"""(id of a problem, facts with the problem, a part of the evidence, facts without)."""


def names(cases: list[Case]) -> list[str]:
    """Returns the names of the cases for a parametrized test."""
    return [f"{index}-{case[0]}" for index, case in enumerate(cases)]


def check(case: Case) -> None:
    """Fails unless the first facts show the problem and the last facts do not."""
    name, shown, evidence, hidden = case
    entry = found(shown)[name]
    assert evidence in entry["evidence"]
    assert entry["severity"] in ("problem", "note")
    assert entry["meaning"]
    assert entry["remedy"]
    assert name not in found(hidden)
