"""The named device mesh: how devices are arranged, the same words in every framework."""

import dataclasses
import math

from isoscale.common.config.errors import require_positive

AXES = ("data", "fsdp", "expert", "tensor")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mesh:
    """Sizes of the mesh axes.

    Attributes:
      data: replicas that each see a share of the global batch.
      fsdp: shards of parameters and optimizer state; also splits the batch.
      expert: groups of experts.
      tensor: shards of a single tensor.
    """

    data: int = 1
    fsdp: int = 1
    expert: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        for axis in AXES:
            require_positive(f"mesh axis {axis}", getattr(self, axis))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(getattr(self, axis) for axis in AXES)

    @property
    def devices(self) -> int:
        return math.prod(self.shape)
