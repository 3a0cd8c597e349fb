"""Training: windows of training steps between two clock readings, then an evaluation."""

import gc
import math
import statistics
import time
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

import numpy as np

from isoscale.common.config.run_config import TRAINING, RunConfig
from isoscale.common.measure.conditions import (
    DISTURBED_SHARE,
    OutsideLoad,
    clock_reading_seconds,
    is_disturbed,
    peak_memory,
)
from isoscale.common.measure.loop import timed_window
from isoscale.common.measure.result import (
    EvaluationFigures,
    SavedCheckpoints,
)
from isoscale.common.measure.runner import Placed, StepBlock
from isoscale.common.measure.scenario import Scenario, Task
from isoscale.common.measure.training_columns import COLUMNS, METRICS
from isoscale.common.measure.training_result import (
    TrainingFigures,
    TrainingOutcome,
    TrainingResult,
)
from isoscale.common.measure.training_summary import summary
from isoscale.common.measure.turns import (
    WARMUP_PARTS,
    RoundFigures,
    TurnsFigures,
    is_stable,
    losses_at_powers,
    steps_for,
)
from isoscale.common.measure.windows import Window, summarize
from isoscale.common.processes.frame import Interrupted
from isoscale.common.reference.evaluation import Evaluation

_REFILL = 0.1
"""Unclocked steps at the beginning of a turn, as a part of the window's steps: they fill caches."""
_LONG = 1e9
"""Seconds that a run may wait for its turn. The study, which gives the turns, watches over it."""


def window_plan(*, steps: int, window_steps: int, latency_steps: int) -> list[tuple[str, int]]:
    """Returns (phase, steps) of the windows; the latency windows are spread evenly.

    Every throughput window has ``window_steps`` steps, except the last one if fewer remain.
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
    """Returns (phase, steps) of all windows of a run that starts at ``first_step``.

    A resumed run ends at the same step as an uninterrupted run. It compiles again. It
    also warms up again, with fewer steps if few steps are left.
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
) -> list[Placed | StepBlock]:
    """Returns the items of a window: with a pool, as many blocks as fit; then single batches."""
    blocked = len(numbers) - len(numbers) % block_steps if pool is not None else 0
    blocks = [StepBlock(pool, first, block_steps) for first in numbers[:blocked:block_steps]]
    return [*blocks, *(placed[number % len(placed)] for number in numbers[blocked:])]


