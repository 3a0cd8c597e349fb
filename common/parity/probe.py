"""Trains cases in one framework and compares them with other runs; ``isoscale parity`` starts it.

    python -m isoscale.common.parity.probe FOLDER

One process (or one per device) runs all jobs of ``FOLDER/jobs.json``, in order. Each run without a
distribution wrapper writes a trace for later runs. Every run compares each of its steps with the
traces that its job names, and adds a line to ``FOLDER/results.jsonl``.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np

from isoscale.common.config.model_spec import Arrays
from isoscale.common.config.run_config import RunConfig
from isoscale.common.measure.runner import Runner
from isoscale.common.parity import checks, reference, trace
from isoscale.common.parity.cases import Case
from isoscale.common.parity.compare import Comparison, compare_steps
from isoscale.common.parity.documents import ParityLine
from isoscale.common.parity.jobs import TrainingJob, serve
from isoscale.common.parity.tolerances import TOLERANCES, Tolerance, tolerance_of
from isoscale.common.parity.trace import Layout, Record
from isoscale.common.processes.heartbeat import Heartbeat
from isoscale.common.reference.optimizer import OptimizerState, gradients_of_step
from isoscale.common.registry import lookup


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParityJob(TrainingJob[ParityLine]):
    """One run of a case.

    Attributes:
      trace: folder for the trace of this run; None: the run writes no trace.
      frameworks: name -> folder with the trace of the same case in another framework.
      alone: folder with the trace of the same case in this framework without a distribution
        wrapper; None: the run itself has no distribution wrapper, or it checks dropout.
    """

    trace: str | None
    frameworks: dict[str, str]
    alone: str | None

    @property
    def key(self) -> tuple[str, str, str, int, str]:
        return (self.case, self.framework, self.strategy, self.devices, self.dtype)

    @property
    def output(self) -> Path | None:
        return Path(self.trace) if self.trace else None

    def has_output(self) -> bool:
        return self.output is None or (self.output / trace.DONE).exists()

    def is_done(self, line: ParityLine) -> bool:
        return not any(c.missing for c in line.comparisons) and super().is_done(line)


_kept: list[tuple[RunConfig, Runner]] = []
"""The runner of the latest small model without a distribution wrapper, and its configuration."""


def _runner_of(case: Case, config: RunConfig) -> Runner:
    """Returns the runner of a run, with the state of a new one.

    A piece with large activations differs from its model by start values only. It uses the model's
    runner if the model was trained in this process: this saves building and compiling.
    """
    if config.strategy != "bare":
        return lookup.load_runner(config)()
    if case.large and _kept:
        earlier, runner = _kept[0]
        if dataclasses.replace(earlier, model=config.model) == config:
            start = case.spec.initial_parameters(seed=config.seed)
            zeros = {name: np.zeros_like(value) for name, value in start.items()}
            slots = dict.fromkeys(runner.optimizer_state().slots, zeros)
            runner.set_parameters(start)
            runner.set_optimizer_state(OptimizerState(slots=slots, step=0))
            return runner
    _kept.clear()
    runner = lookup.load_runner(config)()
    if not case.preset:
        _kept.append((config, runner))
    return runner


class Run:
    """Runs one job: trains its case and compares every step."""

    def __init__(self, job: ParityJob, case: Case, config: RunConfig, beat: Heartbeat):
        self._job, self._case, self._config, self._beat = job, case, config, beat
        self._what = f"{case.name} {job.framework} {job.strategy} x{job.devices} {job.dtype}"
        beat.beat(f"building {self._what}", compiles=True)
        self._runner: Runner = _runner_of(case, config)
        self._layout = Layout.of(case.spec)
        routed = case.spec.auxiliary_loss_coefficient is not None
        self._tolerance: Tolerance = tolerance_of(job.dtype, routed=routed, large=case.large)
        dtype = config.parameter_dtype
        decayed = [np.full(p.size, p.decay, dtype) for p in case.spec.parameters()]
        self._decayed = np.concatenate(decayed)
        self._own = Comparison(checks.ITSELF)
        self._used = np.zeros(len(self._layout.names), bool)
        # The NumPy reference judges large models only in float64, the dtype that proves equality.
        proves = not case.preset or job.dtype == "float64"
        self._judged = job.alone is None and proves and case.spec.has_reference

    @property
    def leads(self) -> bool:
        """Whether this process reports the results of the run: rank 0 does."""
        return self._runner.rank == 0

    def comparisons(self) -> list[Comparison]:
        """Trains; returns one comparison with each other side."""
        if self._case.dropout:
            self._check_dropout()
            return [self._own]
        self._start()
        compared = self._train()
        if self._case.checks and self._job.devices in (1, 2):
            self._check()
        elif self._config.steps_per_dispatch > 1 and not self._case.large:
            self._check_block()
        return [self._own, *compared]

    def _start(self) -> None:
        """Checks that start values equal the spec's bit by bit: as initialised, and as set."""
        dtype = self._config.parameter_dtype
        first = self._case.spec.initial_parameters(seed=self._config.seed)
        for wanted in [first] if self._case.preset else [first, self._case.initial()]:
            if wanted is not first:
                self._runner.set_parameters({n: v.astype(dtype) for n, v in wanted.items()})
            found = self._layout.flat(self._runner.parameters())
            expected = self._layout.flat(wanted).astype(dtype)
            unequal = np.add.reduceat(found != expected, self._layout.starts).astype(float)
            kind = "initial parameters, unequal entries"
            self._own.add_tensors(kind, 0, self._layout.names, unequal, 0.0)

    def _readers(self) -> dict[str, trace.Reader | None]:
        """Waits for the traces; returns name -> reader, None for a run that failed."""
        job = self._job
        folders = dict(job.frameworks)
        if job.alone:
            folders[f"{job.framework} bare"] = job.alone
        readers: dict[str, trace.Reader | None] = {}
        for name, folder in folders.items():
            waiting = f"{self._what}: waiting for {name}"
            on_wait = functools.partial(self._beat.beat, waiting)
            whole = trace.wait_for(Path(folder), on_wait=on_wait)
            dtype = self._config.parameter_dtype
            readers[name] = trace.Reader(Path(folder), dtype=dtype) if whole else None
        return readers

    def _train(self) -> list[Comparison]:
        job, case = self._job, self._case
        batches = case.batches(self._config.parameter_dtype)
        readers = self._readers() if self.leads else {}
        compared = {name: Comparison(name) for name in readers}
        for name, reader in readers.items():
            if reader is None:
                compared[name].missing = f"{name} failed"
        numpy = Comparison(reference.NUMPY)
        writer = None
        if job.trace and self.leads:
            kinds = ["step_gradients"] if case.preset else ["step_gradients", "gradients"]
            if self._tolerance.parameter is not None:
                kinds += ["parameters", *([] if case.preset else self._slots())]
            writer = trace.Writer(Path(job.trace), tuple(kinds))
        state = self._read_state()
        steps = case.trained_steps(self._config.steps)
        for step in range(steps):
            self._beat.beat(f"step {step} of {self._what}", compiles=step == 0)
            record, state = self._step(step, batches[step % len(batches)], state, numpy)
            if not self.leads:
                continue
            if writer:
                writer.add(record)
            for name, reader in readers.items():
                if reader is None:
                    continue
                theirs = reader.record(step)
                compare_steps(
                    compared[name],
                    record,
                    theirs,
                    self._layout,
                    self._tolerance,
                    preset=case.preset,
                    between_devices=name not in job.frameworks,
                )
        if writer:
            writer.finish()
        if job.alone is None and not case.preset and steps > 1:
            checks.check_used(self._own, self._used, self._layout, last_step=steps - 1)
        return [numpy, *compared.values()] if numpy.figures else list(compared.values())

    def _slots(self) -> list[str]:
        return list(self._runner.optimizer_state().slots)

    def _read_state(self) -> dict[str, Any]:
        """Returns parameters and optimizer state: native, and under ``flat`` as one array each."""
        parameters, state = self._runner.parameters(), self._runner.optimizer_state()
        flat = {slot: self._layout.flat(values) for slot, values in state.slots.items()}
        flat["parameters"] = self._layout.flat(parameters)
        return {"parameters": parameters, "state": state, "flat": flat}

    def _step(
        self, step: int, batch: Arrays, before: dict[str, Any], numpy: Comparison
    ) -> tuple[Record, dict[str, Any]]:
        """Trains one step; without a distribution wrapper, the NumPy reference judges the step."""
        runner, case, alone = self._runner, self._case, self._job.alone is None
        placed = runner.place(batch)
        arrays: dict[str, np.ndarray] = {}
        gradients: Arrays = {}
        metrics = []
        if self._judged:
            logits = runner.read_logits(runner.forward(placed))
        # Presets take long to compile: the gradients of the step itself are enough for them. On
        # several devices, the first step has gradients before clipping: clipping hides their scale.
        if (alone and not case.preset) or (case.checks and step == 0):
            found, (gradients,) = runner.read_gradients(runner.gradients(placed))
            metrics.append(found)
            arrays["gradients"] = self._layout.flat(gradients)
            self._used |= np.logical_or.reduceat(arrays["gradients"] != 0, self._layout.starts)
        if case.large and step == 0:
            checks.check_alive(self._own, arrays["gradients"], self._layout)
        handle = runner.step(placed)
        runner.wait()
        metrics = [*runner.metrics([handle]), *metrics]
        after = self._read_state()
        if not self.leads:
            return Record(step=step, metrics=metrics[0], arrays=arrays), after
        kept = ["parameters"] if case.preset else after["flat"]
        arrays |= {kind: after["flat"][kind] for kind in kept}
        arrays["step_gradients"] = gradients_of_step(
            case.optimizer,
            parameters=before["flat"]["parameters"],
            before=before["flat"],
            after=after["flat"],
            decayed=self._decayed,
        )
        if self._judged:
            reference.judge_forward(
                numpy,
                case.spec,
                self._tolerance,
                step=step,
                parameters=before["parameters"],
                batch=batch,
                logits=logits,
                metrics=metrics,
                large=case.large,
            )
        if alone and not case.preset:
            reference.judge_update(
                numpy,
                case.spec,
                case.optimizer,
                self._tolerance,
                self._layout,
                step=step,
                before=before,
                gradients=gradients,
                after=after,
            )
        return Record(step=step, metrics=metrics[0], arrays=arrays), after

    def _check(self) -> None:
        """Runs the checks that need no trace: shares, restoring, rounding, blocks of steps."""
        layout, bound = self._layout, TOLERANCES[self._job.dtype].gradient
        batches = self._case.batches(self._config.parameter_dtype)
        placed = self._runner.place(batches[0])
        checks.check_shares(self._own, self._runner, placed, layout, bound)
        checks.check_restore(self._own, self._runner, placed, layout)
        if self._job.dtype == "bfloat16":
            checks.check_float32_sums(self._own, self._runner, placed, self._case.spec)
        if self._config.steps_per_dispatch > 1:
            self._check_block()

    def _check_block(self) -> None:
        checks.check_block(
            self._own,
            self._runner,
            self._case.batches(self._config.parameter_dtype),
            self._layout,
            steps=self._config.steps_per_dispatch,
            tolerance=self._tolerance,
        )

    def _check_dropout(self) -> None:
        probe = lookup.dropout_probe(self._case.spec)
        assert probe is not None
        checks.check_dropout(
            self._own,
            self._runner,
            probe,
            rate=self._case.spec.dropout,
            examples=self._case.global_batch_size,
            dtype=self._config.parameter_dtype,
        )

    @property
    def runner(self) -> Runner:
        return self._runner


def run(
    job: ParityJob, case: Case, config: RunConfig, beat: Heartbeat
) -> tuple[Runner, ParityLine]:
    """Runs a job; returns its runner and its results."""
    training = Run(job, case, config, beat)
    line = ParityLine(job=job.key, comparisons=tuple(training.comparisons()))
    return training.runner, line


if __name__ == "__main__":
    serve(ParityJob, run)
