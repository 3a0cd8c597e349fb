"""Fake studies with known figures, written to disk in the format of ``compare``."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isoscale.common.config.cell import Cell
from isoscale.common.study.records import ResultLine
from isoscale.common.study.store import Store

MACHINE: dict[str, Any] = {
    "cpu_model": "Test CPU",
    "available_cores": [0, 1],
    "memory_bytes": 16 * 2**30,
    "operating_system": "Test OS",
    "gpus": [],
}
CONFIG = {
    "warmup_steps": 5,
    "steps": 15,
    "window_steps": 5,
    "latency_steps": 2,
    "max_in_flight": 2,
}
FRAMEWORK_FACTS = {"matmul_precision": "highest (no TF32)", "devices": ["cpu:0", "cpu:1"]}
STRATEGIES = {
    "jax": ("bare", "pjit", "pmap"),
    "tensorflow": ("bare", "mirrored"),
    "torch": ("bare", "ddp"),
}
MODES = {"jax": "jit", "tensorflow": "graph", "torch": "eager"}


def make_cell(
    framework: str, strategy: str, devices: int, *, model: str = "mlp_medium", **changes: Any
) -> dict[str, Any]:
    return {
        "model": model,
        "overrides": {},
        "framework": framework,
        "strategy": strategy,
        "devices": devices,
        "processes": devices if strategy == "ddp" else 1,
        "mesh": {"data": devices},
        "global_batch_size": 64,
        "dtype": "float32",
        "tuning": "stock",
        "compile_mode": MODES.get(framework, "jit"),
        "dataset": "synthetic",
        "platform": "cpu",
        "optimizer": {"name": "adamw", "learning_rate": 0.001},
        "threads_per_device": 1,
        "input_pipeline": "placed",
        "oversubscribed": devices > 2,
        **changes,
    }


def make_line(
    cell: dict[str, Any], run: int, step_seconds: float, *, sequence: int, **changes: Any
) -> dict[str, Any]:
    line = {
        "cell": cell,
        "run": run,
        "seed": run,
        "sequence": sequence,
        "status": "ok",
        "error": None,
        "started": f"2026-11-21T10:{sequence // 60 % 60:02d}:{sequence % 60:02d}.000+00:00",
        "step_seconds": {
            "median": step_seconds,
            "mean": step_seconds,
            "p10": 0.95 * step_seconds,
            "p90": 1.1 * step_seconds,
            "n": 10,
        },
        "latency_seconds": {
            "median": 1.2 * step_seconds,
            "mean": 1.2 * step_seconds,
            "p10": step_seconds,
            "p90": 1.5 * step_seconds,
            "n": 20,
        },
        "examples_per_second": Cell.from_record(cell).examples_per_step / step_seconds,
        "tokens_per_second": None,
        "compile_seconds": 1.25,
        "loss_first": 5.25,
        "loss_last": 0.5,
        "eval": None,
        "parameters": 258432,
        "flops_per_step": 1e8,
        "peak_memory_bytes": 300 * 2**20,
        "outside_load_share": 0.01,
        "disturbed": False,
        "wall_seconds": 3.0,
        "exit_warning": None,
        "clock_reading_seconds": 5e-8,
        "versions": {cell["framework"]: "1.2.3", "python": "3.11.7"},
        "run_dir": f"cells/{Cell.from_record(cell).id}/run_{run}",
    }
    return {**line, **changes}


def read_line(line: dict[str, Any], number: int = 0) -> ResultLine:
    """Returns the line in the form in which ``Store`` reads it."""
    return ResultLine.from_record(json.loads(json.dumps(line)), number=number)


def read_lines(lines: Sequence[dict[str, Any]]) -> list[ResultLine]:
    return [read_line(line, number) for number, line in enumerate(lines, 1)]


def grid_lines(
    *,
    models: Sequence[str] = ("mlp_medium",),
    devices: Sequence[int] = (1, 2),
    runs: int = 6,
    seconds: Callable[[dict[str, Any]], float] = lambda cell: 0.01,
    noise: float = 0.01,
    **changes: Any,
) -> list[dict[str, Any]]:
    """Returns the lines of a grid; ``seconds`` gives the time per step of a cell."""
    random = np.random.default_rng(0)
    lines: list[dict[str, Any]] = []
    for run in range(runs):
        for model in models:
            for framework, strategies in STRATEGIES.items():
                for strategy in strategies:
                    for count in (1,) if strategy == "bare" else devices:
                        cell = make_cell(framework, strategy, count, model=model, **changes)
                        value = seconds(cell) * math.exp(noise * random.normal())
                        lines.append(make_line(cell, run, value, sequence=len(lines)))
    return lines


def ladder_lines(
    tweaks: dict[str, dict[str, float]],
    seconds: dict[str, float],
    *,
    runs: int = 6,
    spread: Sequence[float] = (0.98, 0.99, 1.0, 1.0, 1 / 0.99, 1 / 0.98),
    strategy: str = "bare",
    devices: int = 1,
    **changes: Any,
) -> list[dict[str, Any]]:
    """Returns the lines of a study with stock, ladder and tuned.

    Args:
      tweaks: framework -> name of a tweak -> factor of the tweak on the time per step.
      seconds: framework -> time per step in stock.
      runs: runs of each cell.
      spread: factor of run i on the time of its cell; the geometric mean is 1. All cells have the
        same factors, so the runs of a cell follow each other: runs of two cells are not pairs.
      strategy, devices: strategy and devices of all cells.
      changes: changed fields of all cells.
    """
    lines: list[dict[str, Any]] = []
    for run in range(runs):
        for framework, factors in tweaks.items():
            names = list(factors)
            lanes = [("stock", 0), *(("ladder", n) for n in range(1, len(names)))]
            for lane, count in [*lanes, ("tuned", len(names))]:
                extra: dict[str, Any] = {"tweaks": names[:count]} if count else {}
                cell = make_cell(framework, strategy, devices, tuning=lane, **extra, **changes)
                value = seconds[framework] * math.prod(factors[name] for name in names[:count])
                lines.append(make_line(cell, run, value * spread[run], sequence=len(lines)))
    cells = list(dict.fromkeys(Cell.from_record(line["cell"]) for line in lines))
    for line in lines:
        line["sequence"] = line["run"] + runs * cells.index(Cell.from_record(line["cell"]))
    return lines


def without_copies(
    lines: Sequence[dict[str, Any]], **changes: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the lines without those of tuned cells without tweaks, and the stock cells that
    stand for them, as a study records both.

    Args:
      lines: lines of a study.
      changes: further fields of each shared cell.
    """
    kept = [x for x in lines if x["cell"]["tuning"] != "tuned" or x["cell"].get("tweaks")]
    copies = {Cell.from_record(x["cell"]) for x in lines if x not in kept}
    ids = sorted(dataclasses.replace(cell, tuning="stock").id for cell in copies)
    return kept, [{"cell_id": name, "lane": "tuned", **changes} for name in ids]