class TrainingSession:
    """Drives a runner through the phases of a run; every rank runs the same session."""

    def __init__(self, task: Task):
        """Stores the inputs; ``run`` starts the work.

        Args:
          task: inputs of the session.
        """
        self._config = task.config
        self._runner = task.runner
        self._dataset = task.dataset
        self._heartbeat = task.heartbeat
        self._clock = task.clock
        self._placed: list[Placed] = []
        self._pool: Placed = None
        self._rehearsal_seconds = 0.0
        self._first_step = self._step = task.first_step
        self._saver = task.saver
        self._stop = task.stop
        self._pinning = task.pinning
        self._until_all = task.until_all
        self._turns, self._takes_turns = task.turns, task.takes_turns
        self._warmup_stable = True
        self._turns_figures: TurnsFigures | None = None
        self._save_seconds: list[float] = []
        self._saved_at: int | None = None
        self.windows: list[Window] = []

    def _items(self, steps: int) -> list[Placed | StepBlock] | list[int]:
        """Returns the items of the next window: placed batches and blocks, or step numbers."""
        numbers = range(self._step, self._step + steps)
        if not self._placed:
            return list(numbers)
        size = self._config.steps_per_dispatch
        return window_of(numbers, self._placed, pool=self._pool, block_steps=size)

    def _place(self, numbers: Iterable[int]) -> Iterator[Placed]:
        for step in numbers:
            yield self._runner.place(self._dataset.batch(step))

    def _window(self, phase: str, steps: int, *, round_: int | None = None) -> None:
        # The slowest step so far gives the expected time of this window. The compiling step counts
        # only until another window exists.
        after_compile = [window for window in self.windows if window.phase != "compile"]
        slowest = max((w.seconds_per_step for w in after_compile or self.windows), default=0.0)
        items = self._items(steps)
        left = self._stop.window(
            items,
            number=self._step,
            seconds_per_item=slowest if after_compile else None,
            in_flight=self._config.max_in_flight,
        )
        last = self._step + steps - 1
        numbers = f"steps {self._step} to {last}" if steps > 1 else f"step {last}"
        self._heartbeat.beat(
            f"{phase}, {numbers}",
            expected_seconds=steps * slowest,
            compiles=phase == "compile",
        )
        seconds, handles = timed_window(
            self._runner,
            left if self._placed else self._place(left),
            issue=self._runner.step,
            max_in_flight=self._config.max_in_flight,
            clock=self._clock,
        )
        if self._until_all is not None:
            self._until_all(self._work_on)
        # From here on a signal waits if there is a checkpoint to save: the first step has compiled.
        self._stop.waits = self._saver is not None
        # The results are read and gathered after the second clock reading.
        gathered = self._runner.gather([seconds, self._stop.requested])
        rank_seconds = [found for found, _ in gathered]
        signals = [number for _, number in gathered if number]
        if signals:  # the window may have been shortened
            after = self._step + sum(i.steps if isinstance(i, StepBlock) else 1 for i in items)
            # Otherwise the run ends anyway, with a result.
            if after < self._config.total_steps or self._config.min_seconds:
                self._interrupt(signals[0], after=after)
        losses = tuple(self._runner.metrics(handles))
        self.windows.append(
            Window(
                phase=phase,
                first_step=self._step,
                steps=steps,
                seconds=self._combined(rank_seconds),
                rank_seconds=tuple(rank_seconds),
                losses=losses,
                round=round_,
            )
        )
        self._step += steps

    def _combined(self, rank_seconds: list[float]) -> float:
        """Returns the seconds of a window from those of its ranks; see ``Window``."""
        if self._config.independent:
            return statistics.harmonic_mean(rank_seconds)
        return max(rank_seconds)

    def _work_on(self) -> None:
        """Trains one more step, which does not count, while other processes have their window."""
        place = self._step % len(self._placed) if self._placed else 0
        batch = self._placed[place] if self._placed else next(self._place([self._step]))
        self._runner.wait_for(self._runner.step(batch))

    def _interrupt(self, number: int, *, after: int) -> NoReturn:
        """Saves a last checkpoint and ends the run; every rank does so after the same step.

        Args:
          number: the signal.
          after: number of steps that the run has trained.
        """
        self._step = after
        self._save()
        self._runner.barrier()  # no rank leaves while rank 0 writes
        raise Interrupted(number)

    def _save(self) -> None:
        if self._saver is None or self._saved_at == self._step:
            return
        self._saved_at = self._step
        self._heartbeat.beat(f"saving a checkpoint, step {self._step}")
        start = self._clock()
        self._saver.save(self._runner, self._step)
        self._save_seconds.append(self._clock() - start)

    def _phase(self, phase: str, steps: int) -> None:
        """Runs a phase as one window, or as several that end where checkpoints are due."""
        while steps:
            due = self._saver.steps_until_due(self._step) if self._saver else None
            length = min(steps, due or steps)
            self._window(phase, length)
            steps -= length
            if self._saver and length == due:
                self._save()

    def _rehearse_block(self) -> None:
        self._stop.waits = False  # compiling can take long, and nothing would be lost
        self._heartbeat.beat("compile, block of steps", compiles=True)
        start = self._clock()
        self._pool = self._runner.place_pool(self._dataset.batches)
        self._runner.rehearse(StepBlock(self._pool, self._step, self._config.steps_per_dispatch))
        self._rehearsal_seconds = max(self._runner.gather(self._clock() - start))
        self._stop.waits = self._saver is not None

    def run(self) -> TrainingOutcome:
        """Trains, measures and evaluates."""
        config = self._config
        if config.input_pipeline == "placed":
            self._placed = [self._runner.place(batch) for batch in self._dataset.batches]
        plan = run_plan(config, first_step=self._first_step)
        compiling, *others = plan
        place = 0
        if self._takes_turns:
            self._say("ready")
            place = self._wait("its turn to compile")["place"]
        self._phase(*compiling)
        if config.steps_per_dispatch > 1:
            self._rehearse_block()
        if others and others[0][0] == "warmup":
            self._phase(*others.pop(0))
        steps = self._warm_up_by_time() if config.min_seconds else None
        self._pinning.verify()
        gc.collect()
        gc.freeze()  # garbage collection inside windows skips all objects that exist now
        load = OutsideLoad(self._runner)
        if self._takes_turns:
            self._take_turns(steps or config.window_steps, place=place)
        else:
            for phase, planned in others:
                self._phase(phase, planned if phase == "latency" else steps or planned)
        outside_share = load.share()
        if self._turns_figures is not None:  # while this run waited, others had their turns
            outside_share = self._turns_figures.outside_load_share
        self._pinning.verify()  # also threads that the windows started
        # Measured before the evaluation, which compiles another function.
        memory = peak_memory(self._runner, holds_pool=self._pool is not None)
        figures = self._figures(self._evaluate())
        error = self._not_finite(figures.eval)
        return TrainingOutcome(
            **vars(figures),
            status="ok" if error is None else "diverged",
            error=error,
            outside_load_share=outside_share,
            disturbed=None if outside_share is None else outside_share > DISTURBED_SHARE,
            memory=memory,
            peak_memory_bytes=memory.peak_bytes,
            clock_reading_seconds=clock_reading_seconds(self._clock),
        )

    def _warm_up_by_time(self) -> int:
        """Warms up until the step time is stable; returns the steps of a measured window."""
        config, times = self._config, list[float]()
        if len(self.windows) == 1:  # the compile step tells nothing about the others
            self._window("warmup", config.steps_per_dispatch)
        stable = None
        while stable is None:
            steps = steps_for(
                config.min_seconds / WARMUP_PARTS,
                seconds_per_step=self.windows[-1].seconds_per_step,
                block=config.steps_per_dispatch,
            )
            self._window("warmup", steps)
            times.append(self.windows[-1].seconds_per_step)
            stable = is_stable(times)
        self._warmup_stable = stable
        return steps_for(
            config.min_seconds,
            seconds_per_step=statistics.median(times[-3:]),
            block=config.steps_per_dispatch,
        )

    def _wait(self, what: str) -> dict[str, Any]:
        """Blocks until the study says what to do next; every rank gets the answer."""
        self._heartbeat.beat(f"waiting for {what}", expected_seconds=_LONG)
        return self._runner.gather(self._turns.wait() if self._turns else None)[0]

    def _say(self, did: str, **facts: Any) -> None:
        if self._turns:
            self._turns.say(did, **facts)

    def _take_turns(self, steps: int, *, place: int) -> None:
        """Measures one window for each turn that the study gives."""
        block = self._config.steps_per_dispatch
        refill = block * math.ceil(_REFILL * steps / block)
        waited, idle = 0.0, 0.0
        self._say("warm", seconds_per_step=self.windows[-1].seconds_per_step, steps=steps)
        while True:
            wall, used = time.monotonic(), time.process_time()
            turn = self._wait("its turn")
            waited += time.monotonic() - wall
            idle += sum(self._runner.gather(time.process_time() - used))
            if turn["do"] != "window":
                break
            used = time.process_time()
            self._window("refill", refill)
            self._window("throughput", steps, round_=turn["round"])
            if self._config.latency_steps:
                self._window("latency", 1)
            cpu = sum(self._runner.gather(time.process_time() - used))
            self._say("window", round=turn["round"], cpu_seconds=cpu)
        shares: list[float | None] = turn["outside_load_shares"]
        self._turns_figures = TurnsFigures(
            rounds=[
                RoundFigures(
                    round=window.round,
                    seconds_per_step=window.seconds_per_step,
                    steps=window.steps,
                    outside_load_share=shares[window.round],
                    disturbed=is_disturbed(shares[window.round], turn["slowed"][window.round]),
                    frequency_ratio=turn["frequency_ratios"][window.round],
                    throttles=turn["throttles"][window.round],
                )
                for window in self.windows
                if window.round is not None
            ],
            group=turn["group"],
            members=turn["members"],
            place=place,
            waiting_cpu_share=idle / waited if waited else None,
            warmup_stable=self._warmup_stable,
            losses=losses_at_powers([loss["loss"] for loss in self._losses()]),
        )

    def _of_phase(self, phase: str) -> list[Window]:
        return [window for window in self.windows if window.phase == phase]

    def _losses(self) -> list[dict[str, float]]:
        return [loss for window in self.windows for loss in window.losses]

    def _first_loss_not_finite(self) -> int | None:
        steps = enumerate(self._losses(), self._first_step)
        return next((step for step, loss in steps if not math.isfinite(loss["loss"])), None)

    def _not_finite(self, evaluation: EvaluationFigures | None) -> str | None:
        """Returns what is not finite: a loss, a parameter after the last step, or the evaluation.

        The last step can break parameters without a loss that shows the damage.
        """
        step = self._first_loss_not_finite()
        if step is not None:
            return f"loss is not finite at step {step}"
        self._heartbeat.beat("checking the parameters")
        for name, value in self._runner.parameters().items():
            if not np.isfinite(value).all():
                return f"parameter {name} is not finite after step {self._step - 1}, the last step"
        figures = vars(evaluation).items() if evaluation else ()
        for name, figure in figures:
            if isinstance(figure, float) and not math.isfinite(figure):
                return f"{name} of the evaluation after step {self._step - 1} is not finite"
        return None

    def _figures(self, evaluation: EvaluationFigures | None) -> TrainingFigures:
        throughput = self._of_phase("throughput")
        first, losses = self.windows[0], self._losses()
        step_seconds = summarize([window.seconds_per_step for window in throughput])
        latency = summarize([window.seconds_per_step for window in self._of_phase("latency")])
        measured_seconds = sum(window.seconds for window in throughput)
        items = self._config.examples_per_step * sum(window.steps for window in throughput)
        # A resumed run may have too few steps left to measure.
        examples_per_second = items / measured_seconds if throughput else None
        tokens = self._dataset.tokens_per_example()
        return TrainingFigures(
            step_seconds=step_seconds,
            latency_seconds=latency,
            examples_per_second=examples_per_second,
            tokens_per_second=examples_per_second * tokens
            if examples_per_second and tokens
            else None,
            # A block's rehearsal compiles the block and runs its steps once.
            compile_seconds=max(0.0, first.seconds - (step_seconds.median or 0.0))
            + self._rehearsal_seconds,
            rehearsal_seconds=self._rehearsal_seconds,
            first_step_seconds=first.seconds,
            warmup_seconds=sum(window.seconds for window in self._of_phase("warmup")),
            measured_seconds=measured_seconds,
            rank_combination=(
                "harmonic mean over ranks of each window's seconds: the rates of independent ranks "
                "add up"
                if self._config.independent
                else "maximum over ranks of each window's seconds"
            ),
            first_step=self._first_step,
            loss_first=losses[0]["loss"],
            loss_last=losses[-1]["loss"],
            losses_last=dict(losses[-1]),
            steps_trained=self._step,
            checkpoints=SavedCheckpoints(
                saved_steps=self._saver.saved_steps if self._saver else [],
                failures=self._saver.failures if self._saver else [],
                seconds=self._save_seconds,
            ),
            eval=evaluation,
            turns=self._turns_figures,
        )

    def _evaluate(self) -> EvaluationFigures | None:
        if not self._dataset.evaluation:
            return None
        evaluation = Evaluation()
        for index, batch in enumerate(self._dataset.evaluation):
            self._heartbeat.beat(f"evaluation, batch {index}", compiles=index == 0)
            handle = self._runner.forward(self._runner.place(batch))
            evaluation.add(self._runner.read_logits(handle), batch)
        return EvaluationFigures(**evaluation.result())


SCENARIO = Scenario(
    name=TRAINING,
    session=TrainingSession,
    result=TrainingResult,
    summary=summary,
    columns=COLUMNS,
    metrics=METRICS,
)
