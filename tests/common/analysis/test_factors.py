"""Tests of the factors of efficiency, on studies with known times."""

import math
from typing import Any

import pytest

from isoscale.common.analysis.factors import (
    COMMUNICATION,
    HARDWARE,
    SMALLER_BATCH,
    WRAPPER,
    Factors,
    factors_of,
)
from isoscale.common.analysis.scaling import Scaling, summarize_cells
from isoscale.common.analysis.settings import split_into_settings
from tests.common.report.fake_study import make_cell, make_line, read_lines, turns_lines

# Seconds per step of 64 examples (of 32, where one device has its share of them).
STRONG = {
    "bare": 0.010,
    "one": 0.011,
    "share": 0.0066,
    "together": 0.0072,
    "several": 0.012,
}
WEAK = {"bare": 0.010, "one": 0.011, "together": 0.012, "several": 0.016}


def cells_of(scaling: Scaling) -> dict[str, dict[str, Any]]:
    batch = 64 if scaling == "strong" else 128
    several = make_cell("torch", "ddp", 2, global_batch_size=batch)
    alone = {"processes": 2, "mesh": {"data": 1}}
    return {
        "bare": make_cell("torch", "bare", 1),
        "one": make_cell("torch", "ddp", 1),
        "share": {**several, **alone, "processes": 1, "independent": 1},
        "together": {**several, **alone, "independent": 2},
        "several": several,
    }


def lines_of(
    seconds: dict[str, float], *, scaling: Scaling = "strong", runs: int = 4, noise: float = 0.0
) -> list[dict[str, Any]]:
    """Returns the lines of runs that followed each other."""
    cells = cells_of(scaling)
    lines: list[dict[str, Any]] = []
    for run in range(runs):
        for index, (name, value) in enumerate(seconds.items()):
            wobble = 1 + noise * math.sin(3 * run + index)
            lines.append(make_line(cells[name], run, value * wobble, sequence=len(lines)))
    return lines


def found_in(
    seconds: dict[str, float], *, scaling: Scaling = "strong", runs: int = 4, noise: float = 0.0
) -> list[Factors]:
    lines = lines_of(seconds, scaling=scaling, runs=runs, noise=noise)
    return factors_from(lines, scaling=scaling)


def factors_from(lines: list[dict[str, Any]], *, scaling: Scaling = "strong") -> list[Factors]:
    summaries = summarize_cells(read_lines(lines), scaling=scaling)
    (setting,) = split_into_settings(summaries, scaling=scaling)
    return factors_of(setting, scaling=scaling)


def values_of(found: Factors) -> dict[str, float]:
    return {factor.name: factor.ratio.value for factor in found.factors}


def test_strong_scaling_has_four_factors_that_multiply_to_the_efficiency() -> None:
    (found,) = found_in(STRONG)
    assert values_of(found) == pytest.approx(
        {
            WRAPPER: 10 / 11,
            SMALLER_BATCH: (32 / 0.0066) / (64 / 0.011),
            HARDWARE: 0.0066 / 0.0072,
            COMMUNICATION: 0.0072 / 0.012,
        }
    )
    assert found.efficiency.value == pytest.approx(10 / 12 / 2)
    assert found.product == pytest.approx(found.efficiency.value)


def test_weak_scaling_has_three_factors_that_multiply_to_the_efficiency() -> None:
    (found,) = found_in(WEAK, scaling="weak")
    assert values_of(found) == pytest.approx(
        {WRAPPER: 10 / 11, HARDWARE: 11 / 12, COMMUNICATION: 12 / 16}
    )
    assert found.efficiency.value == pytest.approx(10 / 16)
    assert found.product == pytest.approx(found.efficiency.value)


@pytest.mark.parametrize("missing, joined", [("one", WRAPPER), ("share", SMALLER_BATCH)])
def test_without_a_base_case_the_causes_beside_it_are_one_factor(missing, joined) -> None:
    (found,) = found_in({n: v for n, v in STRONG.items() if n != missing})
    (factor,) = (f for f in found.factors if len(f.names) > 1)
    assert joined in factor.names
    assert found.product == pytest.approx(found.efficiency.value)
    assert found.find(joined) is None


def test_without_bare_the_strategy_on_one_device_is_the_base() -> None:
    (found,) = found_in({n: v for n, v in STRONG.items() if n != "bare"})
    assert found.base.cell.strategy == "ddp"
    assert WRAPPER not in values_of(found)
    assert found.product == pytest.approx(found.efficiency.value) == pytest.approx(11 / 12 / 2)


def test_without_independent_devices_there_are_no_factors() -> None:
    assert found_in({n: v for n, v in STRONG.items() if n != "together"}) == []


def test_independent_cells_take_no_part_in_comparisons() -> None:
    cells = cells_of("strong")
    lines = [make_line(cells[n], 0, v, sequence=i) for i, (n, v) in enumerate(STRONG.items())]
    summaries = summarize_cells(read_lines(lines), scaling="strong")
    (setting,) = split_into_settings(summaries, scaling="strong")
    assert [name for name, _ in setting.base_cases] == [
        "torch ddp, 1 of 2 devices independent",
        "torch ddp, 2 of 2 devices independent",
    ]
    assert not any(cell.cell.independent for _, cell in setting.cells)
    by_name = {cell.cell.independent: cell for _, cell in setting.base_cases}
    # Rates of independent devices add up: one of two trains half of the batch.
    assert by_name[1].examples_per_second is not None
    assert by_name[1].examples_per_second.median == pytest.approx(32 / 0.0066)
    assert by_name[2].speedup is None


def test_compute_against_exposed_communication() -> None:
    (found,) = found_in(STRONG)
    r = found.compute_to_communication
    assert r is not None
    assert r.value == pytest.approx(7.2 / (12 - 7.2))
    (free,) = found_in({**STRONG, "several": 0.007})
    assert free.compute_to_communication is not None
    assert math.isinf(free.compute_to_communication.value)


def test_the_fall_of_communication_that_makes_devices_pay() -> None:
    (found,) = found_in(STRONG)  # 12 ms now, 10 ms on one device, 7.2 ms without communication
    assert found.without_communication.value == pytest.approx(10 / 7.2)
    assert found.fall_needed == pytest.approx((12 - 10) / (12 - 7.2))
    assert found_in({**STRONG, "several": 0.009})[0].fall_needed is None  # pays already
    assert found_in({**STRONG, "together": 0.0101})[0].fall_needed is None  # no link suffices


def test_the_largest_loss_is_sure_only_if_its_interval_is_apart() -> None:
    (clear,) = found_in(STRONG, noise=0.002)
    assert next(factor.name for factor in clear.losses) == COMMUNICATION
    assert clear.is_largest_sure
    (close,) = found_in({**STRONG, "several": 0.0072 / 0.9}, noise=0.05)
    assert not close.losses or not close.is_largest_sure


def test_factors_of_runs_in_turns_are_free_of_drift_and_have_intervals() -> None:
    cells = cells_of("strong")
    listed = [(cells[name], value) for name, value in STRONG.items()]
    (found,) = factors_from(turns_lines(listed, process=0.003, window=0.01, drift=0.3))
    truth = {WRAPPER: 10 / 11, SMALLER_BATCH: 5 / 6, HARDWARE: 11 / 12, COMMUNICATION: 0.6}
    for factor in found.factors:
        assert factor.ratio.low is not None
        assert factor.ratio.high is not None
        assert factor.ratio.value == pytest.approx(truth[factor.name], rel=0.03)
        assert 0 < factor.ratio.high - factor.ratio.low < 0.1
    assert found.product == pytest.approx(found.efficiency.value, rel=0.01)
