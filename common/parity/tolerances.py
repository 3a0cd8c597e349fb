"""How equal is equal: one table by dtype, set from measurement (see WORKSPACE.md, Parity)."""

import dataclasses

import numpy as np

from common.config.model_spec import Arrays


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tolerance:
    """Largest differences that count as equal.

    Attributes:
      loss: relative, at every step.
      gradient: relative to max(the tensor's norm, 1e-2 x the global norm), which a tensor with a
        mathematically zero gradient (attention key biases) does not break.
      parameter: absolute, at every step; None: not compared.
      logits: absolute, at every step. Between trajectories: parameters may have parted by their
        own bound. Against the NumPy reference at equal parameters: a tenth of it.
      gradient_steps: how many first steps the gradient bound holds for; None: all.
    """

    loss: float
    gradient: float
    parameter: float | None
    logits: float
    gradient_steps: int | None = None


FLOAT64 = Tolerance(loss=1e-12, gradient=1e-12, parameter=1e-10, logits=1e-11)
FLOAT64_DEVICES = dataclasses.replace(FLOAT64, parameter=1e-11)
"""N devices against one, ten steps."""
FLOAT32 = Tolerance(loss=1e-5, gradient=1e-5, parameter=None, logits=1e-4, gradient_steps=1)
"""First ten steps; gradients of the first step only: float32 trajectories really part ways."""

BFLOAT16 = Tolerance(loss=2e-3, gradient=5e-2, parameter=None, logits=2e-1, gradient_steps=1)
"""Measured on gpt_tiny: gradients within 1.0e-2 of float32 in each framework (mean 0.5e-2). A sum
taken in bfloat16 by mistake (a bias's gradient, an embedding's) shows as 1e-1 or more."""


def relative_difference(a: float, b: float) -> float:
    """|a - b| / |b|; infinite where one of them is not finite."""
    if not (np.isfinite(a) and np.isfinite(b)):
        return float("inf")
    return abs(a - b) / max(abs(b), np.finfo(np.float64).tiny)


def gradient_differences(ours: Arrays, theirs: Arrays) -> dict[str, float]:
    """Returns name -> norm of the difference / max(norm, 1e-2 x global norm)."""
    norms = {name: float(np.linalg.norm(value)) for name, value in theirs.items()}
    floor = 1e-2 * float(np.sqrt(sum(norm**2 for norm in norms.values())))
    return {
        name: _finite(np.linalg.norm(ours[name] - theirs[name]) / max(norms[name], floor))
        for name in theirs
    }


def absolute_differences(ours: Arrays, theirs: Arrays) -> dict[str, float]:
    """Returns name -> largest absolute difference; infinite where a value is not finite."""
    return {name: _finite(np.abs(ours[name] - theirs[name]).max()) for name in theirs}


def _finite(value: float | np.floating) -> float:
    """A difference that is not a number is larger than any bound."""
    return float(value) if np.isfinite(value) else float("inf")
