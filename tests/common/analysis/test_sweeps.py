"""Which settings are a sweep, over which axis, and in which order."""

import itertools
from typing import Any

import pytest

from isoscale.common.analysis.scaling import Scaling, summarize_cells
from isoscale.common.analysis.settings import split_into_settings
from isoscale.common.analysis.sweeps import PARAMETERS, Sweep, find_sweeps
from tests.common.report.fake_study import make_cell, make_line, read_lines


def sweeps(
    cells: list[tuple[dict[str, Any], int | None]], *, scaling: Scaling = "strong"
) -> dict[str, Sweep]:
    """Returns axis -> sweep of (changes of a cell, number of parameters)."""
    lines = [
        make_line(make_cell("torch", "bare", 1, **changes), 0, 0.01, sequence=i, parameters=count)
        for i, (changes, count) in enumerate(cells)
    ]
    summaries = summarize_cells(read_lines(lines), scaling=scaling)
    found = find_sweeps(split_into_settings(summaries, scaling=scaling))
    assert len({sweep.slug for sweep in found}) == len(found)
    return {sweep.title: sweep for sweep in found}


def places(sweep: Sweep) -> list[float]:
    return [member.size for member in sweep.members]


def test_settings_that_differ_in_the_batch_only_are_a_sweep() -> None:
    found = sweeps([({"global_batch_size": size}, 100) for size in (64, 16, 32)])
    assert list(found) == ["Over global batch: mlp_medium, float32"]
    (sweep,) = found.values()
    assert sweep.axis == "global batch"
    assert places(sweep) == [16, 32, 64]
    assert [member.model for member in sweep.members] == ["mlp_medium"] * 3


def test_with_weak_scaling_the_axis_is_the_batch_per_device() -> None:
    (sweep,) = sweeps(
        [({"global_batch_size": size}, 100) for size in (16, 32)], scaling="weak"
    ).values()
    assert sweep.axis == "batch per device"


def test_sizes_are_ordered_by_parameters() -> None:
    found = sweeps(
        [({"overrides": {"hidden_sizes": [w]}}, count) for w, count in ((9, 300), (5, 200), (2, 7))]
    )
    (sweep,) = found.values()
    assert sweep.axis == PARAMETERS
    assert places(sweep) == [7, 200, 300]
    assert [member.model for member in sweep.members] == [
        f"mlp_medium hidden_sizes={w}" for w in (2, 5, 9)
    ]


def test_presets_of_one_family_are_a_sweep_and_other_families_are_not() -> None:
    models = {"mlp_large": 6_900_000, "mlp_medium": 258_432, "moe_tiny": 500_000, "own": 9}
    found = sweeps([({"model": name}, count) for name, count in models.items()])
    (sweep,) = found.values()
    assert sweep.title == "Over parameters: mlp models, global batch 64, float32"
    assert [member.model for member in sweep.members] == ["mlp_medium", "mlp_large"]


def test_several_axes_give_a_sweep_of_each_for_each_value_of_the_others() -> None:
    cells: list[tuple[dict[str, Any], int | None]] = []
    for b, d, n in itertools.product((8, 16), (64, 100), (2, 3)):
        sizes = {"d_model": d, "layers": n}
        cells.append(({"global_batch_size": b, "overrides": sizes}, d * n))
    found = sweeps(cells)
    over_batch = [s for s in found.values() if s.axis == "global batch"]
    over_size = [s for s in found.values() if s.axis == PARAMETERS]
    assert len(over_batch) == 4
    assert len(over_size) == 2 * (2 + 2)
    assert all(places(sweep) == [8, 16] for sweep in over_batch)
    # 128, 192, 200 and 300 parameters: a sweep has those that differ in one size.
    assert sorted(map(tuple, map(places, over_size))) == sorted(
        2 * [(128, 200), (192, 300), (128, 192), (200, 300)]
    )


def test_sizes_that_change_together_are_one_sweep() -> None:
    cells: list[tuple[dict[str, Any], int | None]] = [
        ({"overrides": {"d_model": d, "layers": n}}, d * n) for d, n in ((8, 1), (16, 2), (32, 3))
    ]
    (sweep,) = sweeps(cells).values()
    assert places(sweep) == [8, 32, 96]
    assert sweep.members[0].model == "mlp_medium d_model=8 layers=1"


@pytest.mark.parametrize("count", [None, 5])
def test_without_distinct_parameters_the_size_itself_is_the_axis(count: int | None) -> None:
    cells: list[tuple[dict[str, Any], int | None]] = [
        ({"overrides": {"input_size": size} if size != 799 else {}}, count)  # 799: the preset's
        for size in (1000, 799, 64)
    ]
    (sweep,) = sweeps(cells).values()
    assert sweep.axis == "input_size"
    assert places(sweep) == [64, 799, 1000]
    assert not sweeps([({"overrides": {"hidden_sizes": [w]}}, count) for w in (8, 16)])


def test_settings_that_differ_otherwise_are_no_sweep() -> None:
    cells: list[tuple[dict[str, Any], int | None]] = [
        ({"global_batch_size": 16}, 5),
        ({"global_batch_size": 32, "dtype": "bfloat16"}, 5),
        ({"global_batch_size": 64, "tuning": "tuned"}, 5),
        ({"global_batch_size": 128, "threads_per_device": 2}, 5),
    ]
    assert not sweeps(cells)


def test_a_size_that_failed_does_not_hide_the_others() -> None:
    lines = []
    for index, (width, status) in enumerate(((2, "ok"), (5, "ok"), (9, "failed"))):
        cell = make_cell("torch", "bare", 1, overrides={"hidden_sizes": [width]})
        changes = {"parameters": 10 * width} if status == "ok" else {"parameters": None}
        line = make_line(cell, 0, 0.01, sequence=index, status=status, **changes)
        lines.append(line)
    summaries = summarize_cells(read_lines(lines), scaling="strong")
    (sweep,) = find_sweeps(split_into_settings(summaries, scaling="strong"))
    assert sweep.axis == PARAMETERS
    assert places(sweep) == [20, 50]
