"""Known problems of frameworks: each case has facts with the problem and facts without."""

import pytest

from isoscale.common.machine import gpu_problems, problems
from isoscale.common.machine.describe import UNKNOWN
from isoscale.common.registry import lookup
from tests.common.machine.facts import (
    ALL,
    AMD,
    COMPILER,
    CUDA13,
    DISTURBED_JAX,
    GPU,
    MADVISE,
    ONE_JAX,
    ONE_TORCH,
    SLOW,
    TENSORFLOW,
    TORCH,
    Case,
    check,
    names,
    product,
)

CASES: list[Case] = [
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
    ("page_faults", {**MADVISE, **ONE_JAX}, "glibc 2.36", ONE_JAX),
    (
        "page_faults",
        {**MADVISE, **ONE_JAX},
        "JAX 0.10.2",
        {**MADVISE, **ONE_JAX, "settings/c_library": "glibc 2.31"},  # lacks this tunable
    ),
    (
        "page_faults_never",
        {"settings/transparent_huge_pages": "never", **ONE_JAX},
        "'never'",
        {"settings/transparent_huge_pages": "never", **ONE_TORCH},
    ),
    ("jax_cpu_collectives", ONE_JAX, "4 cores", {**ONE_JAX, "machine/available_cores": [0]}),
    (
        "torchrun_threads",
        ONE_TORCH,
        "4 cores",
        {**ONE_TORCH, "machine/available_cores": [0]},
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
]


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
def test_a_problem_is_found_in_its_facts_and_not_in_similar_facts(case: Case) -> None:
    check(case)


def test_every_problem_has_a_case() -> None:
    of_machines = {p.id for p in (*problems.PROBLEMS, *gpu_problems.PROBLEMS)}
    assert {p.id for p in lookup.problems()} - of_machines == {case[0] for case in CASES}
