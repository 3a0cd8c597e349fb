"""The process model decides the devices of a process: all devices of the run, or one."""

import dataclasses
import subprocess
import sys

import pytest

from isoscale.common.parity.cases import all_cases, make_config
from isoscale.common.registry import lookup
from tests.conftest import environment_of

CODE = """
import dataclasses, importlib, os, sys
from isoscale.common.parity.cases import all_cases, make_config
from isoscale.common.registry import lookup
framework, strategy, process_model = sys.argv[1:]
config = make_config(
    all_cases()["mlp_plain"], framework=framework, strategy=strategy, devices=2, dtype="float32",
    steps=1, tuning="stock", tweaks=[], platform="cpu",
)
config = dataclasses.replace(config, process_model=process_model)
os.environ.update(lookup.framework_environment(framework, config))
devices = importlib.import_module(f"isoscale.frameworks.{framework}_runner.devices")
print("DEVICES", len(devices.local_devices(config)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("process_model, count", [("single", 2), ("per_device", 1)])
@pytest.mark.parametrize("framework, strategy", [("jax", "pjit"), ("tensorflow", "mirrored")])
def test_local_devices(framework: str, strategy: str, process_model: str, count: int) -> None:
    answer = subprocess.run(
        [sys.executable, "-P", "-c", CODE, framework, strategy, process_model],
        env=environment_of(RANK="1", LOCAL_RANK="1"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"DEVICES {count}\n" in answer.stdout


@pytest.mark.parametrize("process_model, count", [("single", 2), ("per_device", 1)])
def test_jax_sees_only_the_devices_of_its_process(
    process_model: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JAX reserves memory on every GPU that it sees."""
    config = make_config(
        all_cases()["mlp_plain"], framework="jax", strategy="pjit", devices=2, dtype="float32",
        steps=1, tuning="stock", tweaks=[], platform="cpu",
    )  # fmt: skip
    config = dataclasses.replace(config, process_model=process_model)
    flags = lookup.framework_environment("jax", config)["XLA_FLAGS"]
    assert f"host_platform_device_count={count} " in flags
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("LOCAL_RANK", "1")
    config = dataclasses.replace(config, platform="gpu")
    visible = lookup.framework_environment("jax", config)["CUDA_VISIBLE_DEVICES"]
    assert visible == {"single": "0,1", "per_device": "1"}[process_model]


@pytest.mark.parametrize(
    "framework, strategy, variable, value",
    [
        ("jax", "pjit", "XLA_PYTHON_CLIENT_PREALLOCATE", "false"),
        ("tensorflow", "mirrored", "TF_FORCE_GPU_ALLOW_GROWTH", "true"),
    ],
)
def test_runs_that_take_turns_reserve_no_memory_of_a_gpu(
    framework: str, strategy: str, variable: str, value: str
) -> None:
    config = make_config(
        all_cases()["mlp_plain"], framework=framework, strategy=strategy, devices=2,
        dtype="float32", steps=1, tuning="stock", tweaks=[], platform="cpu",
    )  # fmt: skip
    alone = dataclasses.replace(config, platform="gpu")
    in_turns = dataclasses.replace(alone, min_seconds=0.3)
    assert lookup.framework_environment(framework, in_turns)[variable] == value
    assert variable not in lookup.framework_environment(framework, alone)


@pytest.mark.parametrize(
    "given, rank, seen",
    [(None, 1, "1"), ("4,7", 1, "7"), ("4,7", 0, "4"), ("GPU-a,GPU-b", 1, "GPU-b"), ("4", 1, None)],
)
def test_a_rank_of_jax_sees_its_own_gpu_only(
    given: str | None, rank: int, seen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Independent processes of JAX would otherwise all compute on the first GPU."""
    config = make_config(
        all_cases()["mlp_plain"], framework="jax", strategy="pjit", devices=1,
        dtype="float32", steps=1, tuning="stock", tweaks=[], platform="cpu",
    )  # fmt: skip
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", str(rank))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    own = dataclasses.replace(config, platform="gpu", process_model="per_device")
    assert lookup.framework_environment("jax", own).get("CUDA_VISIBLE_DEVICES") == seen
