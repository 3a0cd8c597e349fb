"""How equal is equal: one table by dtype, set from measurement (see WORKSPACE.md, Parity)."""

import dataclasses

import numpy as np

DEVICE_STEPS = 10
"""So many first steps N devices are held to a tighter bound on parameters than frameworks are."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tolerance:
    """Largest differences that count as equal; None: recorded, not judged.

    Attributes:
      loss: relative; of the loss and its parts.
      loss_steps: how many first steps that holds for; None: all.
      gradient: relative to max(the tensor's norm, 1e-2 x the global norm), which a tensor with a
        mathematically zero gradient (attention key biases) does not break; and of the global norm.
      gradient_steps: how many first steps that holds for; None: all.
      preset_gradient: ``gradient`` for the large sizes. Of the 13,000 inputs of ReLU in a step of
        ``mlp_large`` one may be nearer to 0 than float32 rounds, and its gradient is there or not:
        8.6e-5 was measured for one.
      parameter: absolute, at every step; of the optimizer's state too.
      device_parameter: the same between N devices and one, in the first ``DEVICE_STEPS`` steps.
      logits: absolute, at every step, against the NumPy reference at equal parameters.
      reference_loss: relative, as ``logits``.
      update: absolute; one update against the NumPy reference at equal parameters and gradients.
    """

    loss: float
    loss_steps: int | None = None
    gradient: float | None
    gradient_steps: int | None = None
    preset_gradient: float | None
    parameter: float | None
    device_parameter: float | None
    logits: float | None
    reference_loss: float
    update: float | None

    def loss_at(self, step: int) -> float | None:
        return self.loss if self.loss_steps is None or step < self.loss_steps else None

    def gradient_at(self, step: int, *, preset: bool) -> float | None:
        judged = self.gradient_steps is None or step < self.gradient_steps
        bound = self.preset_gradient if preset else self.gradient
        return bound if judged else None

    def parameter_at(self, step: int, *, between_devices: bool) -> float | None:
        return self.device_parameter if between_devices and step < DEVICE_STEPS else self.parameter


TOLERANCES = {
    "float64": Tolerance(
        loss=1e-12,
        gradient=1e-12,
        preset_gradient=1e-12,
        parameter=1e-10,
        device_parameter=1e-11,
        logits=1e-12,
        reference_loss=1e-12,
        update=1e-12,
    ),
    # Gradients of the first step only: float32 trajectories really part ways.
    "float32": Tolerance(
        loss=1e-5,
        loss_steps=10,
        gradient=1e-5,
        preset_gradient=3e-4,
        gradient_steps=1,
        parameter=None,
        device_parameter=None,
        logits=1e-4,
        reference_loss=1e-5,
        update=None,
    ),
    # Twice or three times what was measured, 2026-11-22, bare: parity sizes (but mixtures of
    # experts), mlp_medium, transformer_small and gpt_tiny. Between frameworks: loss 2.3e-3, first
    # gradients 7.8e-2 (norms and biases around the attention); logits 6.1e-2 from NumPy's.
    "bfloat16": Tolerance(
        loss=5e-3,
        loss_steps=10,
        gradient=1.6e-1,
        gradient_steps=1,
        preset_gradient=1.6e-1,
        parameter=None,
        device_parameter=None,
        logits=2e-1,
        reference_loss=5e-3,
        update=None,
    ),
}
# A router whose input is rounded to bfloat16 chooses another expert here and there, and logits of
# that token are others: 1.7 apart were measured, gradients 1.7e-1, the auxiliary loss 1.6e-2.
# So only losses are judged.
_ROUTED = dataclasses.replace(
    TOLERANCES["bfloat16"],
    loss=4e-2,
    reference_loss=4e-2,
    gradient=None,
    preset_gradient=None,
    logits=None,
)


def tolerance_of(dtype: str, *, routed: bool) -> Tolerance:
    """Returns the bounds of a dtype; ``routed``: for a mixture of experts."""
    return _ROUTED if routed and dtype == "bfloat16" else TOLERANCES[dtype]


ROUNDED_SHARE_BOUND = 0.99
"""Of a tensor rounded to bfloat16, every entry is a bfloat16 number. Of float32 sums over the 8
examples of a parity batch, up to half of the entries were."""

SURPRISE_BOUND = 9.0
"""What is less likely than 1e-9 is no accident."""


def surprise(p: float) -> float:
    """Returns -log10 of a probability, 300 at most."""
    return float(-np.log10(max(p, 1e-300)))


def relative_difference(a: float, b: float) -> float:
    """|a - b| / |b|; infinite where one of them is not finite."""
    if not (np.isfinite(a) and np.isfinite(b)):
        return float("inf")
    return abs(a - b) / max(abs(b), np.finfo(np.float64).tiny)


def tensor_norms(flat: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Returns the Euclidean norm of each tensor of a flat array."""
    return np.sqrt(np.add.reduceat(np.square(flat, dtype=np.float64), starts))


def gradient_differences(ours: np.ndarray, theirs: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Returns, for each tensor, norm of the difference / max(norm, 1e-2 x global norm)."""
    norms = tensor_norms(theirs, starts)
    floor = 1e-2 * np.sqrt(np.square(norms).sum())
    difference = np.subtract(ours, theirs, dtype=np.float64)
    scale = np.maximum(np.maximum(norms, floor), np.finfo(np.float64).tiny)
    return _finite(tensor_norms(difference, starts) / scale)


def absolute_differences(ours: np.ndarray, theirs: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Returns the largest absolute difference of each tensor."""
    difference = np.abs(np.subtract(ours, theirs, dtype=np.float64))
    return _finite(np.maximum.reduceat(difference, starts))


def _finite(values: np.ndarray) -> np.ndarray:
    """A difference that is not a number is larger than any bound."""
    return np.where(np.isfinite(values), values, np.inf)
