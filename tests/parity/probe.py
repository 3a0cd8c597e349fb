"""Trains parity models in one framework and writes what it computed; started by the tests.

One process serves all models of a (framework, device count); the tests compare the traces.
"""

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from common.commands import lookup
from common.config.run_config import OptimizerConfig, RunConfig
from common.machine.cores import available_cores, cores_of_devices, pin
from common.parity import compare, tolerances, trace
from common.study import launch


def config_for(case: dict) -> RunConfig:
    """Returns the configuration of a case: a dict of the tests' table."""
    name, framework, strategy = case["model"], case["framework"], case["strategy"]
    parity = lookup.parity_specs()
    spec = parity[name] if name in parity else lookup.preset(name).spec
    spec = spec.with_overrides(case.get("overrides", {}))
    info = lookup.framework_info(framework)
    return RunConfig(
        framework=framework,
        strategy=strategy,
        model=name,
        spec=spec,
        devices=case["devices"],
        process_model=lookup.strategy_info(framework, strategy).process_model,
        global_batch_size=case["batch"],
        dtype=case["dtype"],
        compile_mode=case.get("compile_mode") or info.compile_modes[0],
        optimizer=OptimizerConfig(**case.get("optimizer", {})),
        steps=case["steps"],
        window_steps=1,
        latency_steps=0,
        available_cores=len(available_cores()),
        allow_oversubscription=True,
        seed=case.get("seed", 3),
    )


def run_case(case: dict, output: Path) -> None:
    """Writes the trace of a case, or its differences to a reference trace."""
    config = config_for(case)
    dataset = lookup.data_source("synthetic").load(
        config.spec,
        global_batch_size=config.global_batch_size,
        pool=4,
        seed=config.seed,
        dtype=config.parameter_dtype,
    )
    runner = lookup.load_runner(config)()
    reference = case.get("reference")
    differences: list[compare.Difference] = []
    for step, record in enumerate(
        trace.steps_of(runner, dataset.batches, steps=case["steps"])
    ):
        if reference:
            theirs = trace.load_step(Path(reference), step)
            bounds = getattr(tolerances, case["tolerance"])
            differences += compare.compare_step(step, record, theirs, bounds)
        elif runner.rank == 0:
            trace.save_step(output / case["id"], step, record)
    if runner.rank == 0:
        (output / case["id"]).mkdir(parents=True, exist_ok=True)
        kept = [d for d in differences if not d.within] + compare.worst(differences)
        text = json.dumps([dataclasses.asdict(entry) for entry in kept])
        (output / case["id"] / "done.json").write_text(text)
    runner.barrier()


def main() -> None:
    launch.die_with_launcher()
    parser = argparse.ArgumentParser()
    parser.add_argument("cases")
    parser.add_argument("output")
    arguments = parser.parse_args()
    cases = json.loads(Path(arguments.cases).read_text())
    config = config_for(cases[0])
    rank = int(os.environ.get("RANK", "0"))
    per_device = config.process_model == "per_device"
    pin(
        cores_of_devices(
            available_cores(),
            first_device=rank,
            devices=1 if per_device else config.devices,
            threads_per_device=1,
        )
    )
    os.environ.update(lookup.framework_environment(config.framework, config))
    for case in cases:
        run_case(case, Path(arguments.output))
    sys.stdout.flush()
    os._exit(0)  # see common/commands/run_program.py: native threads may outlive us


if __name__ == "__main__":
    main()
