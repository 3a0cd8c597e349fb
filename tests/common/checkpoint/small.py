"""A small training, for tests of checkpoints."""

from pathlib import Path
from typing import Any

import numpy as np

from isoscale.common.checkpoint import files
from isoscale.common.checkpoint.files import State
from isoscale.common.checkpoint.manifest import describe_training, identify
from isoscale.common.config.run_config import RunConfig
from isoscale.common.reference.optimizer import SLOTS
from isoscale.models.mlp.spec import MlpSpec

SPEC = MlpSpec(input_size=3, hidden_sizes=(4,), num_classes=2)
BATCHES = [{"inputs": np.full((8, 3), float(i))} for i in range(4)]


def config(**changes: Any) -> RunConfig:
    values: dict[str, Any] = {
        "framework": "torch",
        "strategy": "bare",
        "model": "mlp",
        "spec": SPEC,
        "global_batch_size": 8,
        "compile_mode": "eager",
        "steps": 10,
        "window_steps": 5,
        "latency_steps": 0,
        "available_cores": 4,
    }
    return RunConfig(**{**values, **changes})


def training(**changes: Any) -> dict[str, Any]:
    return describe_training(config(**changes), family="mlp")


def state(step: int, *, dtype: str = "float32", optimizer: str = "adamw", spec=SPEC) -> State:
    """Returns arrays with values that depend on the step."""
    random = np.random.default_rng(step)

    def arrays() -> dict[str, np.ndarray]:
        return {p.name: random.standard_normal(p.shape).astype(dtype) for p in spec.parameters()}

    return State(parameters=arrays(), slots={slot: arrays() for slot in SLOTS[optimizer]})


def save(folder: Path, step: int) -> Path:
    return files.save(folder, state(step), **about(step))


def about(step: int, **changes: Any) -> dict[str, Any]:
    """Returns the other fields of a manifest."""
    return {
        "step": step,
        "next_batch": step % len(BATCHES),
        "written_by": {"framework": "torch"},
        **identify(BATCHES),
        **training(**changes),
    }
