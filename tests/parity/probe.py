"""Trains models in one framework and writes what it computed; started by ``test_parity.py``.

One process (or one per device) serves all cases of a (framework, strategy, device count). The first
writes a trace; the others compare themselves with it step by step, as they run.
"""

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from common.commands import lookup
from common.config.model_spec import Arrays
from common.config.run_config import OptimizerConfig, RunConfig
from common.machine.cores import available_cores
from common.machine.tweaks import choose, read_wish
from common.measure.heartbeat import Heartbeat, path_for
from common.measure.runner import Block, Runner
from common.parity import compare, tolerances, trace
from common.parity.compare import Difference
from common.study import launch


def config_for(case: dict[str, Any]) -> RunConfig:
    """Returns the configuration of a case of the tests' table."""
    name, framework, strategy = case["model"], case["framework"], case["strategy"]
    parity = lookup.parity_specs()
    spec = parity[name] if name in parity else lookup.preset(name).spec
    info = lookup.framework_info(framework)
    config = RunConfig(
        framework=framework,
        strategy=strategy,
        model=name,
        spec=spec,
        devices=case["devices"],
        process_model=lookup.strategy_info(framework, strategy).process_model,
        global_batch_size=case["batch"],
        dtype=case["dtype"],
        compile_mode=info.compile_modes[0],
        optimizer=OptimizerConfig(**case.get("optimizer", {})),
        steps=case["steps"],
        window_steps=case["steps"],
        latency_steps=0,
        available_cores=len(available_cores()),
        allow_oversubscription=True,
        seed=3,
    )
    known = lookup.tweaks(framework)
    tuning, *added = case["tuning"].split("+")
    wish = read_wish([f"+{name}" for name in added], lookup.tweak_names())
    return choose(config, known, tuning=tuning, wish=wish, must_apply=True)


def check_block(
    runner: Runner, batches: list[Arrays], steps: int, bound: float
) -> list[Difference]:
    """A block of steps must do what its steps do one by one, and a rehearsal nothing."""
    start, state = runner.parameters(), runner.optimizer_state()
    block = Block(runner.place_pool(batches), int(state["step"]["step"]), steps)
    runner.rehearse(block)
    untouched = tolerances.absolute_differences(runner.parameters(), start)
    found = [
        Difference(kind="rehearsal", step=0, name=n, value=v, bound=0.0)
        for n, v in untouched.items()
    ]
    placed = [runner.place(batch) for batch in batches]
    handles = [
        runner.step(placed[i % len(placed)]) for i in range(block.first, block.first + steps)
    ]
    one_by_one, losses = runner.parameters(), runner.metrics(handles)
    runner.set_parameters(start)
    runner.set_optimizer_state(state)
    together = runner.metrics([runner.step(block)])
    values = tolerances.absolute_differences(runner.parameters(), one_by_one)
    values |= {
        f"{name} of step {i}": abs(value - together[i][name]) / abs(value)
        for i, row in enumerate(losses)
        for name, value in row.items()
    }
    return found + [
        Difference(kind="block of steps", step=0, name=n, value=v, bound=bound)
        for n, v in values.items()
    ]


def check_shares(runner: Runner, batch: Any, bound: float) -> list[Difference]:
    """Gradients without reduction must add up to the reduced ones, one share per device."""
    _, (reduced,) = runner.read_gradients(runner.gradients(batch))
    _, shares = runner.read_gradients(runner.gradients(batch, sync=False))
    total = {name: sum(share[name] for share in shares) for name in reduced}
    values = tolerances.gradient_differences(total, reduced)
    found = [
        Difference(kind="sum of unreduced gradients", step=0, name=n, value=v, bound=bound)
        for n, v in values.items()
    ]
    if len(shares) > 1:  # a share that is the whole would be no share
        same = all(np.allclose(shares[0][name], reduced[name], rtol=1e-3) for name in reduced)
        found.append(Difference(kind="share is a part", step=0, name="", value=same, bound=0))
    return found


def check_restore(runner: Runner, batch: Any) -> list[Difference]:
    """Setting parameters and optimizer state back must make a step repeat itself exactly."""
    parameters, optimizer = runner.parameters(), runner.optimizer_state()
    runner.step(batch)
    runner.wait()
    once = runner.parameters()
    runner.set_parameters(parameters)
    runner.set_optimizer_state(optimizer)
    runner.step(batch)
    runner.wait()
    values = tolerances.absolute_differences(runner.parameters(), once)
    return [
        Difference(kind="restored state", step=0, name=n, value=v, bound=0.0)
        for n, v in values.items()
    ]


def run_case(case: dict[str, Any], output: Path, beat: Heartbeat) -> None:
    """Writes the trace of a case, or its differences from the trace in ``case["reference"]``."""
    config = config_for(case)
    dataset = lookup.data_source("synthetic").load(
        config.spec,
        global_batch_size=config.global_batch_size,
        pool=4,
        seed=config.seed,
        dtype=config.parameter_dtype,
    )
    runner = lookup.load_runner(config)()
    if case["zeroed"]:
        start = runner.parameters()
        zeros = {n: np.zeros_like(v) for n, v in start.items() if n.endswith(case["zeroed"])}
        runner.set_parameters({**start, **zeros})
    bounds = getattr(tolerances, case["tolerance"])
    folder = output / case["id"]
    differences: list[Difference] = []
    steps = trace.steps_of(
        runner,
        dataset.batches,
        steps=case["steps"],
        logits=case["logits"],
        optimizer=case["optimizer_state"],
    )
    for step, record in enumerate(steps):
        beat.beat(f"{case['id']}, step {step}")
        if runner.rank:
            continue
        if case["reference"]:
            theirs = trace.load_step(Path(case["reference"]), step)
            differences += compare.compare_step(step, record, theirs, bounds)
        else:
            trace.save_step(folder, step, record)
    if case["extras"]:
        batch = runner.place(dataset.batches[0])
        differences += check_shares(runner, batch, bounds.gradient)
        differences += check_restore(runner, batch)
    if config.steps_per_dispatch > 1 and case["extras"]:
        differences += check_block(
            runner, dataset.batches, config.steps_per_dispatch, bounds.parameter
        )
    if runner.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        kept = compare.worst(differences)
        text = json.dumps([dataclasses.asdict(entry) for entry in kept])
        (folder / "done.json").write_text(text)
    runner.barrier()


def main() -> None:
    launch.die_with_launcher()
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    cases = json.loads(arguments.cases.read_text())
    config = config_for(cases[0])
    rank = int(os.environ.get("RANK", "0"))
    # Not pinned, unlike runs: nothing is timed, and the probes share the cores better so.
    os.environ.update(lookup.framework_environment(config.framework, config))
    beat = Heartbeat(path_for(arguments.cases.parent, rank))
    for case in cases:
        run_case(case, arguments.output, beat)
    sys.stdout.flush()
    os._exit(0)  # see common/commands/run_program.py: native threads may outlive us


if __name__ == "__main__":
    main()
