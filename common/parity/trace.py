"""What a run computed, step by step, as flat arrays on disk that another run is compared with.

Flat: all tensors of a kind one after the other, in the order of the model's specification. A folder
holds one run: ``<kind>.bin`` (steps one after the other), ``figures.jsonl`` (a line for each step)
and, at its end, ``done``, or ``failed`` where there will be no end.
"""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np

from isoscale.common.config.model_spec import Arrays, ModelSpec
from isoscale.common.processes.job_pool import FAILED

DONE = "done"
_FIGURES = "figures.jsonl"
_POLL_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where each tensor lies in a flat array."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    starts: np.ndarray

    @classmethod
    def of(cls, spec: ModelSpec) -> Self:
        tree = spec.parameters()
        ends = np.cumsum([parameter.size for parameter in tree])
        return cls(
            names=tuple(parameter.name for parameter in tree),
            shapes=tuple(parameter.shape for parameter in tree),
            starts=np.concatenate([[0], ends[:-1]]),
        )

    def flat(self, arrays: Arrays) -> np.ndarray:
        """Returns all tensors one after the other.

        Raises:
          ValueError: names or shapes are not those of the specification.
        """
        if set(arrays) != set(self.names):
            raise ValueError(f"tensors differ from the spec: {set(arrays) ^ set(self.names)}")
        for name, shape in zip(self.names, self.shapes, strict=True):
            if arrays[name].shape != shape:
                raise ValueError(f"{name} is {arrays[name].shape}, the spec says {shape}")
        return np.concatenate([np.ravel(arrays[name]) for name in self.names])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One step.

    Attributes:
      step: 0, 1, ...
      metrics: loss and its parts, over the global batch.
      arrays: kind -> flat array. ``gradients``: of the global loss, before clipping, as the
        runner's own call gives them; ``step_gradients``: the clipped ones that the optimizer was
        given, read from its state; ``parameters`` and the optimizer's slots: after the step.
    """

    step: int
    metrics: dict[str, float]
    arrays: dict[str, np.ndarray]


class Writer:
    """Writes a run's records into a new folder."""

    def __init__(self, folder: Path, kinds: tuple[str, ...]):
        folder.mkdir(parents=True)
        self._folder = folder
        self._files = {kind: (folder / f"{kind}.bin").open("wb") for kind in kinds}
        self._lines: list[str] = []

    def add(self, record: Record) -> None:
        for kind, file in self._files.items():
            record.arrays[kind].tofile(file)
        self._lines.append(json.dumps(record.metrics))

    def finish(self) -> None:
        for file in self._files.values():
            file.close()
        (self._folder / _FIGURES).write_text("\n".join(self._lines))
        (self._folder / DONE).touch()


class Reader:
    """Reads what a ``Writer`` wrote."""

    def __init__(self, folder: Path, *, dtype: str):
        metrics = (folder / _FIGURES).read_text().splitlines()
        self._metrics: list[dict[str, Any]] = [json.loads(line) for line in metrics]
        self._arrays = {
            path.stem: np.memmap(path, dtype, mode="r").reshape(len(metrics), -1)
            for path in folder.glob("*.bin")
        }

    def record(self, step: int) -> Record:
        arrays = {kind: values[step] for kind, values in self._arrays.items()}
        return Record(step=step, metrics=self._metrics[step], arrays=arrays)


def wait_for(folder: Path, *, on_wait: Callable[[], None]) -> bool:
    """Waits for the end of a run that another process writes; returns whether it is whole."""
    while not (folder / DONE).exists():
        if (folder / FAILED).exists():
            return False
        on_wait()
        time.sleep(_POLL_SECONDS)
    return True
