"""The optimizer in NumPy (the reference of all frameworks), and the schedule that runners use.

With gradient g (clipped), step t = 1, 2, ..., learning rate a_t, decay w (0 for parameters without
``Parameter.decay``):

  AdamW:  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
          p = p - a_t (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon) + w p)
          (Loshchilov & Hutter 2019, arXiv:1711.05101; epsilon outside the root)
  SGD:    b = momentum b + (g + w p);  p = p - a_t b

Clipping, over all parameters together and after the reduction over devices:
  g = g min(1, clip_norm / norm)
"""

import dataclasses
import math

import numpy as np

from isoscale.common.config.model_spec import Arrays
from isoscale.common.config.optimizer_config import OptimizerConfig

SLOTS = {"adamw": ("first_moment", "second_moment"), "sgd": ("momentum",)}
"""Optimizer -> the names of its slots; a slot has one array for each parameter."""


@dataclasses.dataclass(frozen=True)
class OptimizerState:
    """The state of an optimizer between two updates.

    Attributes:
      slots: slot -> canonical arrays, in the order of ``SLOTS``: ``first_moment`` and
        ``second_moment`` for AdamW, ``momentum`` for SGD.
      step: number of finished updates.
    """

    slots: dict[str, Arrays]
    step: int


def learning_rate(config: OptimizerConfig, step: int) -> float:
    """Returns the learning rate of step 0, 1, ...

    Warm-up is linear and reaches the peak at step ``schedule_warmup_steps - 1``. The decay starts
    from the peak at step ``schedule_warmup_steps`` and reaches 0 at ``schedule_steps``.
    """
    warmup = config.schedule_warmup_steps
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "constant":
        return config.learning_rate
    progress = min(1.0, (step - warmup) / (config.schedule_steps - warmup))
    if config.schedule == "linear":
        return config.learning_rate * (1.0 - progress)
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))


def global_norm(gradients: Arrays) -> float:
    """Returns the Euclidean norm of all tensors together."""
    return math.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in gradients.values()))


def reference_update(
    config: OptimizerConfig,
    parameters: Arrays,
    gradients: Arrays,
    state: dict[str, Arrays],
    *,
    step: int,
    decayed: set[str],
) -> tuple[Arrays, dict[str, Arrays]]:
    """Returns (parameters, state) after one update, computed in NumPy float64.

    Args:
      config: the optimizer.
      parameters, gradients: canonical name -> array.
      state: {} before the first step; then ``first_moment`` and ``second_moment`` (AdamW) or
        ``momentum`` (SGD), each canonical name -> array.
      step: 0 for the first update.
      decayed: canonical names of the parameters with weight decay.
    """
    scale = 1.0
    if config.clip_norm:
        norm = global_norm(gradients)
        scale = min(1.0, config.clip_norm / norm) if norm else 1.0
    rate = learning_rate(config, step)
    t = step + 1
    updated: Arrays = {}
    slots = SLOTS[config.name]
    new_state: dict[str, Arrays] = {slot: {} for slot in slots}
    for name, value in parameters.items():
        g = gradients[name] * scale
        decay = config.weight_decay if name in decayed else 0.0
        old = {slot: state[slot][name] if state else np.zeros_like(value) for slot in slots}
        if config.name == "adamw":
            m = config.beta1 * old["first_moment"] + (1 - config.beta1) * g
            v = config.beta2 * old["second_moment"] + (1 - config.beta2) * g**2
            m_hat, v_hat = m / (1 - config.beta1**t), v / (1 - config.beta2**t)
            direction = m_hat / (np.sqrt(v_hat) + config.epsilon) + decay * value
            new_state["first_moment"][name], new_state["second_moment"][name] = m, v
        else:
            direction = config.momentum * old["momentum"] + (g + decay * value)
            new_state["momentum"][name] = direction
        updated[name] = value - rate * direction
    return updated, new_state


def gradients_of_step(
    config: OptimizerConfig,
    *,
    parameters: np.ndarray,
    before: dict[str, np.ndarray],
    after: dict[str, np.ndarray],
    decayed: np.ndarray,
) -> np.ndarray:
    """Returns the (clipped) gradients of an update, computed from the change of the state.

    Args:
      config: the optimizer.
      parameters: the parameters before the update.
      before, after: the optimizer's slots before and after the update.
      decayed: 1 for parameters with weight decay, else 0.
    """
    if config.name == "adamw":
        old, new = before["first_moment"], after["first_moment"]
        return (new - config.beta1 * old) / (1 - config.beta1)
    old, new = before["momentum"], after["momentum"]
    return new - config.momentum * old - config.weight_decay * decayed * parameters
