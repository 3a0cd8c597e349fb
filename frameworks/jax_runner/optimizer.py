"""The optimizer in optax; the formula is in ``common/reference/optimizer.py``."""

import jax
import jax.numpy as jnp
import optax

from isoscale.common.config.optimizer_config import OptimizerConfig


def schedule(config: OptimizerConfig) -> optax.Schedule | float:
    """Returns the learning rate: a float, or a function of the step (0, 1, ...)."""
    peak, warmup = config.learning_rate, config.schedule_warmup_steps
    if config.schedule == "constant" and not warmup:
        return peak

    def rate(count):
        step = jnp.asarray(count, jnp.result_type(float))
        progress = jnp.clip((step - warmup) / (config.schedule_steps - warmup), 0.0, 1.0)
        after = {
            "constant": lambda: jnp.ones_like(step),
            "linear": lambda: 1.0 - progress,
            "cosine": lambda: 0.5 * (1.0 + jnp.cos(jnp.pi * progress)),
        }[config.schedule]()
        return peak * jnp.where(step < warmup, (step + 1) / max(warmup, 1), after)

    return rate


def clip_by_global_norm(clip_norm: float) -> optax.GradientTransformation:
    """Returns the transformation g * min(1, clip_norm / norm), with the global norm.

    ``optax.clip_by_global_norm`` divides every gradient by the norm: XLA then keeps one more array
    of each gradient's size. XLA fuses a product with one number into later operations.
    """

    def clip(gradients, parameters):
        del parameters
        scale = jnp.minimum(1.0, clip_norm / optax.global_norm(gradients))
        return jax.tree.map(lambda gradient: gradient * scale, gradients)

    return optax.stateless(clip)


def make(config: OptimizerConfig, *, decayed: dict[str, bool]) -> optax.GradientTransformation:
    """Returns the optimizer: clipping, if the config asks for it, and the update.

    Args:
      config: the optimizer.
      decayed: canonical name -> whether weight decay applies.
    """
    rate = schedule(config)
    if config.name == "adamw":
        update = optax.adamw(
            rate,
            b1=config.beta1,
            b2=config.beta2,
            eps=config.epsilon,
            weight_decay=config.weight_decay,
            mask=decayed,
        )
    else:
        update = optax.chain(
            optax.add_decayed_weights(config.weight_decay, mask=decayed),
            optax.sgd(rate, momentum=config.momentum),
        )
    if config.clip_norm:
        return optax.chain(clip_by_global_norm(config.clip_norm), update)
    return update


SLOTS = {
    "adamw": {"first_moment": "mu", "second_moment": "nu"},
    "sgd": {"momentum": "trace"},
}
"""Canonical slot -> field of optax's state."""
