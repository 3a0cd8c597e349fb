import pytest

from isoscale.common.measure.loop import timed_window
from tests.common.measure.fake_runner import FakeRunner


def test_only_steps_run_between_the_two_clock_readings() -> None:
    runner = FakeRunner()
    seconds, handles = timed_window(
        runner, [{}] * 3, issue=runner.step, max_in_flight=99, clock=runner.clock
    )
    assert runner.calls == ["barrier", "wait", "clock", *["step"] * 3, "wait", "clock"]
    assert (seconds, handles) == (1.5, [0, 1, 2])


def test_steps_in_flight_are_bounded() -> None:
    runner = FakeRunner()
    timed_window(runner, [{}] * 4, issue=runner.step, max_in_flight=2, clock=runner.clock)
    inside = runner.calls[3:-2]
    assert inside == ["step", "step", "wait_for 0", "step", "wait_for 1", "step"]


@pytest.mark.parametrize("timed", [False, True])
def test_only_a_generator_places_batches_inside_the_window(timed: bool) -> None:
    runner = FakeRunner()
    batches = (runner.place({}) for _ in range(2)) if timed else [{}, {}]
    timed_window(runner, batches, issue=runner.step, max_in_flight=2, clock=runner.clock)
    first, last = (i for i, call in enumerate(runner.calls) if call == "clock")
    assert runner.calls[first:last].count("place") == (2 if timed else 0)
