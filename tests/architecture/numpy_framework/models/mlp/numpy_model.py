"""The MLP in NumPy, with hand-written gradients. Dims: B batch, F features."""

from collections.abc import Collection

import numpy as np

from isoscale.common.config.model_spec import Arrays
from isoscale.models.mlp.spec import MlpSpec

Saved = list[tuple[np.ndarray, np.ndarray]]
"""For each layer: the input, and the factor (ReLU, dropout) that produced this input."""


class Mlp:
    def __init__(self, spec: MlpSpec, *, tweaks: Collection[str]):
        self._layers = len(spec.layer_sizes)
        self._rate = spec.dropout_rate
        self._in_place = "bias-in-place" in tweaks

    def _dense(self, x_BF: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
        product = x_BF @ kernel
        return np.add(product, bias, out=product) if self._in_place else product + bias

    def forward(
        self, parameters: Arrays, x_BF: np.ndarray, generator: np.random.Generator | None
    ) -> tuple[np.ndarray, Saved]:
        """Returns logits [B, classes], and the values that ``backward`` needs.

        Args:
          parameters: canonical name -> array.
          x_BF: the inputs.
          generator: draws the masks of dropout; None: no dropout.
        """
        saved: Saved = [(x_BF, np.ones_like(x_BF))]
        for index in range(self._layers):
            kernel, bias = (parameters[f"dense_{index}/{n}"] for n in ("kernel", "bias"))
            x_BF = self._dense(x_BF, kernel, bias)
            if index == self._layers - 1:
                break
            factor = (x_BF > 0).astype(x_BF.dtype)
            if self._rate and generator is not None:
                factor *= (generator.random(x_BF.shape) >= self._rate) / (1 - self._rate)
            x_BF = x_BF * factor
            saved.append((x_BF, factor))
        return x_BF, saved

    def backward(self, parameters: Arrays, saved: Saved, gradient: np.ndarray) -> Arrays:
        """Returns the gradients of all parameters.

        Args:
          parameters: canonical name -> array.
          saved: by ``forward``.
          gradient: of the loss with respect to the logits, [B, classes].
        """
        gradients: Arrays = {}
        for index in reversed(range(self._layers)):
            x_BF, factor = saved[index]
            gradients[f"dense_{index}/kernel"] = x_BF.T @ gradient
            gradients[f"dense_{index}/bias"] = gradient.sum(0)
            gradient = gradient @ parameters[f"dense_{index}/kernel"].T * factor
        return gradients


def build(spec: MlpSpec, *, dtype: object, param_dtype: object, tweaks: Collection[str]) -> Mlp:
    del dtype, param_dtype  # NumPy computes in the dtype of its parameters
    return Mlp(spec, tweaks=tweaks)
