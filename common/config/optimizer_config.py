"""Defines ``OptimizerConfig``: the settings of the optimizer and its schedule."""

import dataclasses

from isoscale.common.config.errors import ConfigError, require_choice
from isoscale.common.config.options import check_numbers, option

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("constant", "cosine", "linear")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Settings of the optimizer, whose formula is the same in all frameworks.

    ``common/reference/optimizer.py`` has the formula.

    Attributes:
      name: ``adamw`` (Loshchilov & Hutter 2019) or ``sgd`` (momentum, with coupled decay).
      learning_rate: peak learning rate.
      weight_decay: factor of weight decay, for the parameters with ``Parameter.decay``.
      beta1, beta2, epsilon: constants of AdamW.
      momentum: constant of SGD.
      clip_norm: largest global gradient norm; 0: no clipping.
      schedule: ``constant``; or ``cosine`` or ``linear``: decay to 0 after the warm-up.
      schedule_warmup_steps: number of steps of linear warm-up.
      schedule_steps: the step at which the decay reaches 0.

    Raises:
      ConfigError: a value is outside its range, or the decay ends before the warm-up does.
    """

    name: str = option(default="adamw", cell="part", flag="optimizer", help="|".join(OPTIMIZERS))
    learning_rate: float = option(
        default=1e-3, cell="part", flag="learning_rate", kind="number", help="peak learning rate"
    )
    weight_decay: float = option(
        default=0.01,
        cell="part",
        flag="weight_decay",
        kind="number",
        help="weight decay of kernels and embeddings",
    )
    beta1: float = option(
        default=0.9, cell="part", flag="beta1", kind="number", maximum=1, help="beta1 of adamw"
    )
    beta2: float = option(
        default=0.999, cell="part", flag="beta2", kind="number", maximum=1, help="beta2 of adamw"
    )
    epsilon: float = option(
        default=1e-8, cell="part", flag="epsilon", kind="number", help="epsilon of adamw"
    )
    momentum: float = option(
        default=0.9, cell="part", flag="momentum", kind="number", maximum=1, help="momentum of sgd"
    )
    clip_norm: float = option(
        default=1.0,
        cell="part",
        flag="clip_norm",
        kind="number",
        help="largest global gradient norm; 0: no clipping",
    )
    schedule: str = option(
        default="constant", cell="part", flag="schedule", help="|".join(SCHEDULES)
    )
    schedule_warmup_steps: int = option(
        default=0,
        cell="part",
        flag="schedule_warmup_steps",
        kind="integer",
        minimum=0,
        help="steps of linear learning-rate warm-up",
    )
    schedule_steps: int = option(
        default=1000,
        cell="part",
        flag="schedule_steps",
        kind="integer",
        help="step at which the decay reaches 0",
    )

    def __post_init__(self) -> None:
        require_choice("optimizer", self.name, OPTIMIZERS)
        require_choice("schedule", self.schedule, SCHEDULES)
        check_numbers(self)
        for name in ("learning_rate", "epsilon"):
            value = getattr(self, name)
            if value == 0:
                raise ConfigError(f"{name}={value} must be a positive number")
        for name in ("beta1", "beta2", "momentum"):
            value = getattr(self, name)
            if value >= 1:
                raise ConfigError(f"{name}={value} must be at least 0 and below 1")
        if self.schedule != "constant" and self.schedule_steps <= self.schedule_warmup_steps:
            raise ConfigError(
                f"schedule_steps={self.schedule_steps} must exceed "
                f"schedule_warmup_steps={self.schedule_warmup_steps}"
            )
