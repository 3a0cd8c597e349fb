"""Frequency and throttling of cores, from a folder in place of /sys."""

from pathlib import Path

import pytest

from isoscale.common.machine import frequency
from isoscale.common.machine.frequency import Reading, frequencies, ratios, slowed, throttle_count


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(frequency, "ROOT", tmp_path)
    return tmp_path


def write(system: Path, core: int, *, kilohertz: str = "", throttles: str = "") -> None:
    for name, text in (
        ("cpufreq/scaling_cur_freq", kilohertz),
        ("thermal_throttle/core_throttle_count", throttles),
    ):
        if text:
            path = system / f"cpu{core}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def test_frequencies_and_throttles_are_read(system: Path) -> None:
    write(system, 0, kilohertz="3500000\n", throttles="3\n")
    write(system, 1, kilohertz="3400000\n", throttles="4\n")
    assert frequencies([0, 1]) == (3.5e9, 3.4e9)
    assert throttle_count([0, 1]) == 7


def test_what_the_system_does_not_say_is_unknown(system: Path) -> None:
    assert frequencies([]) is throttle_count([]) is None
    write(system, 0, kilohertz="3500000", throttles="3")
    assert frequencies([0, 1]) is throttle_count([0, 1]) is None
    write(system, 1, kilohertz="<unknown>", throttles="?")
    assert frequencies([0, 1]) is throttle_count([0, 1]) is None


def windows(*gigahertz: float, throttles: int | None = None) -> list[Reading | None]:
    return [Reading(hertz=(3e9, 1e9 * value), throttles=throttles) for value in gigahertz]


def test_a_window_with_a_slow_core_is_slowed() -> None:
    found = windows(3.0, 3.0, 3.01, 2.9, 2.84, 3.0)
    assert ratios(found) == [1.0, 1.0, 1.0, 0.967, 0.947, 1.0]
    assert slowed(found) == [False] * 4 + [True, False]
    assert slowed([*found, None])[-1] is None


def test_a_frequency_that_never_changes_is_nominal() -> None:
    found = windows(3.0, 3.0, 3.0)
    assert ratios(found) == [None] * 3
    assert slowed(found) == [None] * 3


def test_a_frequency_that_changes_all_the_time_singles_out_no_window() -> None:
    assert slowed(windows(3.0, 1.0, 3.0, 1.0, 3.0)) == [None] * 5


def test_a_core_that_heat_throttled_slows_its_window() -> None:
    found = [Reading(throttles=2), Reading(), *[Reading(throttles=0)] * 4]
    assert slowed(found) == [True, None, *[False] * 4]
    unsteady = windows(3.0, 1.0, 1.0, 3.0, throttles=0)
    assert slowed(unsteady) == [False] * 4


def test_throttles_in_most_windows_single_out_no_window() -> None:
    cool, hot = Reading(hertz=None, throttles=0), Reading(hertz=None, throttles=2)
    assert slowed([cool, hot, cool, cool, cool]) == [False, True, False, False, False]
    assert slowed([hot, hot, cool, hot, cool]) == [False] * 5
