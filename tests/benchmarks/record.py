"""Records windows of the three frameworks on this machine, for the simulation of studies.

    python -m tests.benchmarks.record                   about 12 minutes, alone on the machine
    python -m tests.benchmarks.record mlp_medium        only this model

The frameworks' processes (tuned, one core) take turns, in random order in each round, in groups of
fresh processes. Windows and fitted parameters replace those of the same machine and model in
``tests/benchmarks/windows.json``. If other programs use the machine, nothing is recorded.
"""

import dataclasses
import json
import random
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from isoscale.common.disk.json_files import write_atomically
from isoscale.common.machine import describe
from isoscale.common.registry import lookup
from tests.benchmarks.coverage import WINDOWS
from tests.benchmarks.noise import fit
from tests.benchmarks.ours import Workers, make_config
from tests.benchmarks.side_by_side import WINDOW_STEPS

MODELS = ("mlp_medium", "transformer_small", "moe_tiny")
GROUPS, ROUNDS = 6, 25
MOST_LOAD = 0.1
"""Most cores that other programs may use; a group with more is repeated."""
MOST_REPEATS = 3


class OtherPrograms:
    """How many cores other programs use while this one and its workers run."""

    def __init__(self, workers: Iterable[Workers]):
        self._own = [psutil.Process(), *(psutil.Process(p.pid) for w in workers for p in w.started)]
        self._began = self._read()

    def _read(self) -> tuple[float, float]:
        """Returns the clock, and the seconds of CPU time that other programs have used."""
        times = psutil.cpu_times()
        busy = times.user + times.nice + times.system + getattr(times, "steal", 0.0)
        own = [process.cpu_times() for process in self._own]
        return time.monotonic(), busy - sum(each.user + each.system for each in own)

    def cores(self) -> float:
        """Returns the mean number of cores since the start."""
        (before, used), (now, using) = self._began, self._read()
        return max(0.0, (using - used) / (now - before))


def other_load(seconds: float = 5.0) -> float:
    """Returns how many cores other programs use now; waits for some seconds."""
    watch = OtherPrograms([])
    time.sleep(seconds)
    return watch.cores()


def record_group(model: str) -> tuple[dict[str, list[float]], float]:
    """Records one group of fresh processes.

    Returns:
      framework -> seconds per step of each round; cores that other programs used meanwhile.
    """
    steps = WINDOW_STEPS[model]
    names = list(lookup.frameworks())
    random.shuffle(names)
    workers: dict[str, Workers] = {}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    try:
        for name in names:
            workers[name] = Workers([make_config(name, model, "tuned")])
            for _ in range(2):
                workers[name].window(steps)
        watch = OtherPrograms(workers.values())
        for _ in range(ROUNDS):
            random.shuffle(names)
            for name in names:
                workers[name].window(max(1, steps // 10))  # refills the caches, not counted
                seconds[name].append(workers[name].window(steps)[0] / steps)
        load = watch.cores()
    finally:
        for side in workers.values():
            side.end()
    return seconds, load


def record(model: str) -> dict[str, Any]:
    """Returns the entry of the file for a model on this machine.

    Raises:
      RuntimeError: other programs used the machine in too many groups.
    """
    facts = describe.machine()
    groups: list[dict[str, list[float]]] = []
    loads: list[float] = []
    repeats = 0
    while len(groups) < GROUPS:
        seconds, load = record_group(model)
        print(f"{model}: group {len(groups) + 1} of {GROUPS}, others use {load:.2f} cores")
        if load <= MOST_LOAD:
            groups.append(seconds)
            loads.append(load)
        elif (repeats := repeats + 1) > MOST_REPEATS:
            raise RuntimeError(f"other programs disturbed {repeats} groups of {model}")
    cells = {name: {index: group[name] for index, group in enumerate(groups)} for name in groups[0]}
    return {
        "machine": f"{facts['cpu_model']}, {len(facts['available_cores'])} cores",
        "model": model,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "versions": {name: metadata.version(name) for name in ("jax", "tensorflow", "torch")},
        "other_load_cores": [round(load, 3) for load in loads],
        "noise": {
            name: float(f"{value:.4g}") for name, value in dataclasses.asdict(fit(cells)).items()
        },
        "seconds": {
            name: [[float(f"{value:.5g}") for value in rounds] for rounds in cells[name].values()]
            for name in sorted(cells)
        },
    }


def write(entry: dict[str, Any], path: Path = WINDOWS) -> None:
    """Adds an entry to the file; replaces the one of the same machine and model."""
    entries = json.loads(path.read_text()) if path.exists() else []
    key = ("machine", "model")
    kept = [old for old in entries if any(old[part] != entry[part] for part in key)]
    ordered = sorted([*kept, entry], key=lambda item: [item[part] for part in key])
    write_atomically(path, "[\n" + ",\n".join(json.dumps(item) for item in ordered) + "\n]\n")


def main(models: list[str]) -> None:
    unknown = [name for name in models if name not in WINDOW_STEPS]
    if unknown:
        print(
            f"unknown model {unknown[0]!r}: choose from {', '.join(WINDOW_STEPS)}", file=sys.stderr
        )
        sys.exit(2)
    for model in models or MODELS:
        load = other_load()
        if load > MOST_LOAD:
            sys.exit(f"other programs use {load:.1f} cores: record windows on a quiet machine")
        try:
            write(record(model))
        except RuntimeError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
