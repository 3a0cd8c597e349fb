"""Tests the conditions of a study on CPUs, and of one on GPUs."""

import pytest

from isoscale.common.analysis.scaling import summarize_cells
from isoscale.common.report.study.conditions import make_conditions
from tests.common.report.fake_study import MACHINE, grid_lines, read_lines

GPUS = {"gpus": [{"name": "A GPU"}] * 2, "gpu_links": "GPU0 X NV12"}


def facts(platform: str, machine: dict, **cell: object) -> dict[str, str]:
    lines = read_lines(grid_lines(runs=1, platform=platform, oversubscribed=False, **cell))
    summaries = summarize_cells(lines, scaling="strong")
    return dict(make_conditions(summaries, [MACHINE | machine], scaling="strong").facts)


def test_conditions_on_gpus_do_not_speak_of_cpu_devices() -> None:
    found = facts("gpu", GPUS)
    assert found["Devices"] == (
        "gpu; each device is one GPU; processes are not pinned to CPU cores"
    )
    assert found["Link"] == "GPU0 X NV12"
    assert found["dtype"] == "float32 (no TF32)"
    assert facts("gpu", GPUS, tf32=True)["dtype"] == "float32 (products in TF32)"
    assert facts("cpu", {})["dtype"] == "float32"


@pytest.mark.parametrize("machine", [{}, GPUS], ids=["without GPUs", "with GPUs"])
def test_conditions_on_cpus_do_not_speak_of_links_between_gpus(machine: dict) -> None:
    found = facts("cpu", machine)
    assert found["Devices"].startswith("cpu; each CPU device has 1 core")
    assert found["Link"].startswith("CPU devices of one machine")
