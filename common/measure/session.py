"""One measured run, from the first step to the result record."""

import gc
import itertools
import math
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import psutil

from isoscale.common.config.run_config import RunConfig
from isoscale.common.data.dataset import Dataset
from isoscale.common.machine.cores import available_cores
from isoscale.common.measure.loop import timed_window
from isoscale.common.measure.runner import Block, Placed, Runner
from isoscale.common.measure.windows import Window, summarize
from isoscale.common.processes.heartbeat import Heartbeat
from isoscale.common.reference.evaluation import Evaluation

DISTURBED_SHARE = 0.1
"""A run is marked as disturbed if others used more than this share of one of its cores."""


def window_plan(*, steps: int, window_steps: int, latency_steps: int) -> list[tuple[str, int]]:
    """Returns (phase, steps) of the windows, with the latency windows spread evenly between.

    Every throughput window has ``window_steps`` steps but the last, which has the rest.
    """
    full, rest = divmod(steps, window_steps)
    lengths = [window_steps] * full + ([rest] if rest else [])
    plan, done = [], 0
    for index, length in enumerate(lengths):
        plan.append(("throughput", length))
        due = latency_steps * (index + 1) // len(lengths)
        plan += [("latency", 1)] * (due - done)
        done = due
    return plan


def run_plan(config: RunConfig, *, first_step: int) -> list[tuple[str, int]]:
    """Returns (phase, steps) of all windows of a run that goes on at ``first_step``.

    It ends where an unbroken one does. It compiles and warms up again, as far as there are steps.
    """
    left = config.total_steps - first_step - 1
    warmup = min(config.warmup_steps, max(0, left - 1))
    left -= warmup
    latency = min(config.latency_steps, left // 2) if first_step else config.latency_steps
    windows = window_plan(
        steps=left - latency, window_steps=config.window_steps, latency_steps=latency
    )
    return [("compile", 1), *([("warmup", warmup)] if warmup else []), *windows]


def window_of(
    numbers: range, placed: list[Placed], *, pool: Placed, block_steps: int
) -> list[Placed | Block]:
    """Returns what a window issues: as many blocks as fit, if there is a pool; the rest singly."""
    blocked = len(numbers) - len(numbers) % block_steps if pool is not None else 0
    blocks = [Block(pool, first, block_steps) for first in numbers[:blocked:block_steps]]
    return [*blocks, *(placed[number % len(placed)] for number in numbers[blocked:])]


class Saver(Protocol):
    """Saves checkpoints when they are due (``common/checkpoint/saver.py``).

    Attributes:
      saved_steps: steps of the checkpoints that were written.
      failures: one line for each checkpoint that could not be written.
    """

    saved_steps: list[int]
    failures: list[str]

    def steps_until_due(self, step: int) -> int:
        """Returns how many more steps there are before the next checkpoint, 1 or more."""

    def save(self, runner: Runner, step: int) -> None:
        """Saves the training as it is after ``step`` steps."""


class Session:
    """Drives a runner through the phases of a run; the same on every rank."""

    def __init__(
        self,
        config: RunConfig,
        runner: Runner,
        dataset: Dataset,
        *,
        heartbeat: Heartbeat,
        clock: Callable[[], float] = time.perf_counter,
        first_step: int = 0,
        saver: Saver | None = None,
    ):
        """Args:
        config, runner, dataset: of the run.
        heartbeat: is told what is being done.
        clock: in seconds.
        first_step: 0, or the step that a checkpoint goes on with.
        saver: saves checkpoints between windows, which end where one is due.
        """
        self._config = config
        self._runner = runner
        self._dataset = dataset
        self._heartbeat = heartbeat
        self._clock = clock
        self._placed: list[Placed] = []
        self._pool: Placed = None
        self._rehearsal_seconds = 0.0
        self._first_step = self._step = first_step
        self._saver = saver
        self._save_seconds: list[float] = []
        self.windows: list[Window] = []

    def _batches(self, steps: int) -> Iterable[Placed | Block]:
        """Returns the batches of the next window: a list, or a generator that places each."""
        numbers = range(self._step, self._step + steps)
        if self._placed:
            size = self._config.steps_per_dispatch
            return window_of(numbers, self._placed, pool=self._pool, block_steps=size)

        def place() -> Iterator[Placed]:
            for step in numbers:
                yield self._runner.place(self._dataset.batch(step))

        return place()

    def _window(self, phase: str, steps: int) -> None:
        # The slowest step so far bounds what the window may take; the compiling one only as long
        # as there is no other.
        known = [window for window in self.windows if window.phase != "compile"] or self.windows
        slowest = max((window.seconds_per_step for window in known), default=0.0)
        self._heartbeat.beat(f"{phase}, step {self._step}", expected_seconds=steps * slowest)
        seconds, handles = timed_window(
            self._runner,
            self._batches(steps),
            max_in_flight=self._config.max_in_flight,
            clock=self._clock,
        )
        # Reading and gathering the results lies outside the clocks.
        rank_seconds = self._runner.gather(seconds)
        losses = tuple(self._runner.metrics(handles))
        self.windows.append(
            Window(
                phase=phase,
                first_step=self._step,
                steps=steps,
                seconds=max(rank_seconds),
                rank_seconds=tuple(rank_seconds),
                losses=losses,
            )
        )
        self._step += steps

    def _phase(self, phase: str, steps: int) -> None:
        """One window, or several where checkpoints are due within it."""
        while steps:
            due = self._saver.steps_until_due(self._step) if self._saver else None
            length = min(steps, due or steps)
            self._window(phase, length)
            steps -= length
            if self._saver and length == due:
                self._heartbeat.beat(f"saving a checkpoint, step {self._step}")
                start = self._clock()
                self._saver.save(self._runner, self._step)
                self._save_seconds.append(self._clock() - start)

    def _rehearse_block(self) -> None:
        self._heartbeat.beat("compile, block of steps")
        start = self._clock()
        self._pool = self._runner.place_pool(self._dataset.batches)
        self._runner.rehearse(Block(self._pool, self._step, self._config.steps_per_dispatch))
        self._rehearsal_seconds = max(self._runner.gather(self._clock() - start))

    def run(self) -> dict[str, Any]:
        """Trains, measures and evaluates; returns the measured part of the result record.

        Time figures are in seconds, memory in bytes, losses in nats.
        """
        config = self._config
        if config.input_pipeline == "placed":
            self._placed = [self._runner.place(batch) for batch in self._dataset.batches]
        plan = run_plan(config, first_step=self._first_step)
        unmeasured = [entry for entry in plan if entry[0] in ("compile", "warmup")]
        for phase, steps in unmeasured:
            self._phase(phase, steps)
            if phase == "compile" and config.steps_per_dispatch > 1:
                self._rehearse_block()
        gc.collect()
        gc.freeze()  # what exists now is not looked at again inside windows
        load = _OutsideLoad(self._runner)
        for phase, steps in plan[len(unmeasured) :]:
            self._phase(phase, steps)
        outside_share = load.share()
        result = self._figures()
        result["outside_load_share"] = outside_share
        result["disturbed"] = None if outside_share is None else outside_share > DISTURBED_SHARE
        # Before the evaluation, which compiles another function.
        result["memory"], result["peak_memory_bytes"] = self._memory()
        result["eval"] = self._evaluate()
        return result

    def _of_phase(self, phase: str) -> list[Window]:
        return [window for window in self.windows if window.phase == phase]

    def _figures(self) -> dict[str, Any]:
        config = self._config
        throughput = self._of_phase("throughput")
        first = self.windows[0]
        step_seconds = summarize([window.seconds_per_step for window in throughput])
        measured_seconds = sum(window.seconds for window in throughput)
        items = config.global_batch_size * sum(window.steps for window in throughput)
        # A run that goes on from a checkpoint may have too few steps left to measure.
        items_per_second = items / measured_seconds if throughput else None
        tokens = self._dataset.tokens_per_example()
        tokens_per_second = (
            items_per_second * tokens if items_per_second is not None and tokens else None
        )
        losses = [loss for window in self.windows for loss in window.losses]
        diverged = next(
            (
                step
                for step, loss in enumerate(losses, self._first_step)
                if not math.isfinite(loss["loss"])
            ),
            None,
        )
        return {
            "status": "ok" if diverged is None else "diverged",
            "error": None if diverged is None else f"loss is not finite at step {diverged}",
            "step_seconds": step_seconds,
            "latency_seconds": summarize(
                [window.seconds_per_step for window in self._of_phase("latency")]
            ),
            "items_per_second": items_per_second,
            "tokens_per_second": tokens_per_second,
            # A block's rehearsal compiles it, and makes its steps once.
            "compile_seconds": max(0.0, first.seconds - (step_seconds["median"] or 0.0))
            + self._rehearsal_seconds,
            "rehearsal_seconds": self._rehearsal_seconds,
            "first_step_seconds": first.seconds,
            "warmup_seconds": sum(window.seconds for window in self._of_phase("warmup")),
            "measured_seconds": measured_seconds,
            "rank_combination": "maximum over ranks of each window's seconds",
            "first_step": self._first_step,
            "loss_first": losses[0]["loss"],
            "loss_last": losses[-1]["loss"],
            "losses_last": losses[-1],
            "steps_trained": self._step,
            "checkpoints": {
                "saved_steps": self._saver.saved_steps if self._saver else [],
                "failures": self._saver.failures if self._saver else [],
                "seconds": self._save_seconds,
            },
            "clock_reading_seconds": _clock_step(self._clock),
        }

    def _evaluate(self) -> dict[str, float] | None:
        if not self._dataset.evaluation:
            return None
        evaluation = Evaluation()
        for index, batch in enumerate(self._dataset.evaluation):
            self._heartbeat.beat(f"evaluation, batch {index}")
            handle = self._runner.forward(self._runner.place(batch))
            evaluation.add(self._runner.read_logits(handle), batch)
        return evaluation.result()

    def _memory(self) -> tuple[dict[str, Any], int]:
        devices = self._runner.accelerator_peak_bytes()
        if devices is not None:
            per_device = [bytes_ for rank in self._runner.gather(devices) for bytes_ in rank]
            return {
                "kind": "peak bytes allocated by the framework, largest device",
                "per_device_bytes": per_device,
            }, max(per_device)
        per_process = self._runner.gather(peak_resident_bytes())
        kind = "peak resident memory, summed over processes; includes the framework itself"
        if self._pool is not None:
            kind += ", and the batches twice (singly, and for blocks of steps)"
        return {
            "kind": kind,
            "per_process_bytes": per_process,
        }, sum(per_process)


def peak_resident_bytes() -> int:
    """Returns the largest resident set this process had."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would give the launcher's peak where that is larger: it survives exec.
        (line,) = (text for text in status.read_text().splitlines() if text.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _clock_step(clock: Callable[[], float]) -> float:
    """Returns the median time between two consecutive clock readings."""
    readings = [clock() for _ in range(101)]
    gaps = sorted(later - earlier for earlier, later in itertools.pairwise(readings))
    return gaps[len(gaps) // 2]


class _OutsideLoad:
    """How much of this run's cores other programs used while it was measured."""

    def __init__(self, runner: Runner):
        self._runner = runner
        self._start, self._wall = _used_seconds(), time.time()

    def share(self) -> float | None:
        """Returns the largest share over ranks of one core's time; None if it cannot be known.

        A step waits for its slowest device, so what others took counts as if from one core. The
        system counts in ticks of 10 ms, so that very short runs have no answer either.
        """
        (busy, own), wall = _used_seconds(), time.time() - self._wall
        if busy is None or self._start[0] is None or wall < 0.5:
            found = None
        else:
            found = (available_cores(), busy - self._start[0], own - self._start[1], wall)
        ranks = self._runner.gather(found)
        if None in ranks:
            return None
        shares = []
        for cores, busy_seconds, _, seconds in ranks:
            # Ranks that share cores are no outsiders to each other.
            ours = sum(own for other, _, own, _ in ranks if set(other) & set(cores))
            shares.append(max(0.0, busy_seconds - ours) / seconds)
        return max(shares)


def _used_seconds() -> tuple[float | None, float]:
    """Returns seconds used so far (on this process's cores by all programs, by this process)."""
    cores, times, own = available_cores(), psutil.cpu_times(percpu=True), os.times()
    busy = None
    if max(cores) < len(times):
        idle = ("idle", "iowait", "guest", "guest_nice")
        busy = sum(
            seconds
            for core in cores
            for name, seconds in times[core]._asdict().items()
            if name not in idle
        )
    return busy, own.user + own.system
