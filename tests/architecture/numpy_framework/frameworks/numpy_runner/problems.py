"""Known problems of NumPy."""

from isoscale.common.machine.problem import Facts, Problem, examined


def _nothing_fused(facts: Facts) -> str | None:
    numpy = examined(facts).get("numpy")
    return f"NumPy {numpy['versions']['numpy']}" if numpy else None


PROBLEMS = (
    Problem(
        id="numpy_fuses_nothing",
        severity="note",
        topic="execution",
        evidence=_nothing_fused,
        meaning="NumPy runs each operation by itself and writes each result to memory.",
        remedy="No action is needed; use NumPy as a base for comparison.",
    ),
)
