"""What isoscale's runners add to a hand-written step, and to the start of a run.

    make benchmark        about 4 minutes; prints two tables

Runner and hand-written step alternate, window by window, in one process on one pinned core:
float32, AdamW, ``bare``. The ratio of each pair of windows is taken, then the median over pairs
with its 95 % interval (order statistics), so that drift of the machine cancels. Both train on the
same batches from the same start; their losses are compared first. Targets: at most 1.02 where a
step takes 10 ms or more, at most 1.08 on mlp_medium; a run starts in the framework's import plus
one second.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common.commands import lookup
from common.commands.build_config import build_config
from common.commands.run_program import define_flags
from common.machine.cores import available_cores, pin

PAIRS = 40
WARMUP = 10
TARGETS = {"mlp_medium": 1.08, "gpt_tiny": 1.02}
WINDOW_STEPS = {"mlp_medium": 100, "gpt_tiny": 3}


def measure(framework: str, model: str) -> dict:
    """Runs the pairs of one framework and model in this process."""
    from common.measure.loop import timed_window
    from tests.benchmarks.hand_written import STEPS

    pin(available_cores()[:1])
    fv = define_flags(framework)
    fv.parse([f"--model={model}"])
    config = build_config(
        fv,
        framework=framework,
        strategy="bare",
        model=model,
        devices=1,
        global_batch_size=None,
        dtype="float32",
        compile_mode=None,
    )
    os.environ.update(lookup.framework_environment(framework, config))
    runner = lookup.load_runner(config)()
    data = lookup.data_source("synthetic").load(
        config.spec,
        global_batch_size=config.global_batch_size,
        pool=8,
        seed=0,
        dtype="float32",
    )
    step, wait = STEPS[framework](model, config.spec.initial_parameters(seed=0), data.batches)
    placed = [runner.place(batch) for batch in data.batches]
    count = WINDOW_STEPS[model]
    done = [0, 0]

    def ours(steps: int) -> float:
        window = [placed[(done[0] + i) % 8] for i in range(steps)]
        done[0] += steps
        seconds, handles = timed_window(runner, window, max_in_flight=config.max_in_flight)
        losses[0] = runner.metrics(handles[-1:])[0]["loss"]
        return seconds

    def theirs(steps: int) -> float:
        wait()
        start = time.perf_counter()
        for i in range(steps):
            losses[1] = step(done[1] + i)
        wait()
        seconds = time.perf_counter() - start
        done[1] += steps
        return seconds

    losses: list = [0.0, 0.0]
    first = []
    for _ in range(WARMUP):
        ours(1), theirs(1)
        first.append(abs(losses[0] - float(losses[1])) / losses[0])
    seconds: list[list[float]] = [[], []]
    for pair in range(PAIRS):
        order = (0, 1) if pair % 2 else (1, 0)
        for which in order:
            seconds[which].append((ours, theirs)[which](count) / count)
    return {"ours": seconds[0], "theirs": seconds[1], "loss_difference": max(first)}


def start_seconds(framework: str, folder: Path, repeat: int) -> dict:
    """Returns how long a run takes from the start of its process to its first step, by cause."""
    run_dir = folder / f"start-{framework}-{repeat}"
    command = [sys.executable, "-m", lookup.program(framework), "--model=mlp_medium", "--steps=2"]
    subprocess.run([*command, f"--run_dir={run_dir}"], check=True, capture_output=True)
    return json.loads((run_dir / "result.json").read_text())["startup_seconds"]


def main() -> None:
    if len(sys.argv) == 3:
        print(json.dumps(measure(*sys.argv[1:])))
        sys.stdout.flush()
        os._exit(0)
    import numpy as np

    from common.analysis.estimates import median_estimate

    print("| framework | model | hand-written ms/step | runner ms/step | ratio [95 %] | target |")
    print("|---|---|---|---|---|---|")
    for framework in lookup.frameworks():
        for model, target in TARGETS.items():
            answer = subprocess.run(
                [sys.executable, "-m", "tests.benchmarks.overhead", framework, model],
                check=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            found = json.loads(answer.stdout.splitlines()[-1])
            assert found["loss_difference"] < 1e-4, f"{framework} {model}: not the same step"
            ratios = np.array(found["ours"]) / np.array(found["theirs"])
            ratio = median_estimate(ratios.tolist())
            theirs, ours = (1e3 * float(np.median(found[k])) for k in ("theirs", "ours"))
            print(
                f"| {framework} | {model} | {theirs:.3f} | {ours:.3f} | {ratio.median:.3f} "
                f"[{ratio.low:.3f}, {ratio.high:.3f}] | {target} |",
                flush=True,
            )
    print(f"\nn = {PAIRS} pairs of windows ({WINDOW_STEPS} steps each), one pinned core.\n")
    print("| framework | import s | rest of the start s (interpreter, data, build) | n |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as text:
        for framework in lookup.frameworks():
            runs = [start_seconds(framework, Path(text), repeat) for repeat in range(5)]
            imports = [run["import_seconds"] for run in runs]
            rest = [sum(run.values()) - run["import_seconds"] for run in runs]
            print(
                f"| {framework} | {np.median(imports):.2f} | {np.median(rest):.2f} | 5 |",
                flush=True,
            )


if __name__ == "__main__":
    main()
