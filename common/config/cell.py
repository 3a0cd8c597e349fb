"""Defines ``Cell``: one point of a comparison."""

import dataclasses
import functools
import hashlib
import json
from typing import Any

from isoscale.common.config.mesh import Mesh
from isoscale.common.config.optimizer_config import OptimizerConfig
from isoscale.common.config.records import OMIT_DEFAULT, from_record, to_record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """Everything that makes runs comparable: runs with equal cells belong to one cell.

    ``RunConfig`` declares which of its fields belong to the cell. A field that is added later must
    be absent on disk at its default value (``OMIT_DEFAULT``). The ids of earlier cells then stay
    valid.

    Attributes:
      overrides: size -> value, for sizes that differ from the model's preset; a size with several
        numbers is a list.
      processes: number of processes of a run.
      mesh: sizes of the mesh axes.
      oversubscribed: whether CPU devices share cores.
      All other attributes: as in ``RunConfig``.

    Raises:
      ValueError: ``devices`` or ``global_batch_size`` is below 1, or ``independent`` is not between
        0 and ``devices``.
    """

    model: str
    overrides: dict[str, Any]
    framework: str
    strategy: str
    devices: int
    processes: int
    mesh: Mesh
    global_batch_size: int
    dtype: str
    tf32: bool = dataclasses.field(default=False, metadata=OMIT_DEFAULT)
    tuning: str = "stock"
    tweaks: tuple[str, ...] = dataclasses.field(default=(), metadata=OMIT_DEFAULT)
    env: tuple[str, ...] = dataclasses.field(default=(), metadata=OMIT_DEFAULT)
    steps_per_dispatch: int = dataclasses.field(default=1, metadata=OMIT_DEFAULT)
    gradient_accumulation_steps: int = dataclasses.field(default=1, metadata=OMIT_DEFAULT)
    independent: int = dataclasses.field(default=0, metadata=OMIT_DEFAULT)
    scenario: str = dataclasses.field(default="training", metadata=OMIT_DEFAULT)
    compile_mode: str
    dataset: str
    platform: str
    optimizer: OptimizerConfig
    threads_per_device: int
    input_pipeline: str
    oversubscribed: bool

    def __post_init__(self) -> None:
        if self.devices < 1 or self.global_batch_size < 1:
            raise ValueError("cell: devices and global_batch_size must be 1 or more")
        if not 0 <= self.independent <= self.devices:
            raise ValueError("cell: independent must be between 0 and devices")

    def to_record(self) -> dict[str, Any]:
        """Returns the cell as plain JSON values."""
        return to_record(self)

    @classmethod
    def from_record(cls, record: Any) -> "Cell":
        """Returns the cell that ``to_record`` describes.

        Raises:
          ValueError: a key is unknown or missing, or its value has another type or range.
        """
        return from_record(cls, record, path="cell")

    @property
    def examples_per_step(self) -> int:
        """Returns the examples of a step over all devices that compute."""
        share = self.global_batch_size // self.devices
        return share * self.independent if self.independent else self.global_batch_size

    @functools.cached_property
    def key(self) -> str:
        """Returns canonical JSON: two keys are equal exactly if their cells are equal."""
        return json.dumps(self.to_record(), sort_keys=True)

    @functools.cached_property
    def id(self) -> str:
        """Returns a readable and unique folder name."""
        digest = hashlib.sha256(self.key.encode()).hexdigest()[:8]
        return "-".join(
            [
                self.model,
                self.framework,
                self.strategy,
                f"{self.devices}dev",
                f"b{self.global_batch_size}",
                self.dtype,
                *([f"independent{self.independent}"] if self.independent else []),
                *([] if self.tuning == "stock" else [self.tuning]),
                digest,
            ]
        )

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cell) and self.key == other.key

    def without(self, *names: str) -> str:
        """Returns a key that ignores the named fields.

        Cells that differ only in these fields have equal keys.
        """
        return json.dumps(
            {n: value for n, value in self.to_record().items() if n not in names}, sort_keys=True
        )
