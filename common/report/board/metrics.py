"""The metrics of a run: the figures that the page of hyperparameters compares."""

import dataclasses
from typing import Any

from isoscale.common.report.board.values import finite, scaled


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric: its tag in event files, the name of its column, and what it measures."""

    tag: str
    name: str
    about: str


METRICS = (
    Metric(
        tag="run/step_ms",
        name="ms/step",
        about="median over throughput windows",
    ),
    Metric(tag="run/examples_per_s", name="examples/s", about="all measured examples / seconds"),
    Metric(tag="run/latency_ms", name="latency ms", about="median of single-step windows"),
    Metric(tag="run/compile_s", name="compile s", about="first step less a median step"),
    Metric(tag="run/peak_memory_MiB", name="memory MiB", about="peak, as the study's table"),
    Metric(tag="run/loss_last", name="last loss", about="of the last training step"),
    Metric(tag="run/accuracy_percent", name="accuracy %", about="on the evaluation set"),
    Metric(
        tag="run/disturbed",
        name="disturbed",
        about="1: other programs used more than 10 % of one of the run's cores",
    ),
)


def _median(line: dict[str, Any], name: str) -> float | None:
    found = line.get(name)
    return finite(found.get("median")) if isinstance(found, dict) else None


def _accuracy(line: dict[str, Any]) -> float | None:
    found = line.get("eval")
    return finite(found.get("accuracy")) if isinstance(found, dict) else None


def metrics_of(line: dict[str, Any]) -> dict[str, float]:
    """Returns tag -> value of a successful run; {} for any other run."""
    if line.get("status") != "ok":
        return {}
    disturbed = line.get("disturbed")
    values = {
        "run/step_ms": scaled(_median(line, "step_seconds"), 1e3),
        "run/examples_per_s": finite(line.get("items_per_second")),
        "run/latency_ms": scaled(_median(line, "latency_seconds"), 1e3),
        "run/compile_s": finite(line.get("compile_seconds")),
        "run/peak_memory_MiB": scaled(finite(line.get("peak_memory_bytes")), 2**-20),
        "run/loss_last": finite(line.get("loss_last")),
        "run/accuracy_percent": scaled(_accuracy(line), 100),
        "run/disturbed": None if disturbed is None else float(bool(disturbed)),
    }
    return {tag: value for tag, value in values.items() if value is not None}
