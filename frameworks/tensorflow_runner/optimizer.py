"""The optimizer in TensorFlow's fused kernels; formula in ``common/reference/optimizer.py``."""

import math
from collections.abc import Callable

import tensorflow as tf

from isoscale.common.config.optimizer_config import OptimizerConfig
from isoscale.common.reference.optimizer import SLOTS


def clip_by_global_norm(gradients: list[tf.Tensor], *, clip_norm: float) -> list[tf.Tensor]:
    """Returns g * min(1, clip_norm / norm) for each gradient g, with the global norm."""
    norm = tf.linalg.global_norm(gradients)
    scale = tf.minimum(tf.ones_like(norm), clip_norm / norm)
    return [gradient * scale for gradient in gradients]


def learning_rate(config: OptimizerConfig, step: tf.Tensor) -> tf.Tensor:
    """Returns the learning rate of a step (0, 1, ...): a float64 scalar, computed in the graph."""
    step = tf.cast(step, tf.float64)
    peak, warmup = config.learning_rate, config.schedule_warmup_steps
    progress = tf.clip_by_value((step - warmup) / (config.schedule_steps - warmup), 0.0, 1.0)
    after = {
        "constant": lambda: tf.ones_like(step),
        "linear": lambda: 1.0 - progress,
        "cosine": lambda: 0.5 * (1.0 + tf.cos(math.pi * progress)),
    }[config.schedule]()
    return peak * tf.where(step < warmup, (step + 1.0) / max(warmup, 1), after)


class Optimizer:
    """Updates variables in place; call ``apply`` inside a replica.

    Args:
      config: the optimizer.
      variables: canonical name -> variable.
      decayed: canonical names of the parameters with weight decay.
      local: returns this replica's copy of a variable.
    """

    def __init__(
        self,
        config: OptimizerConfig,
        variables: dict[str, tf.Variable],
        *,
        decayed: set[str],
        local: Callable[[tf.Variable], tf.Variable],
    ):
        self._config = config
        self._variables = variables
        self._decayed = decayed
        self._local = local
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        self.slots = {
            slot: {
                name: tf.Variable(tf.zeros_like(variable), trainable=False, name=slot)
                for name, variable in variables.items()
            }
            for slot in SLOTS[config.name]
        }

    def apply(self, gradients: list[tf.Tensor]) -> None:
        """Clips reduced gradients, then updates parameters and slots."""
        config = self._config
        if config.clip_norm:
            gradients = clip_by_global_norm(gradients, clip_norm=config.clip_norm)
        counter = self._local(self.step)
        step = tf.identity(counter)
        rate = learning_rate(config, step)
        update = self._adamw(rate, step) if config.name == "adamw" else self._sgd(rate)
        for (name, variable), gradient in zip(self._variables.items(), gradients, strict=True):
            update(name, self._local(variable), gradient)
        counter.assign(step + 1)

    def _slot(self, slot: str, name: str) -> tf.Variable:
        return self._local(self.slots[slot][name])

    def _adamw(self, rate: tf.Tensor, step: tf.Tensor) -> Callable:
        config = self._config
        t = tf.cast(step + 1, tf.float64)
        # tf.constant, because tf.cast would first convert the Python float to float32.
        power1, power2 = (
            tf.pow(tf.constant(beta, tf.float64), t) for beta in (config.beta1, config.beta2)
        )
        # The kernel adds epsilon before the bias correction ("epsilon-hat"). This scale makes it
        # equal to the epsilon of the formula.
        epsilon = config.epsilon * tf.sqrt(1.0 - power2)

        def update(name: str, variable: tf.Variable, gradient: tf.Tensor) -> None:
            dtype = gradient.dtype
            if name in self._decayed and config.weight_decay:
                variable.assign(variable * tf.cast(1.0 - rate * config.weight_decay, dtype))
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=self._slot("first_moment", name).handle,
                v=self._slot("second_moment", name).handle,
                beta1_power=tf.cast(power1, dtype),
                beta2_power=tf.cast(power2, dtype),
                lr=tf.cast(rate, dtype),
                beta1=tf.constant(config.beta1, dtype),
                beta2=tf.constant(config.beta2, dtype),
                epsilon=tf.cast(epsilon, dtype),
                grad=gradient,
                use_locking=False,
                use_nesterov=False,
            )

        return update

    def _sgd(self, rate: tf.Tensor) -> Callable:
        config = self._config

        def update(name: str, variable: tf.Variable, gradient: tf.Tensor) -> None:
            dtype = gradient.dtype
            if name in self._decayed and config.weight_decay:
                gradient += config.weight_decay * variable
            tf.raw_ops.ResourceApplyMomentum(
                var=variable.handle,
                accum=self._slot("momentum", name).handle,
                lr=tf.cast(rate, dtype),
                grad=gradient,
                momentum=tf.constant(config.momentum, dtype),
                use_locking=False,
                use_nesterov=False,
            )

        return update
