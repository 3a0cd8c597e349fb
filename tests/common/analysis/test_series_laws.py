"""Which cells of a setting count for a law, what they compare with, and why none is fitted."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from isoscale.common.analysis.scaling import Scaling, summarize_cells
from isoscale.common.analysis.series_laws import TOO_FEW_COUNTS, SeriesLaws, laws_of
from isoscale.common.analysis.settings import split_into_settings
from tests.common.report.fake_study import make_cell, make_line, read_lines, turns_lines

SPREAD = (0.99, 1.0, 1.004, 0.997, 1.01, 1.0)


def amdahl(serial: float) -> Callable[[int], float]:
    """Returns device count -> seconds per step; one device takes 10 ms."""
    return lambda devices: 0.010 * (serial + (1 - serial) / devices)


def ddp(devices: int, **changes: Any) -> dict[str, Any]:
    return make_cell("torch", "ddp", devices, **{"oversubscribed": False, **changes})


def lines_of(
    cells: Sequence[tuple[dict[str, Any], float]], *, runs: int = 4, **changes: Any
) -> list[dict[str, Any]]:
    """Returns the lines of runs that followed each other."""
    found = []
    for run in range(runs):
        for index, (cell, seconds) in enumerate(cells):
            value = seconds * SPREAD[(run + 2 * index) % len(SPREAD)]
            found.append(make_line(cell, run, value, sequence=len(found), **changes))
    return found


def laws(lines: Sequence[dict[str, Any]], *, scaling: Scaling = "strong") -> list[SeriesLaws]:
    summaries = summarize_cells(read_lines(lines), scaling=scaling)
    (setting,) = split_into_settings(summaries, scaling=scaling)
    return laws_of(setting, scaling=scaling)


def curve(
    seconds: Callable[[int], float], devices: Sequence[int] = (1, 2, 4, 8), **changes: Any
) -> list[tuple[dict[str, Any], float]]:
    return [(ddp(count, **changes), seconds(count)) for count in devices]


BARE = (make_cell("torch", "bare", 1), 0.008)


def test_the_base_is_the_strategy_on_one_device_and_not_bare() -> None:
    """A wrapper of 25 % is no serial part: against bare the fraction would be 0.35 on 2 devices."""
    (found,) = laws(lines_of([BARE, *curve(amdahl(0.1))]))
    assert found.series == "torch ddp"
    assert found.devices == (1, 2, 4, 8)
    assert found.base is not None
    assert found.base.cell.strategy == "ddp"
    assert not found.against_bare
    for point in found.points:
        assert point.serial.value == pytest.approx(0.1, abs=0.02)
        assert point.serial.low is not None
        assert point.serial.high is not None
        assert point.serial.low < 0.1 < point.serial.high
    assert found.best is not None
    assert found.best.law.name == "Amdahl"
    assert found.best.parameters["serial fraction"].value == pytest.approx(0.1, abs=0.01)


def test_bare_replaces_a_strategy_that_was_not_measured_on_one_device() -> None:
    (found,) = laws(lines_of([BARE, *curve(amdahl(0.0), (2, 4, 8, 16))]))
    assert found.against_bare
    # 10 ms / 8 ms = 1.25 times the ideal time: e = 0.25 / (N - 1)
    fractions = [point.serial.value for point in found.points]
    assert fractions == pytest.approx([0.25, 0.25 / 3, 0.25 / 7, 0.25 / 15], abs=0.04)
    assert found.best is not None  # bare is on no curve of the strategy: the law is found
    assert found.best.parameters["serial fraction"].value < 0.01
    (alone,) = laws(lines_of(curve(amdahl(0.1), (2, 4, 8, 16))))
    assert alone.base is None
    assert alone.points == []
    assert alone.best is not None
    (three,) = laws(lines_of([BARE, *curve(amdahl(0.0), (2, 4, 8))]))
    assert three.reason == TOO_FEW_COUNTS


def test_oversubscribed_cells_do_not_count() -> None:
    shared = [(ddp(16, oversubscribed=True), 0.5)]
    (found,) = laws(lines_of([*curve(amdahl(0.1)), *shared]))
    (expected,) = laws(lines_of(curve(amdahl(0.1))))
    assert found.devices == (1, 2, 4, 8)
    assert [point.devices for point in found.points] == [2, 4, 8]
    assert found.best is not None
    assert expected.best is not None
    assert found.best.p > 0.05
    assert found.best.parameters["serial fraction"].value == pytest.approx(0.1, abs=0.01)
    only_shared = [curve(amdahl(0.1))[0], *shared]
    assert laws(lines_of(only_shared)) == []


def test_two_or_three_counts_are_too_few_and_have_points() -> None:
    for devices in ((1, 2), (1, 2, 4)):
        (found,) = laws(lines_of(curve(amdahl(0.1), devices)))
        assert found.reason == TOO_FEW_COUNTS == "too few device counts (needs 4)"
        assert found.fits == []
        assert found.best is None
        assert len(found.points) == len(devices) - 1


def test_one_device_alone_has_no_laws() -> None:
    assert laws(lines_of([BARE, *curve(amdahl(0.1), (1,))])) == []


def test_few_runs_and_unequal_conditions_give_no_law() -> None:
    (few,) = laws(lines_of(curve(amdahl(0.1)), runs=2))
    assert few.reason == "too few runs of each cell (needs 3)"
    assert few.points[0].serial.low is None
    lines = lines_of(curve(amdahl(0.1)))
    for line in lines:
        if line["cell"]["devices"] == 8:
            line["versions"] = {"torch": "9.9.9", "python": "3.11.7"}
    (apart,) = laws(lines)
    assert apart.reason.startswith("no law: the runs differ in ")
    assert [point.serial.low is None for point in apart.points] == [False, False, True]


def test_weak_scaling_is_fitted_to_gustafson() -> None:
    """5 % of the time on N devices is serial work."""
    cells = [
        (ddp(n, global_batch_size=64 * n), 0.010 * n / (n - 0.05 * (n - 1))) for n in (1, 2, 4, 8)
    ]
    (found,) = laws(lines_of(cells), scaling="weak")
    assert [fit.law.name for fit in found.fits] == ["Gustafson", "USL"]
    assert found.best is not None
    assert found.best.law.name == "Gustafson"
    assert found.best.parameters["serial share"].value == pytest.approx(0.05, abs=0.01)
    # 2 / 1.95 - 1 = 1 / 39, and so on; a noise of 1 % is divided by N - 1.
    for point, growth in zip(found.points, (1 / 39, 1 / 77, 1 / 153), strict=True):
        assert point.serial.value == pytest.approx(growth, abs=0.015 / (point.devices - 1))


def test_cells_that_took_turns_are_fitted_by_group() -> None:
    """Drift and the level of a group cancel."""
    cells = [BARE, *curve(amdahl(0.1))]
    found = laws(turns_lines(cells, groups=4, process=0.004, window=0.01, drift=0.5))
    still = laws(turns_lines(cells, groups=4, process=0.004, window=0.01))
    for moved, other in zip(found[0].fits, still[0].fits, strict=True):
        for name, figure in moved.parameters.items():
            assert figure.value == pytest.approx(other.parameters[name].value, abs=1e-6)
    assert found[0].best is not None
    figure = found[0].best.parameters["serial fraction"]
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low < 0.1 < figure.high < 0.13
    few = laws(turns_lines(cells, groups=2, process=0.004, window=0.01))
    assert few[0].reason == "too few groups (needs 3)"
    assert few[0].points[0].serial.low is not None  # from rounds, for these processes


def test_a_group_that_lacks_a_count_is_left_out() -> None:
    cells = curve(amdahl(0.1))
    lines = turns_lines(cells, groups=5, process=0.004, window=0.01)
    kept = [x for x in lines if not (x["run"] == 4 and x["cell"]["devices"] == 8)]
    expected = laws([x for x in lines if x["run"] != 4])[0].fits
    found = laws(kept)[0].fits
    assert found == expected


def test_all_rounds_disturbed_give_no_law() -> None:
    lines = turns_lines(curve(amdahl(0.1)), disturbed=lambda cell, *_: cell == 3)
    (found,) = laws(lines)
    assert found.reason == TOO_FEW_COUNTS
    assert found.devices == (1, 2, 4)
    apart = turns_lines(
        curve(amdahl(0.1)), disturbed=lambda cell, _, number: (cell == 3) == (number > 0)
    )
    (found,) = laws(apart)  # each cell has valid rounds, but they share none
    assert found.reason.startswith("no law: no round is valid")


def test_falling_speedups_are_described_by_usl() -> None:
    def seconds(n: int) -> float:
        return 0.010 * (1 + 1.2 * (n - 1) + 0.2 * n * (n - 1)) / n

    assert seconds(2) > 0.010
    (found,) = laws(lines_of(curve(seconds)))
    assert found.best is not None
    assert found.best.law.name == "USL"
    assert all(point.serial.value > 1 for point in found.points)
    assert math.isclose(found.best.parameters["contention"].value, 1.2, rel_tol=0.1)


def test_weak_scaling_in_turns_counts_examples() -> None:
    """With the same seconds per step, twice the batch is twice the throughput."""
    cells = [(ddp(count, global_batch_size=64 * count), 0.01) for count in (1, 2, 4, 8)]
    (found,) = laws(turns_lines(cells, process=0.002), scaling="weak")
    assert [point.speedup.value for point in found.points] == pytest.approx([2, 4, 8], rel=0.02)
    assert found.best is not None
    assert found.best.law.name == "Gustafson"
    assert found.best.parameters["serial share"].value == pytest.approx(0.0, abs=0.02)
