"""A signal ends a run at a step at which its state is whole; a last checkpoint is saved."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.checkpoint.files import checkpoints_in
from isoscale.common.checkpoint.saver import Saver
from isoscale.common.measure.scenario import Task
from isoscale.common.measure.scenarios.training import TrainingSession
from isoscale.common.processes import heartbeat
from isoscale.common.processes.frame import INTERRUPTING, Interrupted
from isoscale.common.processes.heartbeat import Heartbeat
from isoscale.common.processes.stop import Stop
from tests.common.measure.fake_runner import FakeRunner
from tests.common.measure.test_training import CONFIG, about, digits
from tests.common.processes.workers import wait_until


@pytest.fixture(autouse=True)
def _handlers_are_restored() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in INTERRUPTING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.set_wakeup_fd(-1)


class SignalledRunner(FakeRunner):
    """Gets signals in a step."""

    def __init__(self, *numbers: int, in_step: int):
        super().__init__()
        self._numbers, self._in_step = numbers, in_step

    def step(self, batch: Any) -> int:
        if self._steps == self._in_step:
            for number in self._numbers:
                os.kill(os.getpid(), number)
        return super().step(batch)


class SignalledPeer(FakeRunner):
    """Its peer, rank 1, gets a signal in some step; this rank gets none."""

    def gather(self, value: Any) -> list[Any]:
        if isinstance(value, list):
            return [value, [value[0], signal.SIGHUP if self._steps > 5 else 0]]
        return [value, value]


def interrupt(
    runner: FakeRunner,
    folder: Path,
    *,
    saves: bool = True,
    saver: Saver | None = None,
    **changes: Any,
) -> Interrupted:
    """Runs a session that a signal ends; returns the exception."""
    stop = Stop()
    stop.listen(lambda number: None)
    if saves and saver is None:
        saver = Saver(folder, every=None, last_step=19, about=about())
    session = TrainingSession(
        Task(
            config=dataclasses.replace(CONFIG, **changes),
            runner=runner,
            dataset=digits(),
            heartbeat=Heartbeat(None),
            clock=runner.clock,
            saver=saver,
            stop=stop,
        )
    )
    with pytest.raises(Interrupted) as error:
        session.run()
    return error.value


@pytest.mark.parametrize("number", INTERRUPTING)
@pytest.mark.parametrize("pipeline", ["placed", "timed"])
def test_the_step_ends_and_a_last_checkpoint_is_saved(
    pipeline: str, number: int, tmp_path: Path
) -> None:
    runner = SignalledRunner(number, in_step=5)
    assert interrupt(runner, tmp_path, input_pipeline=pipeline).number == number
    assert runner.calls.count("step") == 6
    assert [step for step, _ in checkpoints_in(tmp_path)] == [6]
    # All ranks wait for rank 0, which writes.
    assert runner.calls[-2:] == ["clock", "barrier"]


def test_all_ranks_stop_if_one_of_them_gets_the_signal(tmp_path: Path) -> None:
    runner = SignalledPeer()
    assert interrupt(runner, tmp_path).number == signal.SIGHUP
    # Steps: 1 to compile, 3 to warm up, 4 in the window in which the signal came.
    assert [step for step, _ in checkpoints_in(tmp_path)] == [8]


def test_a_signal_in_the_last_step_leaves_a_run_with_its_result(tmp_path: Path) -> None:
    stop = Stop()
    stop.listen(lambda number: None)
    runner = SignalledRunner(signal.SIGTERM, in_step=18)
    saver = Saver(tmp_path, every=None, last_step=19, about=about())
    task = Task(
        config=CONFIG,
        runner=runner,
        dataset=digits(),
        heartbeat=Heartbeat(None),
        clock=runner.clock,
        saver=saver,
        stop=stop,
    )
    assert TrainingSession(task).run().status == "ok"
    assert saver.saved_steps == [19]


def test_a_step_that_is_saved_is_not_saved_again(tmp_path: Path) -> None:
    runner = SignalledRunner(signal.SIGTERM, in_step=5)
    saver = Saver(tmp_path, every=2, last_step=19, about=about())
    interrupt(runner, tmp_path, saver=saver)
    assert saver.saved_steps == [2, 4, 6]
    assert not saver.failures


@pytest.mark.parametrize("saves, in_step", [(False, 5), (True, 0)])
def test_a_run_without_anything_to_save_stops_at_once(
    saves: bool, in_step: int, tmp_path: Path
) -> None:
    runner = SignalledRunner(signal.SIGTERM, in_step=in_step)
    interrupt(runner, tmp_path, saves=saves)
    assert runner.calls.count("step") == in_step
    assert not checkpoints_in(tmp_path)


def test_the_second_signal_does_not_wait(tmp_path: Path) -> None:
    runner = SignalledRunner(signal.SIGTERM, signal.SIGINT, in_step=5)
    assert interrupt(runner, tmp_path).number == signal.SIGINT
    assert runner.calls.count("step") == 5
    assert not checkpoints_in(tmp_path)


def window(stop: Stop, items: list[int], *, number: int = 7) -> Iterator[int]:
    return stop.window(items, number=number, seconds_per_item=0.01, in_flight=8)


def two_ranks(folder: Path) -> list[Stop]:
    found = [Stop(folder=folder, rank=rank, ranks=2) for rank in range(2)]
    for stop in found:
        stop.waits = True
    return found


@pytest.mark.parametrize("moment", ["in the window", "before the window"])
def test_ranks_shorten_a_long_window_to_the_same_step(moment: str, tmp_path: Path) -> None:
    ranks = two_ranks(tmp_path)
    lists = [list(range(10**6)) for _ in ranks]
    for stop in ranks:
        window(stop, [1, 2, 3], number=4)
    if moment == "before the window":
        # Rank 0 could choose for the old window; rank 1 enters the new one first.
        for stop in ranks:
            stop._ask(signal.SIGTERM, None)
        time.sleep(0.2)
    left = [window(stop, items) for stop, items in zip(ranks, lists, strict=True)]
    next(left[1])  # rank 1 is one step ahead
    for _ in range(5):
        next(left[0])
    if moment == "in the window":
        for stop in reversed(ranks):
            stop._ask(signal.SIGTERM, None)
    assert wait_until(lambda: all(len(items) < 10**6 for items in lists))
    # At most 5 steps, 8 in flight and 2 to be safe, and 1 second of steps.
    assert len(lists[0]) == len(lists[1])
    assert 8 + 2 + 100 <= len(lists[0]) <= 5 + 8 + 2 + 100


@pytest.mark.parametrize("rank", [0, 1])
def test_no_rank_shortens_its_window_if_another_one_has_no_signal(
    rank: int, tmp_path: Path
) -> None:
    ranks = two_ranks(tmp_path)
    lists = [list(range(1000)) for _ in ranks]
    for stop, items in zip(ranks, lists, strict=True):
        window(stop, items)
    ranks[rank]._ask(signal.SIGTERM, None)
    time.sleep(0.2)
    assert [len(items) for items in lists] == [1000, 1000]
    assert heartbeat.signals(tmp_path) == {rank: signal.SIGTERM}


def test_a_choice_that_cannot_be_written_or_read_leaves_the_window_whole(tmp_path: Path) -> None:
    stop = Stop(folder=tmp_path / "missing", rank=0, ranks=2)
    stop.waits = True
    items = list(range(1000))
    window(stop, items)
    stop._ask(signal.SIGTERM, None)
    assert (len(items), stop.requested) == (1000, signal.SIGTERM)
    heartbeat.choice_path(tmp_path).write_text('{"no": "list"}')
    follower = two_ranks(tmp_path)[1]
    window(follower, items)
    follower._ask(signal.SIGTERM, None)
    heartbeat.choice_path(tmp_path).write_text("[6, 3]")  # of another window
    time.sleep(0.2)
    assert len(items) == 1000


DEAF = """
import ctypes, os
from isoscale.common.processes import stop as module
module._DEAF_SECONDS = 0.5
stop = module.Stop()
stop.listen(lambda number: os._exit(128 + number))
stop.waits = {waits}
mutex = ctypes.create_string_buffer(64)
libc = ctypes.CDLL(None)
libc.pthread_mutex_lock(mutex)
print("ready", flush=True)
libc.pthread_mutex_lock(mutex)  # waits for ever, in code that does not return to Python
"""


@pytest.mark.parametrize("waits, signals", [(False, 1), (True, 2)])
def test_a_process_in_foreign_code_ends_without_its_main_thread(waits: bool, signals: int) -> None:
    code = DEAF.format(waits=waits)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as program:
        assert program.stdout
        assert program.stdout.readline() == b"ready\n"
        time.sleep(1)  # until it waits in foreign code
        for _ in range(signals):
            assert program.poll() is None
            program.terminate()
            time.sleep(1)
        assert program.wait(timeout=20) == 143
