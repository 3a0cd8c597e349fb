"""Tests of the base cases that a study adds to its cells on several devices."""

import pytest

from isoscale.common.commands.compare import define_flags
from isoscale.common.config.run_config import RunConfig
from isoscale.common.program import main as program
from isoscale.common.registry.build_config import known_quota
from isoscale.common.study.grid import read_cells
from isoscale.common.study.plan import group_key
from isoscale.common.study.resume import with_base_cases

Described = tuple[str, str, int, int, int]
"""Framework, strategy, devices, independent devices, global batch."""


@pytest.fixture(autouse=True)
def four_cores(monkeypatch) -> None:
    known_quota.cache_clear()
    monkeypatch.setattr(
        "isoscale.common.registry.build_config.available_cores", lambda: list(range(4))
    )
    monkeypatch.setattr("isoscale.common.registry.build_config.known_quota", lambda: None)


def cells_of(*flags: str) -> list[RunConfig]:
    fv = define_flags()
    fv.parse(["--models=mlp_medium", "--global_batch_size=64", *flags])
    return read_cells(fv)


def described(cells: list[RunConfig]) -> set[Described]:
    return {(c.framework, c.strategy, c.devices, c.independent, c.global_batch_size) for c in cells}


def test_a_cell_on_several_devices_brings_its_base_cases() -> None:
    found = cells_of("--strategies=ddp", "--devices=2")
    assert described(found) == {
        ("torch", "ddp", 2, 0, 64),
        ("torch", "ddp", 1, 0, 64),
        ("torch", "bare", 1, 0, 64),
        ("torch", "ddp", 2, 2, 64),
        ("torch", "ddp", 2, 1, 64),
    }
    assert len(found) == 5  # each once


def test_under_weak_scaling_the_share_of_a_device_is_the_whole_batch_of_one() -> None:
    found = cells_of("--strategies=ddp", "--devices=1,4", "--scaling=weak")
    assert described(found) == {
        ("torch", "ddp", 1, 0, 64),
        ("torch", "ddp", 4, 0, 256),
        ("torch", "bare", 1, 0, 64),
        ("torch", "ddp", 4, 4, 256),
    }


def test_each_device_count_has_independent_cells_of_its_own() -> None:
    found = cells_of("--strategies=mirrored,bare", "--devices=1,2,4", "--frameworks=tensorflow")
    independent = {entry for entry in described(found) if entry[3]}
    assert {(devices, count) for _, _, devices, count, _ in independent} == {
        (2, 1), (2, 2), (4, 1), (4, 4),
    }  # fmt: skip
    assert {c.process_model for c in found if c.independent} == {"per_device"}


def test_base_cases_take_turns_with_the_cell_that_needs_them() -> None:
    for scaling in ("strong", "weak"):
        found = cells_of("--strategies=pjit", "--devices=2", f"--scaling={scaling}")
        assert len({group_key(cell.cell(), scaling=scaling) for cell in found}) == 1


@pytest.mark.parametrize(
    "flags",
    [
        ("--strategies=pjit", "--devices=1"),
        ("--strategies=pjit", "--devices=2", "--nobase_cases"),
        ("--strategies=pjit", "--devices=2", "--tuning=ladder"),
        ("--strategies=pjit", "--devices=8", "--allow_oversubscription"),
    ],
)
def test_no_base_cases_where_nobody_asks_or_cores_are_shared(flags: tuple[str, ...]) -> None:
    found = cells_of(*flags)
    assert {cell.strategy for cell in found} == {"pjit"}
    assert not any(cell.independent for cell in found)
    assert len({cell.devices for cell in found}) == 1


def test_an_independent_cell_has_the_tweaks_of_one_device() -> None:
    found = cells_of("--strategies=mirrored", "--devices=2", "--tuning=tuned")
    by_kind = {(c.devices, c.independent, c.strategy): c.tweaks for c in found}
    assert by_kind[2, 2, "mirrored"] == by_kind[1, 0, "mirrored"]
    assert by_kind[2, 1, "mirrored"] == by_kind[1, 0, "mirrored"]
    assert by_kind[2, 0, "mirrored"] != by_kind[1, 0, "mirrored"]  # the all-reduce of two devices


def test_a_run_is_rebuilt_from_its_flags() -> None:
    (independent,) = (c for c in cells_of("--strategies=ddp", "--devices=2") if c.independent == 2)
    fv = program.define_flags("torch")
    fv.parse(independent.to_flags())
    rebuilt, own = program.read_config(fv, "torch")
    assert rebuilt == independent
    assert own is None  # this program starts the ranks


def test_a_study_from_before_base_cases_goes_on_without_them() -> None:
    assert with_base_cases(["--devices=2"]) == ["--nobase_cases", "--devices=2"]
    for known in ("--base_cases", "--nobase_cases", "--base_cases=true"):
        assert with_base_cases([known]) == [known]


def test_a_tpu_has_no_independent_devices() -> None:
    found = cells_of("--strategies=pjit", "--devices=2", "--platform=tpu", "--frameworks=jax")
    assert {(c.strategy, c.devices) for c in found} == {("pjit", 2), ("pjit", 1), ("bare", 1)}
