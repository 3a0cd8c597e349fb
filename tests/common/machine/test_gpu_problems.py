"""Known problems of GPUs: each case has facts with the problem and similar facts without."""

import pytest

from isoscale.common.machine import gpu_problems
from isoscale.common.machine.describe import UNKNOWN
from tests.common.machine.facts import (
    CUDA12,
    CUDA13,
    ELSEWHERE,
    GPU,
    JAX,
    MIB,
    ON_GPU,
    TORCH,
    Case,
    check,
    names,
)

CASES: list[Case] = [
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
        "small_shared_memory",
        {"gpus": [GPU, GPU], "settings/shared_memory_bytes": 64 * MIB},
        "64 MiB, and the machine has 2 GPUs",
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


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
def test_a_problem_is_found_in_its_facts_and_not_in_similar_facts(case: Case) -> None:
    check(case)


def test_every_problem_has_a_case() -> None:
    assert {entry.id for entry in gpu_problems.PROBLEMS} == {case[0] for case in CASES}
