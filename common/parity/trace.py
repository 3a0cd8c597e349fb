"""What a run computes, step by step, as arrays that two frameworks can be compared by."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from common.config.model_spec import Arrays
from common.measure.runner import Runner


def steps_of(
    runner: Runner,
    batches: list[Arrays],
    *,
    steps: int,
    logits: bool = True,
    optimizer: bool = True,
) -> Iterator[dict[str, Any]]:
    """Trains and yields, per step, everything that must be equal.

    Each record has ``metrics`` (of the step), if wanted ``logits`` (before it), ``gradients``
    (before clipping), ``parameters`` and, if wanted, the state of the ``optimizer`` (after it);
    the first has ``initial`` too.
    """
    for step in range(steps):
        batch = runner.place(batches[step % len(batches)])
        record: dict[str, Any] = {"initial": runner.parameters()} if step == 0 else {}
        if logits:
            record["logits"] = runner.read_logits(runner.forward(batch))
        record["gradient_metrics"], (record["gradients"],) = runner.read_gradients(
            runner.gradients(batch)
        )
        handle = runner.step(batch)
        runner.wait()
        (record["metrics"],) = runner.metrics([handle])
        record["parameters"] = runner.parameters()
        if optimizer:
            record["optimizer"] = runner.optimizer_state()
        yield record


def save_step(folder: Path, step: int, record: dict[str, Any]) -> None:
    """Writes one step's record under ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: Arrays = {}
    scalars: dict[str, Any] = {}
    for kind, value in record.items():
        if isinstance(value, np.ndarray):
            arrays[kind] = value
        elif kind in ("metrics", "gradient_metrics"):
            scalars[kind] = value
        else:
            for name, item in value.items():
                inner = item.items() if isinstance(item, dict) else [("", item)]
                arrays.update({f"{kind}|{name}|{key}": leaf for key, leaf in inner})
    np.savez(folder / f"step_{step}.npz", **arrays)  # type: ignore[arg-type]
    (folder / f"step_{step}.json").write_text(json.dumps(scalars))


def load_step(folder: Path, step: int) -> dict[str, Any]:
    """The inverse of ``save_step``."""
    record: dict[str, Any] = json.loads((folder / f"step_{step}.json").read_text())
    with np.load(folder / f"step_{step}.npz") as arrays:
        for path in arrays.files:
            kind, *rest = path.split("|")
            if not rest:
                record[kind] = arrays[path]
            elif rest[1]:
                record.setdefault(kind, {}).setdefault(rest[0], {})[rest[1]] = arrays[path]
            else:
                record.setdefault(kind, {})[rest[0]] = arrays[path]
    return record
