"""Tests the choices that a configuration takes from this machine."""

import math

import pytest

from isoscale.common.commands.compare import define_flags
from isoscale.common.machine.visible_gpus import Gpus
from isoscale.common.registry import build_config
from isoscale.common.study.grid import read_cells


@pytest.mark.parametrize(
    "cores, quota, threads, expected",
    [
        (2, None, 1, [1, 2]),
        (1, None, 1, [1]),
        (8, 1.5, 1, [1]),
        (8, 2.0, 1, [1, 2]),
        (2, None, 2, [1]),
        (4, None, 2, [1, 2]),
        (4, 0.5, 1, [1]),
    ],
)
def test_the_default_device_counts_fit_the_machine(
    cores: int, quota: float | None, threads: int, expected: list[int], monkeypatch
) -> None:
    monkeypatch.setattr(build_config, "available_cores", lambda: list(range(cores)))
    monkeypatch.setattr(build_config, "known_quota", lambda: quota)
    found = build_config.default_devices("cpu", threads_per_device=threads)
    assert found == expected
    if quota is None:
        fv = define_flags()
        fv.parse(["--models=mlp_digits", f"--threads_per_device={threads}"])
        assert {cell.devices for cell in read_cells(fv)} == set(expected)


@pytest.mark.parametrize(
    "usable, parts, expected",
    [(0, 0, [1]), (1, 0, [1]), (4, 0, [1, 2]), (7, 7, [1]), (math.inf, 0, [1])],
)
def test_the_default_device_counts_fit_the_gpus(
    usable: float, parts: int, expected, monkeypatch
) -> None:
    found = Gpus(listed=1, usable=usable, parts=parts, words="")
    monkeypatch.setattr(build_config, "known_gpus", lambda: found)
    assert build_config.default_devices("gpu", threads_per_device=1) == expected
