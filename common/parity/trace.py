"""Traces: the results of each step of a run, as flat arrays on disk; other runs compare with them.

A flat array holds all tensors of a kind one after the other, in the order of the model's
specification. A folder holds one run: ``<kind>.bin`` (one step after the other) and
``figures.jsonl`` (one line for each step). The file ``done`` marks a complete trace; the file
``failed`` marks a run that failed.
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
    """The position of each tensor in a flat array.

    Attributes:
      names, shapes: name and shape of each tensor, in the order of the specification.
      starts: index of the first entry of each tensor.
    """

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
        """Returns one array with all tensors one after the other.

        Raises:
          ValueError: names or shapes differ from the specification.
        """
        if set(arrays) != set(self.names):
            raise ValueError(f"tensors differ from the spec: {set(arrays) ^ set(self.names)}")
        for name, shape in zip(self.names, self.shapes, strict=True):
            if arrays[name].shape != shape:
                raise ValueError(f"{name} has shape {arrays[name].shape}; the spec has {shape}")
        return np.concatenate([np.ravel(arrays[name]) for name in self.names])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """The results of one step.

    Attributes:
      step: 0, 1, ...
      metrics: loss and its parts, over the global batch.
      arrays: kind -> flat array. ``gradients``: gradients of the global loss before clipping, from
        the runner's method ``gradients``. ``step_gradients``: the clipped gradients that the
        optimizer received, read from its state. ``parameters`` and the optimizer's slots: values
        after the step.
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
        """Writes the arrays of the next step; keeps its metrics for ``finish``."""
        for kind, file in self._files.items():
            record.arrays[kind].tofile(file)
        self._lines.append(json.dumps(record.metrics))

    def finish(self) -> None:
        """Writes the metrics of all steps and marks the trace as complete."""
        for file in self._files.values():
            file.close()
        (self._folder / _FIGURES).write_text("\n".join(self._lines))
        (self._folder / DONE).touch()


class Reader:
    """Reads the records that a ``Writer`` wrote."""

    def __init__(self, folder: Path, *, dtype: str):
        metrics = (folder / _FIGURES).read_text().splitlines()
        self._metrics: list[dict[str, Any]] = [json.loads(line) for line in metrics]
        self._arrays = {
            path.stem: np.memmap(path, dtype, mode="r").reshape(len(metrics), -1)
            for path in folder.glob("*.bin")
        }

    def record(self, step: int) -> Record:
        """Returns the record of a step."""
        arrays = {kind: values[step] for kind, values in self._arrays.items()}
        return Record(step=step, metrics=self._metrics[step], arrays=arrays)


def wait_for(folder: Path, *, on_wait: Callable[[], None]) -> bool:
    """Waits until another process ends its trace; returns True if the trace is complete."""
    while not (folder / DONE).exists():
        if (folder / FAILED).exists():
            return False
        on_wait()
        time.sleep(_POLL_SECONDS)
    return True
