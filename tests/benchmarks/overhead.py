"""Measures the time that isoscale's runners add to a hand-written step and to the start of a run.

Runner and hand-written step alternate, window by window, in one process on one pinned core:
float32, AdamW, ``bare``, in both lanes. The hand-written step has the environment and operations of
the lane. Both train on the same batches from the same start; the benchmark compares their losses
first. The table shows the median, with its 95 % interval (order statistics), of the ratios of pairs
of windows: drift of the machine cancels. Targets: at most 1.02 where a step takes 10 ms or more, at
most 1.08 on mlp_medium; a run starts in the time of the framework's import plus one second.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from isoscale.common.analysis.estimates import median_estimate
from isoscale.common.registry import lookup
from tests.benchmarks.ours import LANES, Ours, answer_as_child, make_config, measure_in_child

PAIRS = 30
WARMUP = 10
"""One block of steps of the tuned lane. Later, rounding makes the two losses differ."""
TARGETS = {"mlp_medium": 1.08, "gpt_tiny": 1.02}
WINDOW_STEPS = {"mlp_medium": 100, "gpt_tiny": 3}


def measure(framework: str, lane: str, model: str) -> dict:
    """Runs the pairs of one framework, model and lane in this process."""
    ours = Ours(make_config(framework, model, lane))
    from tests.benchmarks.hand_written import STEPS  # after the runner has set up its devices

    initial = ours.config.spec.initial_parameters(seed=0)
    step, wait, size = STEPS[framework](model, initial, ours.batches, lane == "tuned")
    done = 0

    def theirs(steps: int) -> tuple[float, list[float]]:
        nonlocal done
        wait()
        start = time.perf_counter()
        for first in range(done, done + steps, size):
            loss = step(first)
        wait()
        seconds = time.perf_counter() - start
        done += steps
        return seconds, [float(loss)]

    sides = (ours.window, theirs)
    differences = []
    for _ in range(WARMUP // size):
        mine, other = (side(size)[1][-1] for side in sides)
        differences.append(abs(mine - other) / mine)
    count = WINDOW_STEPS[model]
    seconds: list[list[float]] = [[], []]
    for pair in range(PAIRS):
        for which in (0, 1) if pair % 2 else (1, 0):
            seconds[which].append(sides[which](count)[0] / count)
    return {"ours": seconds[0], "theirs": seconds[1], "loss_difference": max(differences)}


def start_seconds(framework: str, folder: Path, repeat: int) -> dict:
    """Returns cause -> seconds, from the start of a run's process to its first step."""
    run_dir = folder / f"start-{framework}-{repeat}"
    command = [sys.executable, "-m", lookup.program(framework), "--model=mlp_medium", "--steps=2"]
    subprocess.run([*command, f"--run_dir={run_dir}"], check=True, capture_output=True)
    return json.loads((run_dir / "result.json").read_text())["startup_seconds"]


def table_row(framework: str, lane: str, model: str) -> str:
    found = measure_in_child("tests.benchmarks.overhead", framework, lane, model)
    assert found["loss_difference"] < 1e-4, f"{framework} {model}: the two steps differ"
    pairs = zip(found["ours"], found["theirs"], strict=True)
    ratio = median_estimate([ours / theirs for ours, theirs in pairs])
    theirs, ours = (1e3 * median_estimate(found[side]).median for side in ("theirs", "ours"))
    met = "yes" if ratio.median <= TARGETS[model] else "**no**"
    return (
        f"| {framework} | {lane} | {model} | {theirs:.3f} | {ours:.3f} | {ratio.median:.3f} "
        f"[{ratio.low:.3f}, {ratio.high:.3f}] | {TARGETS[model]} | {met} |"
    )


def rows():
    """Yields the lines of the table; measures each line first."""
    yield (
        "| framework | lane | model | hand-written, ms/step | runner, ms/step | ratio [95 %] "
        "| target | met |\n|---|---|---|---|---|---|---|---|"
    )
    for framework in lookup.frameworks():
        for lane in LANES:
            for model in TARGETS:
                yield table_row(framework, lane, model)
    yield f"\nn = {PAIRS} pairs of windows ({WINDOW_STEPS} steps each)."


def start_rows():
    """Yields the lines of the table of start times; measures each line first."""
    yield "| framework | import, s | rest of the start, s (interpreter, data, build) | n |"
    yield "|---|---|---|---|"
    with tempfile.TemporaryDirectory() as folder:
        for framework in lookup.frameworks():
            runs = [start_seconds(framework, Path(folder), repeat) for repeat in range(5)]
            imports = median_estimate([run["import_seconds"] for run in runs]).median
            rest = [sum(run.values()) - run["import_seconds"] for run in runs]
            yield f"| {framework} | {imports:.2f} | {median_estimate(rest).median:.2f} | 5 |"


if __name__ == "__main__":
    answer_as_child(measure)
