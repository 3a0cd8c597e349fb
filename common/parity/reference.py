"""Compares each step of a run with the NumPy reference, in float64, at the run's parameters."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from isoscale.common.config.initializers import Constant
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
"""Start values tested for each tensor, drawn with successive seeds: enough to detect a scale that
is wrong by 10 %."""


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
    large: bool = False,
) -> None:
    """Compares logits, loss and evaluation with the reference, at equal parameters.

    Args:
      comparison: takes the differences.
      spec, tolerance: model and bounds of the run.
      step, parameters, batch: the step, the parameters before the step, and its batch.
      logits: result of the forward pass alone.
      metrics: loss and its parts, once from each call that returns them.
      large: True for large activations: the difference of logits is relative to the largest logit.
    """
    expected, auxiliary = spec.reference_forward(parameters, batch)
    difference = np.abs(np.subtract(logits, expected, dtype=np.float64)).max()
    value = float(difference) if np.isfinite(difference) else np.inf
    if large:
        value /= max(1.0, float(np.abs(expected).max()))
    kind = "logits, relative to the largest" if large else "logits, absolute"
    comparison.add(kind, step, {"": value}, tolerance.logits)
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
    # Accuracy counts whole labels. In float64 it must be equal. With less precision, rounding may
    # swap two close logits.
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
    """Compares one update (clipping, schedule, decay, moments) with the reference.

    Both updates start from equal parameters and gradients.

    Args:
      comparison: takes the differences.
      spec, optimizer, tolerance: model, optimizer and bounds of the run.
      layout: order of the tensors in flat arrays.
      step: number of the step: 0, 1, ...
      before, after: ``parameters`` and ``state`` before and after the step.
      gradients: gradients of the global loss, before clipping.
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
    """Returns the comparison of start values with the distribution of their initialiser.

    A Kolmogorov-Smirnov test gives p for each tensor; the figure is the largest -log10 of p.
    """
    from scipy import stats  # late: scipy loads slowly, and a refused command needs none of it

    comparison = Comparison("definition of the initialisers")
    values = {}
    for parameter in spec.parameters():
        stated = parameter.initializer.distribution(parameter.sizes)
        if isinstance(stated, Constant):
            equal = parameter.initial_value(seed=seed) == stated.value
            values[parameter.name] = 0.0 if np.all(equal) else np.inf
            continue
        seeds = range(seed, seed + math.ceil(DRAWN / parameter.size))
        drawn = [parameter.initial_value(seed=s).ravel() for s in seeds]
        value = np.concatenate(drawn)[:DRAWN].astype(np.float64)
        values[parameter.name] = surprise(stats.kstest(value, stated.cdf).pvalue)
    comparison.add("initial values, -log10 of p", 0, values, SURPRISE_BOUND)
    return comparison
