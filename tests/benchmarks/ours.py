"""isoscale's side of the benchmarks: runs a runner window by window through the timed loop.

    python -m tests.benchmarks.ours FRAMEWORK STRATEGY MODEL LANE FIRST_DEVICE

reads numbers of steps from standard input, runs a window for each, and prints its seconds.
``Workers`` starts these processes and lets them take turns.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from isoscale.common.config.run_config import RunConfig
from isoscale.common.machine.cores import available_cores, cores_of_devices, pin
from isoscale.common.processes.ranks import environments
from isoscale.common.program.main import define_flags
from isoscale.common.registry import lookup
from isoscale.common.registry.build_config import build_config
from isoscale.common.registry.environments import of_run

LANES = ("stock", "tuned")
POOL = 8


def make_config(framework: str, model: str, lane: str, *, strategy: str = "bare") -> RunConfig:
    """Returns a float32 configuration with the model's batch on each device.

    ``bare`` has one device, every other strategy two.
    """
    fv = define_flags(framework)
    fv.parse([])
    devices = 1 if strategy == "bare" else 2
    return build_config(
        fv,
        framework=framework,
        strategy=strategy,
        model=model,
        devices=devices,
        global_batch_size=devices * lookup.preset(model).global_batch_size,
        dtype="float32",
        compile_mode=None,
        tuning=lane,
    )


class Ours:
    """A runner in this process, which is pinned before the import of the framework."""

    def __init__(self, config: RunConfig, *, first_device: int = 0):
        pin(
            cores_of_devices(
                available_cores(),
                first_device=first_device,
                devices=1 if config.process_model == "per_device" else config.devices,
                threads_per_device=1,
            )
        )
        os.environ.update(lookup.framework_environment(config.framework, config))
        self.config = config
        self.runner = lookup.load_runner(config)()
        self.batches = (
            lookup.data_source("synthetic")
            .load(
                config.spec,
                global_batch_size=config.global_batch_size,
                pool=POOL,
                seed=0,
                dtype="float32",
            )
            .batches
        )
        self._placed = [self.runner.place(batch) for batch in self.batches]
        self._pool = None
        if config.steps_per_dispatch > 1:
            self._pool = self.runner.place_pool(self.batches)
        self._done = 0

    def window(self, steps: int) -> tuple[float, list[float]]:
        """Runs a window; returns its seconds and the loss of each step."""
        from isoscale.common.measure.loop import timed_window
        from isoscale.common.measure.scenarios.training import window_of

        window = window_of(
            range(self._done, self._done + steps),
            self._placed,
            pool=self._pool,
            block_steps=self.config.steps_per_dispatch,
        )
        self._done += steps
        seconds, handles = timed_window(
            self.runner,
            window,
            issue=self.runner.step,
            max_in_flight=self.config.max_in_flight,
        )
        return seconds, [entry["loss"] for entry in self.runner.metrics(handles)]


def measure_in_child(module: str, framework: str, lane: str, model: str) -> dict[str, Any]:
    """Runs a benchmark's program in the environment of a lane; returns the JSON that it prints.

    Raises:
      RuntimeError: the program failed; the message has the end of its standard error.
    """
    answer = subprocess.run(
        [sys.executable, "-P", "-m", module, framework, lane, model],
        env={
            **of_run(make_config(framework, model, lane)),
            "KERAS_BACKEND": framework,
        },
        capture_output=True,
        text=True,
    )
    if answer.returncode:
        raise RuntimeError(f"{module} {framework} {lane} {model}:\n{answer.stderr[-4000:]}")
    return json.loads(answer.stdout.splitlines()[-1])


def answer_as_child(measure: Callable[[str, str, str], dict[str, Any]]) -> NoReturn:
    """Calls ``measure`` with the words of the command line, prints its result, and exits.

    Skips the interpreter's shutdown, in which threads of a framework can hang.
    """
    print(json.dumps(measure(*sys.argv[1:])), flush=True)
    os._exit(0)


class Workers:
    """The processes of one side: they run their windows together and wait between windows."""

    def __init__(self, configs: list[RunConfig]):
        """Starts the processes.

        Args:
          configs: one for each run; run n starts at device n.
        """
        self._processes = []
        self._held = contextlib.ExitStack()  # removes the ranks' meeting files
        for device, config in enumerate(configs):
            words = [config.framework, config.strategy, config.model, config.tuning, str(device)]
            per_device = config.process_model == "per_device"
            own: list[dict[str, str]] = [{}]
            if per_device:
                folder = Path(self._held.enter_context(tempfile.TemporaryDirectory()))
                own = self._held.enter_context(environments(config.devices, folder=folder))
            for rank in own:
                environment = {**of_run(config), **rank}
                self._processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "tests.benchmarks.ours", *words],
                        env=environment,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.DEVNULL,
                        text=True,
                    )
                )
        for process in self._processes:
            self._read(process)

    @property
    def started(self) -> tuple[subprocess.Popen, ...]:
        """The processes."""
        return tuple(self._processes)

    def _read(self, process: subprocess.Popen) -> str:
        line = process.stdout.readline()
        while line and line.strip() != "ready" and not line[0].isdigit():
            line = process.stdout.readline()  # a line that the framework printed
        if not line:
            raise RuntimeError(f"a worker exited with code {process.wait()}: {process.args}")
        return line

    def window(self, steps: int) -> list[float]:
        """Runs a window in all processes; returns the seconds of each."""
        for process in self._processes:
            process.stdin.write(f"{steps}\n")
            process.stdin.flush()
        return [float(self._read(process)) for process in self._processes]

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self._held.close()


def main() -> None:
    framework, strategy, model, lane, first_device = sys.argv[1:]
    rank = int(os.environ.get("RANK", "0"))
    config = make_config(framework, model, lane, strategy=strategy)
    side = Ours(config, first_device=int(first_device) + rank)
    print("ready", flush=True)
    for line in sys.stdin:
        print(side.window(int(line))[0], flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
