"""Functions on batches, metrics and gradients that the runners of all frameworks share."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isoscale.common.config.counts import counted
from isoscale.common.config.model_spec import Arrays, ModelSpec

LOSS, CROSS_ENTROPY, AUXILIARY_LOSS = "loss", "cross_entropy", "auxiliary_loss"


def metric_names(spec: ModelSpec) -> list[str]:
    """Returns the metrics of a step: the loss and, with an auxiliary loss, its two parts."""
    parts = spec.auxiliary_loss_coefficient is not None
    return [LOSS, CROSS_ENTROPY, AUXILIARY_LOSS] if parts else [LOSS]


def stack_pool(batches: Sequence[Arrays]) -> Arrays:
    """Returns name -> the arrays of all batches, stacked along a new first dim."""
    return {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}


def split_scalars(batch: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits a batch of NumPy or framework arrays; returns (arrays with a batch dim, scalars).

    Gradient accumulation cuts the arrays into parts and passes all scalars to every part.
    """
    rows = {name: value for name, value in batch.items() if value.ndim}
    scalars = {name: value for name, value in batch.items() if not value.ndim}
    return rows, scalars


def unroll(totals: Arrays, *, steps: int | None) -> list[dict[str, float]]:
    """Returns one row of metrics for each step of a handle.

    Args:
      totals: metric -> value over the global batch: a scalar, or shape [steps] for a block.
      steps: number of steps of a block; None: the handle belongs to one step.
    """
    if steps is None:
        return [{name: float(value) for name, value in totals.items()}]
    return [{name: float(values[i]) for name, values in totals.items()} for i in range(steps)]


def check_logits(spec: ModelSpec, shape: Sequence[int], dtype: str, *, wanted: str) -> None:
    """Checks what a model returns; a wrong model of a user's own would train without an error.

    Args:
      spec: the model's specification.
      shape, dtype: of the logits.
      wanted: dtype of the run.

    Raises:
      ValueError: the logits have another number of classes, or another dtype.
    """
    if shape[-1] != spec.num_logits:
        raise ValueError(
            f"the model returns {counted(shape[-1], 'logit')} for each label, but the spec has "
            f"{spec.num_logits} classes"
        )
    if dtype != wanted:
        raise ValueError(
            f"the model returns {dtype} logits in a run with dtype={wanted}: build() must use its "
            "argument dtype for products and activations"
        )


def without_gradient(gradients: Mapping[str, Any]) -> ValueError:
    """Returns the error that names the parameters on which the loss does not depend.

    Args:
      gradients: canonical name -> gradient; None: the framework has no gradient for the parameter.
    """
    names = ", ".join(name for name, gradient in gradients.items() if gradient is None)
    return ValueError(f"the loss has no gradient for {names}: the model does not use it")
