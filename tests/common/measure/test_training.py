import dataclasses
import math
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from isoscale.common.checkpoint.files import checkpoints_in, read_manifest
from isoscale.common.checkpoint.manifest import describe_training, identify
from isoscale.common.checkpoint.saver import Saver
from isoscale.common.config.model_spec import Arrays
from isoscale.common.config.run_config import RunConfig
from isoscale.common.data.dataset import Dataset
from isoscale.common.machine.cores import MovedThreadsError, Pinning, available_cores
from isoscale.common.measure.result import Summary
from isoscale.common.measure.scenario import Task
from isoscale.common.measure.scenarios.training import (
    TrainingSession,
    run_plan,
    window_of,
    window_plan,
)
from isoscale.common.measure.training_result import TrainingOutcome
from isoscale.common.processes.heartbeat import Heartbeat, doing, path_for, read_beats, remove
from isoscale.common.registry import lookup
from tests.common.measure.fake_runner import BlockRunner, FakeRunner, TwoRanks

CONFIG = RunConfig(
    framework="jax",
    strategy="bare",
    model="mlp_digits",
    spec=lookup.preset("mlp_digits").spec,
    global_batch_size=64,
    compile_mode="jit",
    steps=10,
    window_steps=4,
    warmup_steps=3,
    latency_steps=5,
    available_cores=2,
)


def digits(*, evaluation: bool = False) -> Dataset:
    found = lookup.data_source("digits").load(
        CONFIG.spec, global_batch_size=64, pool=3, seed=0, dtype="float32"
    )
    return Dataset(
        batches=found.batches, evaluation=found.evaluation if evaluation else [], facts={}
    )


def session_of(runner: FakeRunner, **task: Any) -> TrainingSession:
    """Returns a session; ``task`` has the fields of its task that differ from the usual ones."""
    usual = {"config": CONFIG, "dataset": digits(), "heartbeat": Heartbeat(None)}
    return TrainingSession(Task(**{**usual, "runner": runner, "clock": runner.clock, **task}))


def run(
    runner: FakeRunner, *, evaluation: bool = False, **changes: Any
) -> tuple[TrainingSession, TrainingOutcome]:
    config = dataclasses.replace(CONFIG, **changes)
    session = session_of(runner, config=config, dataset=digits(evaluation=evaluation))
    return session, session.run()


@pytest.mark.parametrize("steps, window, latency", [(10, 4, 5), (10, 10, 0), (7, 3, 20), (1, 1, 1)])
def test_window_plan_covers_all_steps(steps: int, window: int, latency: int) -> None:
    plan = window_plan(steps=steps, window_steps=window, latency_steps=latency)
    assert sum(n for phase, n in plan if phase == "throughput") == steps
    assert sum(n for phase, n in plan if phase == "latency") == latency
    assert all(n <= window for phase, n in plan if phase == "throughput")


def test_each_phase_has_its_own_windows_and_steps_count_from_zero() -> None:
    session, result = run(FakeRunner(seconds_per_step=0.5))
    phases = [window.phase for window in session.windows]
    assert phases[:3] == ["compile", "warmup", "throughput"]
    assert [window.first_step for window in session.windows][:4] == [0, 1, 4, 8]
    assert result.steps_trained == 1 + 3 + 10 + 5
    assert result.step_seconds == Summary(median=0.5, mean=0.5, p10=0.5, p90=0.5, n=3)
    assert result.latency_seconds.n == 5
    assert result.examples_per_second == 64 / 0.5
    assert result.tokens_per_second is None
    assert result.compile_seconds == 0.0
    assert (result.loss_first, result.loss_last) == (1.0, 1 / 19)
    assert result.status == "ok"


def test_the_step_time_is_that_of_the_slowest_rank() -> None:
    _, result = run(TwoRanks(seconds_per_step=0.5))
    assert result.step_seconds.median == 1.0
    assert result.examples_per_second == 64


