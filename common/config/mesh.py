"""The named device mesh: the arrangement of devices, with the same words in every framework."""

import dataclasses
import math

from isoscale.common.config.errors import require_whole

AXES = ("data", "fsdp", "expert", "tensor")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mesh:
    """Sizes of the mesh axes.

    Attributes:
      data: number of replicas; each replica computes a share of the global batch.
      fsdp: number of shards of parameters and optimizer state; this axis also splits the batch.
      expert: number of groups of experts.
      tensor: number of shards of a single tensor.

    Raises:
      ConfigError: a size is below 1 or not a whole number.
    """

    data: int = 1
    fsdp: int = 1
    expert: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        for axis in AXES:
            require_whole(f"mesh axis {axis}", getattr(self, axis))

    @property
    def shape(self) -> tuple[int, ...]:
        """Returns the sizes of the axes, in the order of ``AXES``."""
        return tuple(getattr(self, axis) for axis in AXES)

    @property
    def devices(self) -> int:
        """Returns the number of devices of the whole mesh."""
        return math.prod(self.shape)