def write_study(
    folder: Path,
    lines: Sequence[dict[str, Any]],
    *,
    steps: int = 20,
    scaling: str = "strong",
    shared: Sequence[dict[str, Any]] = (),
) -> Store:
    """Writes the folder of a study.

    Each successful run gets a folder with ``steps`` losses; with 0, runs have no folders. The
    session records the cells ``shared``.
    """
    folder.mkdir(parents=True)
    session = {
        "flags": ["--models=mlp_medium"],
        "rounds": 6,
        "started": "2026",
        "machine": MACHINE,
        **({"shared": list(shared)} if shared else {}),
    }
    settings = {
        "scaling": scaling,
        "order_seed": 0,
        "order_rule": "test",
        "sessions": [session],
    }
    (folder / "study.json").write_text(json.dumps(settings))
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for line in lines if steps else ():
        if line["status"] != "ok":
            continue
        run_dir = folder / line["run_dir"]
        run_dir.mkdir(parents=True)
        step = line["step_seconds"]["median"]
        step_lines = [
            {"step": i, "phase": "throughput", "window": i // 5, "loss": 5.25 * 0.9**i}
            for i in range(steps)
        ]
        window_lines = [
            {
                "window": i,
                "phase": "throughput" if i % 2 == 0 else "latency",
                "first_step": 5 * i,
                "steps": 5,
                "seconds": 5 * step,
                "rank_seconds": [5 * step],
            }
            for i in range(steps // 5)
        ]
        for name, records in (("steps", step_lines), ("windows", window_lines)):
            text = "".join(json.dumps(record) + "\n" for record in records)
            (run_dir / f"{name}.jsonl").write_text(text)
        (run_dir / "result.json").write_text(json.dumps(line))
        (run_dir / "config.json").write_text(json.dumps(CONFIG))
        (run_dir / "machine.json").write_text(json.dumps({"framework": FRAMEWORK_FACTS}))
    return Store(folder)


def turns_lines(
    cells: Sequence[tuple[dict[str, Any], float]],
    *,
    groups: int = 4,
    rounds: int = 6,
    process: float = 0.0,
    window: float = 0.0,
    drift: float = 0.0,
    began: str = "2026-11-21T10:00:00",
    disturbed: Callable[[int, int, int], bool] = lambda cell, group, number: False,
) -> list[dict[str, Any]]:
    """Returns the lines of cells whose runs took turns.

    Args:
      cells: (cell, seconds per step).
      groups, rounds: numbers of groups, and of rounds in each.
      process, window: standard deviations of log time, of a process and of a window.
      began: when the groups began.
      drift: log time added from the first round of the study to the last, to all cells alike.
      disturbed: (cell, group, round) -> whether other programs disturb the window; its time is then
        ten times as long.
    """
    random = np.random.default_rng(0)
    lines: list[dict[str, Any]] = []
    for group in range(groups):
        for index, (cell, seconds) in enumerate(cells):
            level = math.log(seconds) + process * random.normal()
            figures = []
            for number in range(rounds):
                place = (group * rounds + number) / (groups * rounds)
                spoilt = disturbed(index, group, number)
                time = math.exp(level + window * random.normal() + drift * place)
                figures.append(
                    {
                        "round": number,
                        "seconds_per_step": time * (10 if spoilt else 1),
                        "steps": 30,
                        "outside_load_share": 0.5 if spoilt else 0.0,
                        "disturbed": spoilt,
                    }
                )
            line = make_line(cell, group, figures[0]["seconds_per_step"], sequence=len(lines))
            line["turns"] = {
                "rounds": figures,
                "group": f"{group} {began}",
                "members": len(cells),
                "place": index,
                "waiting_cpu_share": 0.001,
                "warmup_stable": True,
                "losses": {"1": 5.0},
            }
            lines.append(line)
    return lines