class SlowerRunner(FakeRunner):
    """Each step takes longer than the step before."""

    def step(self, batch: Any) -> int:
        self._seconds += 0.1
        return super().step(batch)


def test_throughput_is_total_items_by_total_seconds() -> None:
    session, result = run(SlowerRunner())
    windows = [window for window in session.windows if window.phase == "throughput"]
    assert len({window.seconds_per_step for window in windows}) == len(windows) == 3
    seconds = sum(window.seconds for window in windows)
    assert result.examples_per_second == pytest.approx(64 * 10 / seconds, rel=1e-12)


def test_batches_are_placed_before_the_windows_unless_timed() -> None:
    placed, timed = FakeRunner(), FakeRunner()
    run(placed)
    assert placed.calls[:3] == ["place"] * 3
    assert "place" not in placed.calls[3:]
    run(timed, input_pipeline="timed")
    assert timed.calls[0] != "place"
    places = [i for i, call in enumerate(timed.calls) if call == "place"]
    assert len(places) == 19
    # An odd number of clock readings precedes each placement: it lies inside a window.
    assert {timed.calls[:i].count("clock") % 2 for i in places} == {1}


def test_steps_of_blocks_are_counted_and_the_rehearsal_is_not() -> None:
    runner = BlockRunner(seconds_per_step=0.5)
    session, result = run(runner, steps=8, steps_per_dispatch=4, warmup_steps=3)
    # Warm-up and latency steps are issued one by one; whole windows are issued as blocks.
    assert [call for call in runner.calls if call.startswith("block")] == [
        "block 1",  # the rehearsal
        "block 4",
        f"block {session.windows[-4].first_step}",
    ]
    assert result.steps_trained == 1 + 3 + 8 + 5
    assert result.loss_last == pytest.approx(1 / result.steps_trained)
    assert result.step_seconds.median == 0.25
    assert result.latency_seconds.median == 0.5
    assert result.rehearsal_seconds == 1.0
    assert result.compile_seconds == 1.0 + 0.25  # the first step is issued alone
    assert "twice" in result.memory.kind


