"""Known problems of machines: each case has facts with the problem and similar facts without."""

import pytest

from isoscale.common.machine import problem, problems
from isoscale.common.machine.describe import UNKNOWN
from isoscale.common.registry import lookup
from tests.common.machine.facts import (
    ELSEWHERE,
    GIB,
    GPU,
    JAX,
    MADVISE,
    MIB,
    ONE_JAX,
    ONE_TORCH,
    QUIET,
    Case,
    changed,
    check,
    found,
    framework,
    names,
)

CASES: list[Case] = [
    ("python_version", {"machine/python": "3.10.14"}, "3.10.14", {"machine/python": "3.14.1"}),
    (
        "python_version",
        {"frameworks/jax": {**JAX, "interpreter": {**ELSEWHERE, "python": "3.15.0"}}},
        "jax: Python 3.15.0",
        ONE_JAX,
    ),
    ("few_cores", {"machine/available_cores": [2]}, "1 physical", {}),
    ("cpu_quota", {"settings/cpu_quota": 1.5}, "1.5 CPUs", {"settings/cpu_quota": 4.0}),
    ("cpu_quota", {"settings/cpu_quota": 3.9}, "4 cores", {"settings/cpu_quota": UNKNOWN}),
    ("busy", {"activity/busy_cpus": 1.7}, "1.7 of", {"activity/busy_cpus": 0.3}),
    ("steal_time", {"activity/stolen": 0.05}, "5.0 %", {"activity/stolen": UNKNOWN}),
    (
        "little_memory",
        {"settings/memory/available_bytes": 2 * GIB},
        "2.0 GiB of 64.0 GiB",
        {"settings/memory/available_bytes": 5 * GIB},
    ),
    ("little_disk", {"settings/disk_free_bytes": 100 * MIB}, "0.1 GiB", {}),
    (
        "environment",
        {"environment": {"LD_PRELOAD": "x.so"}, "removed_variables": ["JAX_NEW", "LD_PRELOAD"]},
        "JAX_NEW; LD_PRELOAD='x.so'",
        {"environment": {"CUDA_VISIBLE_DEVICES": "0"}},
    ),
    (
        "other_versions",
        {"frameworks/jax": framework("jax", "0.11.0")},
        "jax 0.11.0 (tested: 0.10.2)",
        ONE_TORCH,  # the local part of a version (+cpu) is ignored
    ),
    (
        "other_versions",
        {"frameworks/torch": framework("torch", "2.14.1+cpu")},
        "torch 2.14.1+cpu (tested: 2.13.0)",
        {"frameworks/torch": framework("torch", "2.14.1"), "tested_versions": UNKNOWN},
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
]


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
def test_a_problem_is_found_in_its_facts_and_not_in_similar_facts(case: Case) -> None:
    check(case)


def test_every_problem_has_a_case() -> None:
    assert {entry.id for entry in problems.PROBLEMS} == {case[0] for case in CASES}


def test_problem_ids_are_unique() -> None:
    ids = [entry.id for entry in lookup.problems()]
    assert len(set(ids)) == len(ids)


def test_a_quiet_machine_has_no_problems() -> None:
    assert found({}) == {}


def test_problems_come_before_notes() -> None:
    entries = problem.find(changed({**ONE_JAX, "settings/disk_free_bytes": 0}), lookup.problems())
    assert [entry["severity"] for entry in entries] == ["problem", "note"]


def test_unknown_facts_cause_no_problem() -> None:
    """``jax_cpu_collectives`` appears: it needs only known facts (JAX and four cores)."""
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
def test_a_missing_or_failed_framework_causes_no_problem(status: str) -> None:
    assert found({"frameworks/torch": {"status": status, "error": "x"}}) == {}


def test_problems_are_grouped_by_topic() -> None:
    """The topic, not the file, decides the order: ``page_faults`` precedes ``virtual_machine``."""
    shown = found(
        {
            **MADVISE,
            **ONE_JAX,
            "settings/virtual_machine": True,
            "gpus": [GPU, GPU],
            "settings/shared_memory_bytes": MIB,
            "removed_variables": ["LD_PRELOAD"],
        }
    )
    assert list(shown) == [
        "environment",
        "page_faults",
        "virtual_machine",
        "jax_cpu_collectives",
        "small_shared_memory",
    ]
