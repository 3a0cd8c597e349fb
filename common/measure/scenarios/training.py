"""Training: windows of training steps between two clock readings, then an evaluation."""

import gc
import math
from collections.abc import Iterable, Iterator
from typing import NoReturn

import numpy as np

from isoscale.common.config.run_config import TRAINING, RunConfig
from isoscale.common.measure.conditions import (
    DISTURBED,
    DISTURBED_SHARE,
    OutsideLoad,
    clock_reading_seconds,
    peak_memory,
)
from isoscale.common.measure.loop import timed_window
from isoscale.common.measure.result import (
    EvaluationFigures,
    SavedCheckpoints,
)
from isoscale.common.measure.runner import Placed, StepBlock
from isoscale.common.measure.scenario import Column, Metric, Scenario, Task
from isoscale.common.measure.training_result import (
    TrainingFigures,
    TrainingOutcome,
    TrainingResult,
)
from isoscale.common.measure.training_summary import summary
from isoscale.common.measure.windows import Window, summarize
from isoscale.common.processes.frame import Interrupted
from isoscale.common.reference.evaluation import Evaluation


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

    def _window(self, phase: str, steps: int) -> None:
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
        # From here on a signal waits if there is a checkpoint to save: the first step has compiled.
        self._stop.waits = self._saver is not None
        # The results are read and gathered after the second clock reading.
        gathered = self._runner.gather([seconds, self._stop.requested])
        rank_seconds = [found for found, _ in gathered]
        signals = [number for _, number in gathered if number]
        if signals:  # the window may have been shortened
            after = self._step + sum(i.steps if isinstance(i, StepBlock) else 1 for i in items)
            if after < self._config.total_steps:  # otherwise the run ends anyway, with a result
                self._interrupt(signals[0], after=after)
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
        self._phase(*compiling)
        if config.steps_per_dispatch > 1:
            self._rehearse_block()
        if others and others[0][0] == "warmup":
            self._phase(*others.pop(0))
        self._pinning.verify()
        gc.collect()
        gc.freeze()  # garbage collection inside windows skips all objects that exist now
        load = OutsideLoad(self._runner)
        for phase, steps in others:
            self._phase(phase, steps)
        outside_share = load.share()
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
        items = self._config.global_batch_size * sum(window.steps for window in throughput)
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
            rank_combination="maximum over ranks of each window's seconds",
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
    columns=(
        Column("step_seconds.median", "step_seconds_median"),
        Column("step_seconds.mean", "step_seconds_mean"),
        Column("step_seconds.p10", "step_seconds_p10"),
        Column("step_seconds.p90", "step_seconds_p90"),
        Column("step_seconds.n", "throughput_windows"),
        Column("latency_seconds.median", "latency_seconds_median"),
        Column("latency_seconds.p10", "latency_seconds_p10"),
        Column("latency_seconds.p90", "latency_seconds_p90"),
        Column("latency_seconds.n", "latency_windows"),
        Column("examples_per_second", "examples_per_second"),
        Column("tokens_per_second", "tokens_per_second"),
        Column("compile_seconds", "compile_seconds"),
        Column("loss_first", "loss_first_nats"),
        Column("loss_last", "loss_last_nats"),
        Column("eval.accuracy", "accuracy_fraction"),
        Column("eval.loss", "eval_loss_nats"),
        Column("eval.n", "eval_labels"),
    ),
    metrics=(
        Metric(
            tag="run/step_ms",
            name="ms/step",
            about="median over throughput windows",
            field="step_seconds.median",
            scale=1e3,
        ),
        Metric(
            tag="run/examples_per_second",
            name="examples/s",
            about="examples of all throughput windows / their seconds",
            field="examples_per_second",
        ),
        Metric(
            tag="run/tokens_per_second",
            name="tokens/s",
            about="real tokens of all throughput windows / their seconds",
            field="tokens_per_second",
        ),
        Metric(
            tag="run/latency_ms",
            name="latency ms",
            about="median of single-step windows",
            field="latency_seconds.median",
            scale=1e3,
        ),
        Metric(
            tag="run/compile_s",
            name="compile s",
            about="first step minus a median step, plus compiling a block of steps",
            field="compile_seconds",
        ),
        Metric(
            tag="run/peak_memory_MiB",
            name="memory MiB",
            about="peak, as in the study's table",
            field="peak_memory_bytes",
            scale=2**-20,
        ),
        Metric(
            tag="run/loss_last",
            name="last loss",
            about="loss of the last training step",
            field="loss_last",
        ),
        Metric(
            tag="run/accuracy_percent",
            name="accuracy %",
            about="accuracy on the evaluation set",
            field="eval.accuracy",
            scale=100,
        ),
        Metric(
            tag="run/disturbed",
            name="disturbed",
            about=f"1: {DISTURBED}",
            field="disturbed",
        ),
    ),
)