def test_a_window_is_split_into_blocks_and_single_steps() -> None:
    found = window_of(range(5, 12), ["a", "b", "c"], pool="pool", block_steps=3)
    assert [(block.first, block.steps, block.pool) for block in found[:2]] == [
        (5, 3, "pool"),
        (8, 3, "pool"),
    ]
    assert found[2:] == ["c"]
    assert window_of(range(5, 7), ["a", "b", "c"], pool=None, block_steps=3) == ["c", "a"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_diverged(bad: float) -> None:
    _, result = run(FakeRunner([1.0] * 5 + [bad] * 14))
    assert result.status == "diverged"
    assert result.error == "loss is not finite at step 5"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_parameter_that_is_not_finite_after_the_last_step_is_diverged(bad: float) -> None:
    class Broken(FakeRunner):
        def parameters(self) -> Arrays:
            return {"good": np.zeros(2), "dense_0/kernel": np.array([[0.0, bad]])}

    _, result = run(Broken())
    assert result.status == "diverged"
    assert result.error == "parameter dense_0/kernel is not finite after step 18, the last step"


def test_an_evaluation_that_is_not_finite_is_diverged() -> None:
    class Broken(FakeRunner):
        def read_logits(self, handle: Arrays) -> np.ndarray:
            return super().read_logits(handle) * math.nan

    _, result = run(Broken(), evaluation=True)
    assert result.status == "diverged"
    assert "of the evaluation after step 18 is not finite" in result.error


def test_evaluation_counts_only_real_examples() -> None:
    _, result = run(FakeRunner(), evaluation=True)
    assert result.eval.accuracy == 1.0
    assert result.eval.n == 360


def test_peak_memory_is_the_sum_over_processes_and_its_kind_is_named() -> None:
    _, result = run(TwoRanks())
    processes = result.memory.per_process_bytes
    assert result.peak_memory_bytes == sum(processes) == 2 * processes[0]
    assert processes[0] > 10**7
    assert "resident" in result.memory.kind


def test_heartbeat(tmp_path) -> None:
    assert doing(tmp_path) == "starting"
    behind, ahead = (Heartbeat(path_for(tmp_path, rank)) for rank in (0, 1))
    ahead.beat("warmup, step 1")
    ahead.beat("warmup, step 2", expected_seconds=1000)
    behind.beat("warmup, step 1")
    assert doing(tmp_path) == "warmup, step 2"
    assert read_beats(tmp_path)[1].expected_seconds == 1000
    (tmp_path / "heartbeat.2").write_text("no JSON")
    assert set(read_beats(tmp_path)) == {0, 1}
    remove(tmp_path, 1)
    assert doing(tmp_path) == "warmup, step 1"
    remove(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("first_step", range(19))
def test_a_resumed_run_ends_at_the_same_step_as_an_unbroken_run(first_step: int) -> None:
    plan = run_plan(CONFIG, first_step=first_step)
    assert first_step + sum(steps for _, steps in plan) == CONFIG.total_steps == 19
    assert plan[0] == ("compile", 1)
    assert all(steps > 0 for _, steps in plan)
    if first_step < 17:
        assert any(phase == "throughput" for phase, _ in plan)
    phases = [phase for phase, _ in plan if phase in ("compile", "warmup")]
    assert [phase for phase, _ in plan[: len(phases)]] == phases


def about() -> dict[str, Any]:
    """Returns the fields that are the same in the manifests of these runs."""
    training = describe_training(CONFIG, family="mlp")
    return {"written_by": {}, **training, **identify(digits().batches)}


def saved_in(
    tmp_path: Path, every: int | None, first_step: int = 0
) -> tuple[FakeRunner, TrainingOutcome]:
    """Returns the runner and the result of a run that saves."""
    runner = FakeRunner()
    runner._steps = first_step
    saver = Saver(tmp_path, every=every, last_step=19, about=about())
    session = session_of(runner, first_step=first_step, saver=saver)
    result = session.run()
    steps = [step for window in session.windows for step in range(window.steps)]
    assert len(steps) == 19 - first_step
    return runner, result


def test_checkpoints_are_saved_between_windows(tmp_path: Path) -> None:
    runner, result = saved_in(tmp_path, every=4)
    assert result.checkpoints.saved_steps == [4, 8, 12, 16, 19]
    assert len(result.checkpoints.seconds) == 5
    assert [step for step, _ in checkpoints_in(tmp_path)] == [16, 19]
    newest = checkpoints_in(tmp_path)[-1][1]
    manifest = read_manifest(newest)
    assert manifest.next_batch == 19 % 3
    # Saves lie outside the two clock readings of a window.
    calls = "".join({"clock": "|", "step": "s", "parameters": "P"}.get(c, "") for c in runner.calls)
    # The parameters are read once more at the end, to check that they are finite.
    assert re.fullmatch(r"(\|s+\||\|P\|)+P\|*", calls), calls
    assert calls.count("P") == 5 + 1


def test_without_save_every_one_checkpoint_is_saved_at_the_end(tmp_path: Path) -> None:
    _, result = saved_in(tmp_path, every=None, first_step=15)
    assert result.checkpoints.saved_steps == [19]
    assert (result.first_step, result.steps_trained) == (15, 19)


def test_a_run_with_too_few_steps_to_measure_has_no_figures(tmp_path: Path) -> None:
    _, result = saved_in(tmp_path, every=None, first_step=18)
    assert result.examples_per_second is None
    assert result.step_seconds.n == 0
    assert result.status == "ok"


def test_a_save_that_fails_does_not_end_the_run(tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise safetensors.SafetensorError("No space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    _, result = saved_in(tmp_path, every=10)
    assert (result.status, result.steps_trained) == ("ok", 19)
    assert result.checkpoints.saved_steps == []
    first, last = result.checkpoints.failures
    assert first.startswith("no checkpoint at step 10: ")
    why = r"cannot write .*/tensors\.safetensors: No space left on device"
    assert re.fullmatch(f"no checkpoint at step 19: {why}", last)
    assert not list(tmp_path.iterdir())


def test_parameters_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    saved_in(tmp_path, every=4)
    runner = FakeRunner()
    runner.parameters = lambda: {"steps": np.asarray([np.nan])}  # type: ignore[method-assign]
    saver = Saver(tmp_path, every=None, last_step=20, about=about())
    runner._steps = 20
    saver.save(runner, 20)
    assert saver.failures == ["no checkpoint at step 20: parameters/steps contains NaN or infinity"]
    assert saver.saved_steps == []
    assert [step for step, _ in checkpoints_in(tmp_path)] == [16, 19]


class MovingRunner(FakeRunner):
    """Does in one step what libgomp does when it loads: the thread changes its cores."""

    def __init__(self, at_step: int, cores: Collection[int]):
        super().__init__()
        self._at_step, self._cores = at_step, cores

    def step(self, batch: Any) -> int:
        if self._steps == self._at_step:
            os.sched_setaffinity(0, self._cores)
        return super().step(batch)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a thread can leave only one of two CPUs")
@pytest.mark.parametrize("at_step", [0, 2, 8])  # compile, warm-up, a window
def test_a_thread_that_leaves_its_cores_fails_the_run(at_step: int) -> None:
    before = os.sched_getaffinity(0)
    first, *_ = available_cores()
    pinning = Pinning([first])
    pinning.pin_again()  # the threads of libraries that other tests have loaded
    runner = MovingRunner(at_step, range(os.cpu_count() or 1))
    try:
        session = session_of(runner, pinning=pinning)
        with pytest.raises(MovedThreadsError, match=f"but all must be on CPU {first}: a library"):
            session.run()
        measured = runner._steps > 1 + CONFIG.warmup_steps
        assert measured == (at_step == 8), "found before anything is measured, if it can be"
    finally:
        Pinning(sorted(before)).pin_again()


class IndependentRanks(TwoRanks):
    """Counts the steps that count; others train on while the slower rank has its window."""

    extra = 0

    def until_all(self, work: Any) -> None:
        self.calls.append("until_all")
        for _ in range(2):
            work()
            self.extra += 1


def independent(runner: IndependentRanks, **changes: Any) -> TrainingOutcome:
    config = dataclasses.replace(
        CONFIG, devices=2, independent=2, process_model="per_device", **changes
    )
    return session_of(runner, config=config, until_all=runner.until_all).run()


def test_the_rates_of_independent_ranks_add_up() -> None:
    result = independent(IndependentRanks(seconds_per_step=0.5))
    # One rank takes 0.5 s for a step, the other 1 s: 32 / 0.5 + 32 / 1 examples in a second.
    assert result.examples_per_second == pytest.approx(96)
    assert result.step_seconds.median == pytest.approx(64 / 96)
    assert result.rank_combination.startswith("harmonic mean")


def test_an_independent_rank_trains_on_after_its_window_outside_the_clocks() -> None:
    runner = IndependentRanks()
    result = independent(runner)
    windows = runner.calls.count("until_all")
    assert runner.extra == 2 * windows > 0
    for place in (i for i, call in enumerate(runner.calls) if call == "until_all"):
        before, after = runner.calls[:place], runner.calls[place:]
        assert before[::-1].index("clock") < before[::-1].index("step")  # the window has ended
        assert after.index("metrics") > after.index("step")
    plain = run(FakeRunner())[1]
    assert result.steps_trained == plain.steps_trained  # steps of the others do not count


def test_one_of_several_devices_alone_trains_its_share_of_the_batch() -> None:
    config = dataclasses.replace(CONFIG, devices=2, independent=1, process_model="per_device")
    runner = FakeRunner(seconds_per_step=0.5)
    result = session_of(runner, config=config).run()
    assert result.examples_per_second == pytest.approx(32 / 0.5)
