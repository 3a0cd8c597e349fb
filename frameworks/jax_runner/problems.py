"""Known problems of JAX; see ``common/machine/problem.py``. Does not import JAX."""

import re

from isoscale.common.machine.problem import Facts, Problem, cores, examined


def _page_faults(facts: Facts, *, mode: str) -> str | None:
    jax = examined(facts).get("jax")
    library = re.fullmatch(r"glibc (\d+)\.(\d+)", facts["settings"]["c_library"])
    if (
        jax is None
        or library is None
        or (int(library[1]), int(library[2])) < (2, 35)
        or facts["settings"]["transparent_huge_pages"] != mode
    ):
        return None
    return f"JAX {jax['versions']['jax']}, {library[0]}, transparent huge pages '{mode}'"


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
        meaning="JAX on CPU gets large temporaries from glibc's malloc, page by page. The cost on "
        "this machine was not measured; on a 2-core AMD machine a step of a small transformer took "
        "110 ms, and 74 ms with huge pages.",
        remedy="Add --tuning=tuned, or --tweaks=+huge-pages,+keep-memory for all frameworks of a "
        "comparison ('isoscale tweaks' lists the variables).",
    ),
    Problem(
        id="page_faults_never",
        severity="note",
        topic="pages",
        evidence=lambda facts: _page_faults(facts, mode="never"),
        meaning="JAX on CPU gets large temporaries from glibc's malloc, page by page. The cost on "
        "this machine was not measured; on a 2-core AMD machine a step of a small transformer took "
        "110 ms, and 74 ms with huge pages. Huge pages are off in this system.",
        remedy="Add --tuning=tuned, or --tweaks=+keep-memory for all frameworks of a comparison. "
        "Or run as root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled; then add "
        "+huge-pages, too.",
    ),
    Problem(
        id="jax_cpu_collectives",
        severity="note",
        topic="execution",
        evidence=_jax_collectives,
        meaning="With JAX 0.10.2, collectives of several CPU devices on few cores could deadlock "
        "(pmap, 4 devices on 2 cores). isoscale sets an XLA flag against the deadlock and limits "
        "the steps in flight; its watchdog kills a run that still hangs.",
        remedy="No action needed in isoscale; in your own scripts set "
        "XLA_FLAGS=--xla_cpu_enable_concurrency_optimized_scheduler=false.",
    ),
)
