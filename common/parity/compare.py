"""Compares two traces step by step and says where they differ most."""

import dataclasses
from typing import Any

import numpy as np

from common.parity.tolerances import (
    Tolerance,
    absolute_differences,
    gradient_differences,
    relative_difference,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """One figure of a comparison: what, at which step, in which tensor, how much of what."""

    kind: str
    step: int
    name: str
    value: float
    bound: float

    @property
    def within(self) -> bool:
        return self.value <= self.bound

    def __str__(self) -> str:
        return (
            f"{self.kind} of {self.name} at step {self.step}: {self.value:.2e} "
            f"(bound {self.bound:.0e})"
        )


def compare_step(
    step: int, ours: dict[str, Any], theirs: dict[str, Any], tolerance: Tolerance
) -> list[Difference]:
    """Returns every difference between two records of ``common.parity.trace``."""
    found: list[Difference] = []
    for kind in ("gradients", "parameters"):
        if set(ours[kind]) != set(theirs[kind]):
            raise ValueError(f"{kind} differ in names: {set(ours[kind]) ^ set(theirs[kind])}")

    def add(kind: str, values: dict[str, float], bound: float) -> None:
        found.extend(
            Difference(kind=kind, step=step, name=name, value=value, bound=bound)
            for name, value in values.items()
        )

    if "initial" in ours:
        unequal = {
            name: float(not np.array_equal(ours["initial"][name], value))
            for name, value in theirs["initial"].items()
        }
        add("initial parameters not bit-identical", unequal, 0.0)
    for kind in ("metrics", "gradient_metrics"):
        values = {n: relative_difference(ours[kind][n], v) for n, v in theirs[kind].items()}
        add(f"relative difference ({kind})", values, tolerance.loss)
    if "logits" in ours:
        differences = absolute_differences({"": ours["logits"]}, {"": theirs["logits"]})
        add("logits", differences, tolerance.logits)
    if tolerance.gradient_steps is None or step < tolerance.gradient_steps:
        add(
            "relative gradient difference",
            gradient_differences(ours["gradients"], theirs["gradients"]),
            tolerance.gradient,
        )
    if tolerance.parameter is not None:
        differences = absolute_differences(ours["parameters"], theirs["parameters"])
        add("parameter difference", differences, tolerance.parameter)
        for slot, values in theirs["optimizer"].items() if "optimizer" in ours else ():
            bound = tolerance.parameter if slot != "step" else 0.0
            differences = absolute_differences(ours["optimizer"][slot], values)
            add(f"optimizer {slot}", differences, bound)
    return found


def worst(differences: list[Difference]) -> list[Difference]:
    """Returns the largest difference of each kind, and the first of each that is out of bounds."""
    largest: dict[str, Difference] = {}
    first: dict[str, Difference] = {}
    for entry in differences:
        old = largest.get(entry.kind)
        if old is None or entry.value > old.value:
            largest[entry.kind] = entry
        if not entry.within:
            first.setdefault(entry.kind, entry)
    return list(dict.fromkeys([*first.values(), *largest.values()]))
