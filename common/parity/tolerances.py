"""The bounds of differences, one entry for each dtype, set from measurements."""

import dataclasses

import numpy as np

DEVICE_STEPS = 10
"""In these first steps, parameters on N devices have a tighter bound than parameters of two
frameworks."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tolerance:
    """The largest allowed differences; None: parity records the difference without judging it.

    Attributes:
      loss: relative difference of the loss and its parts.
      loss_steps: number of first steps in which ``loss`` applies; None: all steps.
      gradient: difference of a tensor's gradient relative to max(the tensor's norm, 1e-2 x the
        global norm); and the relative difference of the global norm. The second term of the maximum
        covers tensors with a gradient of exactly 0 in theory (attention key biases).
      gradient_steps: number of first steps in which ``gradient`` applies; None: all steps.
      preset_gradient: ``gradient`` for large models. In a step of ``mlp_large``, one of the 13,000
        inputs of ReLU may be nearer to 0 than the rounding of float32; then only one side has its
        gradient. One such input made a measured difference of 8.6e-5.
      parameter: absolute difference of parameters and optimizer state, at every step.
      device_parameter: ``parameter`` between N devices and one, in the first ``DEVICE_STEPS``
        steps.
      logits: absolute difference from the NumPy reference at equal parameters, at every step; with
        large activations, relative to the largest logit.
      reference_loss: relative difference of the loss from the NumPy reference, as for ``logits``.
      update: absolute difference of one update from the NumPy reference, at equal parameters and
        gradients.
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
        """Returns the bound of the loss at a step; None: not judged."""
        return self.loss if self.loss_steps is None or step < self.loss_steps else None

    def gradient_at(self, step: int, *, preset: bool) -> float | None:
        """Returns the bound of gradients at a step; None: not judged."""
        judged = self.gradient_steps is None or step < self.gradient_steps
        bound = self.preset_gradient if preset else self.gradient
        return bound if judged else None

    def parameter_at(self, step: int, *, between_devices: bool) -> float | None:
        """Returns the bound of parameters at a step; None: not judged."""
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
    # Gradients are judged in the first step only: later, float32 trajectories diverge.
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
    # Two to three times the differences measured on 2026-11-22 with bare: parity sizes (without
    # mixtures of experts), mlp_medium, transformer_small and gpt_tiny. Measured between frameworks:
    # loss 2.3e-3, first gradients 7.8e-2 (norms and biases around the attention). Measured against
    # NumPy: logits 6.1e-2.
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
# A router with input rounded to bfloat16 chooses another expert for a few tokens, and the logits of
# these tokens change. Measured differences: logits 1.7, gradients 1.7e-1, auxiliary loss 1.6e-2.
# Therefore only losses are judged.
_ROUTED = dataclasses.replace(
    TOLERANCES["bfloat16"],
    loss=4e-2,
    reference_loss=4e-2,
    gradient=None,
    preset_gradient=None,
    logits=None,
)


# Large activations magnify rounding: a sharp softmax, and a layer norm of a tiny variance, have
# large derivatives. Largest differences measured on 2026-11-28, on two cores, over all parity
# sizes. float64: gradients 3e-13 in the first step and 1.3e-11 in the third, losses 6.1e-14, logits
# 5.5e-14 of the largest logit, parameters 1.6e-12. float32: first gradients 1.9e-4, first losses
# 4.8e-7 (third: 2.7e-4), losses against NumPy 4.5e-7, logits 2.8e-5 of the largest.
_LARGE = {
    "float64": dataclasses.replace(TOLERANCES["float64"], gradient=2e-10),
    "float32": dataclasses.replace(TOLERANCES["float32"], loss_steps=1, gradient=1e-3),
}


def tolerance_of(dtype: str, *, routed: bool, large: bool = False) -> Tolerance:
    """Returns the bounds of a run.

    Args:
      dtype: of the run.
      routed: True for a mixture of experts.
      large: True for a piece with large activations.
    """
    if large and dtype in _LARGE:
        return _LARGE[dtype]
    return _ROUTED if routed and dtype == "bfloat16" else TOLERANCES[dtype]


ROUNDED_SHARE_BOUND = 0.99
"""Largest allowed share of entries that are bfloat16 numbers. In a tensor rounded to bfloat16, all
entries are. In float32 sums over the 8 examples of a parity batch, at most half of them were."""

SMALL_NORM = 1e-2
"""A tensor whose gradient has a smaller share of the global norm may have a gradient of 0 in theory
(attention key biases): its values are rounding errors."""

DEAD_SHARE_BOUND = 0.9
"""Largest allowed share of entries of a tensor whose gradient is exactly 0."""

SURPRISE_BOUND = 9.0
"""Largest allowed -log10 of a probability: parity rejects results less likely than 1e-9."""


def surprise(p: float) -> float:
    """Returns -log10 of a probability, 300 at most."""
    return float(-np.log10(max(p, 1e-300)))


def relative_difference(a: float, b: float) -> float:
    """Returns |a - b| / |b|; infinite if ``a`` or ``b`` is not finite."""
    if not (np.isfinite(a) and np.isfinite(b)):
        return float("inf")
    return abs(a - b) / max(abs(b), np.finfo(np.float64).tiny)


def tensor_norms(flat: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Returns the Euclidean norm of each tensor of a flat array."""
    return np.sqrt(np.add.reduceat(np.square(flat, dtype=np.float64), starts))


def gradient_differences(ours: np.ndarray, theirs: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Returns, for each tensor, norm of the difference / max(norm, 1e-2 x global norm)."""
    norms = tensor_norms(theirs, starts)
    floor = SMALL_NORM * np.sqrt(np.square(norms).sum())
    difference = np.subtract(ours, theirs, dtype=np.float64)
    scale = np.maximum(np.maximum(norms, floor), np.finfo(np.float64).tiny)
    return _finite(tensor_norms(difference, starts) / scale)


def absolute_differences(ours: np.ndarray, theirs: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Returns the largest absolute difference of each tensor."""
    difference = np.abs(np.subtract(ours, theirs, dtype=np.float64))
    return _finite(np.maximum.reduceat(difference, starts))


def _finite(values: np.ndarray) -> np.ndarray:
    """Returns the values with NaN as infinity, so that NaN exceeds any bound."""
    return np.where(np.isfinite(values), values, np.inf)
