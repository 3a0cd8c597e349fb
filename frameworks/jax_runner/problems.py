"""Known problems of JAX; see ``common/machine/problem.py``. Imports no framework."""

import re

from isoscale.common.machine.problem import Facts, Problem, cores, examined


def _page_faults(facts: Facts, *, mode: str) -> str | None:
    jax = examined(facts).get("jax")
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


def _jax_collectives(facts: Facts) -> str | None:
    jax = examined(facts).get("jax")
    if jax is None or cores(facts) < 2:
        return None
    return f"JAX {jax['versions']['jax']}, {cores(facts)} cores: several CPU devices are possible"


PROBLEMS = (
    Problem(
        id="page_faults",
        severity="note",
        topic="pages",
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
        topic="pages",
        evidence=lambda facts: _page_faults(facts, mode="never"),
        meaning="JAX on CPU gets large temporaries from glibc's malloc, page by page. It is not "
        "measured here what that costs; on a 2-core AMD machine a step of a small transformer took "
        "110 ms, and 74 ms with huge pages, which this system never gives.",
        remedy="--tuning=tuned, or --tweaks=+keep-memory for all frameworks of a comparison. As "
        "root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, then +huge-pages too.",
    ),
    Problem(
        id="jax_cpu_collectives",
        severity="note",
        topic="execution",
        evidence=_jax_collectives,
        meaning="With JAX 0.10.2, collectives of several CPU devices on few cores could wait for "
        "each other forever (pmap, 4 devices on 2 cores). isoscale sets an XLA flag against it and "
        "bounds the steps in flight; its watchdog ends what hangs all the same.",
        remedy="Nothing to do in isoscale; in your own scripts "
        "XLA_FLAGS=--xla_cpu_enable_concurrency_optimized_scheduler=false.",
    ),
)
