"""Judges one run by the NumPy reference: every step at the run's own parameters, in float64."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from isoscale.common.config.initializers import Point
from isoscale.common.config.model_spec import Arrays, ModelSpec
from isoscale.common.config.optimizer_config import OptimizerConfig
from isoscale.common.parity.compare import Comparison
from isoscale.common.parity.tolerances import (
    SURPRISE_BOUND,
    Tolerance,
    absolute_differences,
    relative_difference,
    surprise,
)
from isoscale.common.parity.trace import Layout
from isoscale.common.reference.evaluation import Evaluation
from isoscale.common.reference.functions import weighted_loss
from isoscale.common.reference.optimizer import reference_update

NUMPY = "NumPy reference"
DRAWN = 20_000
"""Start values looked at for each tensor, by one seed after the other: so many tell a scale that is
off by 10 % from chance."""


def judge_forward(
    comparison: Comparison,
    spec: ModelSpec,
    tolerance: Tolerance,
    *,
    step: int,
    parameters: Arrays,
    batch: Arrays,
    logits: np.ndarray,
    metrics: Sequence[dict[str, float]],
) -> None:
    """Logits, loss and what an evaluation makes of the logits, at equal parameters.

    Args:
      comparison: takes the differences.
      spec, tolerance: of the run.
      step, parameters, batch: of the step; ``parameters`` before it.
      logits: of the forward pass alone.
      metrics: loss and its parts, from each call that gives them.
    """
    expected, auxiliary = spec.reference_forward(parameters, batch)
    difference = np.abs(np.subtract(logits, expected, dtype=np.float64)).max()
    value = float(difference) if np.isfinite(difference) else np.inf
    comparison.add("logits, absolute", step, {"": value}, tolerance.logits)
    losses = {"loss": weighted_loss(expected, batch)}
    if spec.auxiliary_loss_coefficient is not None:
        total = float((auxiliary * batch["group_weights"]).sum())
        losses["auxiliary_loss"] = total / float(batch["groups"])
        losses["cross_entropy"] = losses["loss"]
        losses["loss"] += spec.auxiliary_loss_coefficient * losses["auxiliary_loss"]
    values = {
        name: max(relative_difference(found[name], value) for found in metrics)
        for name, value in losses.items()
    }
    comparison.add("loss, relative", step, values, tolerance.reference_loss)
    ours, theirs = _evaluate(logits, batch), _evaluate(expected, batch)
    difference = relative_difference(ours["loss"], theirs["loss"])
    comparison.add("evaluation loss, relative", step, {"": difference}, tolerance.reference_loss)
    # A share of whole labels: in float64 it is equal or wrong, in less two logits may be too near.
    exact = 0.0 if tolerance.update is not None else None
    difference = abs(ours["accuracy"] - theirs["accuracy"])
    comparison.add("evaluation accuracy, absolute", step, {"": difference}, exact)


def _evaluate(logits: np.ndarray, batch: Arrays) -> dict[str, float]:
    evaluation = Evaluation()
    evaluation.add(logits, batch)
    return evaluation.result()


def judge_update(
    comparison: Comparison,
    spec: ModelSpec,
    optimizer: OptimizerConfig,
    tolerance: Tolerance,
    layout: Layout,
    *,
    step: int,
    before: dict[str, Any],
    gradients: Arrays,
    after: dict[str, Any],
) -> None:
    """One update: clipping, schedule, decay and moments, from equal parameters and gradients.

    Args:
      before, after: ``parameters`` and ``state`` around the step.
      gradients: of the global loss, before clipping.
    """
    if tolerance.update is None:
        return
    parameters, slots = reference_update(
        optimizer,
        before["parameters"],
        gradients,
        before["state"].slots,
        step=step,
        decayed={p.name for p in spec.parameters() if p.decay},
    )
    for kind, expected in {"parameters": parameters, **slots}.items():
        found = after["parameters"] if kind == "parameters" else after["state"].slots[kind]
        values = absolute_differences(layout.flat(found), layout.flat(expected), layout.starts)
        name = f"update of {kind}, absolute"
        comparison.add_tensors(name, step, layout.names, values, tolerance.update)
    comparison.add("updates counted", step, {"": abs(after["state"].step - step - 1)}, 0.0)


def judge_initializers(spec: ModelSpec, *, seed: int) -> Comparison:
    """Compares start values with the distribution that their initialiser states.

    The test is that of Kolmogorov and Smirnov; the figure is the largest -log10 of p.
    """
    comparison = Comparison("definition of the initialisers")
    values = {}
    for parameter in spec.parameters():
        stated = parameter.initializer.distribution(parameter.sizes)
        if isinstance(stated, Point):
            equal = parameter.initial_value(seed=seed) == stated.value
            values[parameter.name] = 0.0 if np.all(equal) else np.inf
            continue
        seeds = range(seed, seed + math.ceil(DRAWN / parameter.size))
        drawn = [parameter.initial_value(seed=s).ravel() for s in seeds]
        value = np.concatenate(drawn)[:DRAWN].astype(np.float64)
        values[parameter.name] = surprise(stats.kstest(value, stated.cdf).pvalue)
    comparison.add("initial values, -log10 of p", 0, values, SURPRISE_BOUND)
    return comparison
