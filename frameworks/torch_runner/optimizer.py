"""The optimizer in PyTorch; the formula is in ``common/reference/optimizer.py``."""

import torch
import torch._dynamo  # here it counts as import time; the first optimizer would import it later
from torch import nn

from isoscale.common.config.optimizer_config import OptimizerConfig


def make(
    config: OptimizerConfig,
    *,
    decayed: list[nn.Parameter],
    others: list[nn.Parameter],
    foreach: bool,
) -> torch.optim.Optimizer:
    """Returns the optimizer, fused or ``foreach``; weight decay applies to ``decayed`` only."""
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.name == "adamw":
        return torch.optim.AdamW(
            groups,
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            eps=config.epsilon,
            fused=not foreach,
            foreach=foreach,
        )
    return torch.optim.SGD(
        groups,
        lr=config.learning_rate,
        momentum=config.momentum,
        fused=not foreach,
        foreach=foreach,
    )


@torch.no_grad()
def clip_by_global_norm(gradients: list[torch.Tensor], *, clip_norm: float) -> None:
    """Multiplies each gradient by min(1, clip_norm / norm), in place, with the global norm.

    PyTorch's own helper adds 1e-6 to the norm.
    """
    norm = nn.utils.get_total_norm(gradients)
    torch._foreach_mul_(gradients, torch.clamp(clip_norm / norm, max=1.0))


SLOTS = {
    "adamw": {"first_moment": "exp_avg", "second_moment": "exp_avg_sq"},
    "sgd": {"momentum": "momentum_buffer"},
}
"""Canonical slot -> key in the optimizer's state."""
