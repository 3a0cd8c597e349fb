"""Compares two runs step by step; keeps the largest difference and the first one out of bounds."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isoscale.common.config.records import from_record
from isoscale.common.parity.tolerances import (
    Tolerance,
    absolute_differences,
    gradient_differences,
    relative_difference,
    tensor_norms,
)
from isoscale.common.parity.trace import Layout, Record


@dataclasses.dataclass
class Difference:
    """One kind of difference, over all steps.

    Attributes:
      kind: the compared quantity and the measure of its difference.
      bound: the tightest bound of all steps; None: no step was judged.
      largest, step, tensor: the largest difference, its step and its tensor.
      nearest: (step, tensor, difference, bound) of the difference with the largest share of its
        bound; None: no step was judged.
      first_outside: (step, tensor, difference, bound) of the first difference out of bounds.
      by_step: step -> the largest difference of that step.
    """

    kind: str
    bound: float | None = None
    largest: float = -1.0
    step: int = 0
    tensor: str = ""
    nearest: tuple[int, str, float, float] | None = None
    first_outside: tuple[int, str, float, float] | None = None
    by_step: dict[int, float] = dataclasses.field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.first_outside is None

    @property
    def share(self) -> float:
        """Returns the largest share of its bound that a difference has; -1 without a bound."""
        return -1.0 if self.nearest is None else _share(*self.nearest[2:])

    @property
    def urgency(self) -> tuple[int, float]:
        """Returns a sort key: figures within bounds by ``share``, then those out of bounds.

        Of figures out of bounds, the one that left its bound at the earliest step comes last.
        """
        return (1, -self.first_outside[0]) if self.first_outside else (0, self.share)

    def add(self, step: int, values: Mapping[str, float], bound: float | None) -> None:
        """Adds the differences of one step.

        Args:
          step: 0, 1, ...
          values: tensor -> difference.
          bound: largest allowed difference; None: the step is not judged.
        """
        without_nan = {name: v if np.isfinite(v) else math.inf for name, v in values.items()}
        tensor, value = max(without_nan.items(), key=lambda item: item[1])
        self.by_step[step] = max(value, self.by_step.get(step, 0.0))
        if bound is not None:
            self.bound = bound if self.bound is None else min(bound, self.bound)
            if _share(value, bound) > self.share:
                self.nearest = (step, tensor, value, bound)
            if not value <= bound and self.first_outside is None:
                self.first_outside = (step, tensor, value, bound)
        if value > self.largest:
            self.largest, self.step, self.tensor = value, step, tensor

    def to_json(self) -> dict[str, Any]:
        by_step = [list(pair) for pair in self.by_step.items()]
        return {**dataclasses.asdict(self), "by_step": by_step}

    @classmethod
    def from_json(cls, record: Any) -> "Difference":
        """Returns the difference in a record that ``to_json`` made.

        JSON has no infinity: null stands for an infinite difference.

        Raises:
          ValueError: the record does not describe a difference.
        """
        read = from_record(_DifferenceRecord, record)

        def judged(entry: _Judged | None) -> tuple[int, str, float, float] | None:
            return entry and (entry[0], entry[1], _number(entry[2]), entry[3])

        return cls(
            kind=read.kind,
            bound=read.bound,
            largest=_number(read.largest),
            step=read.step,
            tensor=read.tensor,
            nearest=judged(read.nearest),
            first_outside=judged(read.first_outside),
            by_step={step: _number(value) for step, value in read.by_step},
        )

    def __str__(self) -> str:
        shown = self.first_outside or self.nearest
        step, tensor, value, bound = shown or (self.step, self.tensor, self.largest, None)
        quantity, _, measure = self.kind.partition(", ")
        where = f" of {tensor}" if tensor not in ("", quantity) else ""
        judged = "not judged" if bound is None else f"bound {bound:.1e}"
        about = f"{measure}; {judged}" if measure else judged
        return f"{quantity}{where} at step {step}: {value:.2e} ({about})"


_Judged = tuple[int, str, float | None, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _DifferenceRecord:
    """The JSON form of a ``Difference``."""

    kind: str
    bound: float | None
    largest: float | None
    step: int
    tensor: str
    nearest: _Judged | None
    first_outside: _Judged | None
    by_step: list[tuple[int, float | None]]


def _number(value: float | None) -> float:
    return math.inf if value is None else value


def _share(value: float, bound: float) -> float:
    return value / bound if bound else (math.inf if value else 0.0)


class Comparison:
    """The differences between a run and another run, or between a run and the reference."""

    def __init__(self, against: str):
        self.against = against
        self.figures: dict[str, Difference] = {}
        self.missing: str | None = None
        """Why the other side is missing; None: the other side exists."""

    def add(self, kind: str, step: int, values: Mapping[str, float], bound: float | None) -> None:
        """Adds the differences of one step to the figure of a kind; see ``Difference.add``."""
        if values:
            self.figures.setdefault(kind, Difference(kind)).add(step, values, bound)

    def add_tensors(
        self, kind: str, step: int, names: Sequence[str], values: np.ndarray, bound: float | None
    ) -> None:
        """Adds the differences of one step: ``values[i]`` is that of tensor ``names[i]``."""
        worst = int(values.argmax())
        outside = bound is not None and not values[worst] <= bound
        # The first tensor out of bounds, in the order of the model, is nearest to the cause.
        first = int(np.flatnonzero(values > bound)[0]) if outside else worst
        earlier = self.figures[kind].first_outside if kind in self.figures else None
        self.add(kind, step, {names[worst]: float(values[worst])}, bound)
        if outside and earlier is None:
            found = (step, names[first], float(values[first]), float(bound or 0))
            self.figures[kind].first_outside = found

    @property
    def ok(self) -> bool:
        return all(figure.ok for figure in self.figures.values())

    def to_json(self) -> dict[str, Any]:
        figures = [figure.to_json() for figure in self.figures.values()]
        return {"against": self.against, "missing": self.missing, "figures": figures}

    @classmethod
    def from_json(cls, record: Any) -> "Comparison":
        """Returns the comparison in a record of ``to_json``; see ``Difference.from_json``."""
        read = from_record(_ComparisonRecord, record)
        comparison = cls(read.against)
        comparison.missing = read.missing
        comparison.figures = {figure.kind: figure for figure in read.figures}
        return comparison


@dataclasses.dataclass(frozen=True, kw_only=True)
class _ComparisonRecord:
    against: str
    missing: str | None
    figures: list[Difference]


LOSS = "loss, relative"
NORM = "global gradient norm, relative"
CLIPPED_NORM = "global norm of clipped gradients, relative"
GRADIENTS = "gradients, relative to the norm"
PARAMETERS = "parameters, absolute"


def compare_steps(
    comparison: Comparison,
    ours: Record,
    theirs: Record,
    layout: Layout,
    tolerance: Tolerance,
    *,
    preset: bool = False,
    between_devices: bool = False,
) -> None:
    """Compares one step: the metrics of ``theirs``, and every array that both records have.

    Compares the gradients before clipping if both records have them. Compares the step's own
    gradients, reduced and clipped, in two cases: between N devices and one device, or if a record
    lacks the gradients before clipping.

    Args:
      comparison: takes the differences.
      ours, theirs: records of the same step.
      layout: of the flat arrays.
      tolerance: bounds of the dtype.
      preset: True for a named preset: large models have their own bound of gradients.
      between_devices: True: a strategy on N devices against one device without a strategy. False:
        two frameworks.
    """
    step = ours.step
    pairs = {name: (ours.metrics[name], value) for name, value in theirs.metrics.items()}
    values = {name: relative_difference(*pair) for name, pair in pairs.items()}
    comparison.add(LOSS, step, values, tolerance.loss_at(step))

    bound = tolerance.gradient_at(step, preset=preset)
    explicit = "gradients" in ours.arrays and "gradients" in theirs.arrays
    kinds = ["gradients"] if explicit else []
    if between_devices or not explicit:
        kinds.append("step_gradients")
    for kind in kinds:
        mine, other = ours.arrays[kind], theirs.arrays[kind]
        differences = gradient_differences(mine, other, layout.starts)
        comparison.add_tensors(GRADIENTS, step, layout.names, differences, bound)
        norms = (float(np.linalg.norm(tensor_norms(g, layout.starts))) for g in (mine, other))
        name = NORM if kind == "gradients" else CLIPPED_NORM
        comparison.add(name, step, {"": relative_difference(*norms)}, bound)

    bound = tolerance.parameter_at(step, between_devices=between_devices)
    for kind in ours.arrays:
        if kind not in theirs.arrays or kind in ("gradients", "step_gradients"):
            continue
        differences = absolute_differences(ours.arrays[kind], theirs.arrays[kind], layout.starts)
        name = PARAMETERS if kind == "parameters" else f"optimizer state {kind}, absolute"
        comparison.add_tensors(name, step, layout.names, differences, bound)
