import dataclasses
from typing import Any

import pytest

from isoscale.common.config.errors import ConfigError, unknown
from isoscale.common.config.mesh import Mesh
from isoscale.common.config.run_config import OptimizerConfig, RunConfig, cell_id
from isoscale.common.disk.folders import check_inside
from isoscale.common.registry import lookup

BASE: dict[str, Any] = {
    "framework": "jax",
    "strategy": "pjit",
    "model": "mlp_digits",
    "spec": lookup.preset("mlp_digits").spec,
    "devices": 2,
    "global_batch_size": 64,
    "compile_mode": "jit",
    "steps": 10,
    "window_steps": 2,
    "latency_steps": 1,
    "available_cores": 2,
}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"global_batch_size": 63}, "global_batch_size=63 is not divisible by devices=2"),
        (
            {"gradient_accumulation_steps": 3},
            "gradient_accumulation_steps=3 does not divide the 32 examples of a device",
        ),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps=0 must be a whole"),
        ({"devices": 4}, "needs 4 cores and 2 are available"),
        ({"threads_per_device": 2}, "needs 4 cores and 2 are available"),
        ({"devices": 0}, "devices=0 must be a whole number, 1 or more"),
        ({"steps": 1.5}, "steps=1.5 must be a whole number"),
        ({"seed": -1}, "seed=-1 must be a whole number, 0 or more"),
        ({"dtype": "float23"}, "unknown dtype 'float23': did you mean 'float32'?"),
        ({"platform": "cpus"}, "did you mean 'cpu'?"),
        ({"input_pipeline": "time"}, "did you mean 'timed'?"),
    ],
)
def test_bad_values_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        RunConfig(**{**BASE, **change})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_accumulation_is_part_of_the_cell_where_there_is_some() -> None:
    config = RunConfig(**{**BASE, "gradient_accumulation_steps": 4})
    assert config.cell()["gradient_accumulation_steps"] == 4
    assert "--gradient_accumulation_steps=4" in config.to_flags()
    assert "gradient_accumulation_steps" not in RunConfig(**BASE).cell()


def test_oversubscription_is_allowed_on_request_and_marked() -> None:
    config = RunConfig(**{**BASE, "devices": 4, "allow_oversubscription": True})
    assert config.cell()["oversubscribed"]
    assert not RunConfig(**BASE).cell()["oversubscribed"]


def test_processes_follow_the_process_model() -> None:
    assert RunConfig(**BASE).processes == 1
    assert RunConfig(**{**BASE, "process_model": "per_device"}).processes == 2


@pytest.mark.parametrize(
    "change", [{"devices": 1}, {"dtype": "float64"}, {"overrides": (("num_classes", 11),)}]
)
def test_cell_id_tells_cells_apart(change: dict[str, Any]) -> None:
    assert cell_id(RunConfig(**BASE).cell()) != cell_id(RunConfig(**{**BASE, **change}).cell())


def test_cell_id_ignores_what_is_not_the_cell() -> None:
    assert cell_id(RunConfig(**BASE).cell()) == cell_id(RunConfig(**{**BASE, "seed": 9}).cell())


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"weight_decay": -0.1},
        {"beta1": 1.0},
        {"clip_norm": -1.0},
        {"schedule": "cosin"},
        {"schedule": "cosine", "schedule_warmup_steps": 5, "schedule_steps": 5},
    ],
)
def test_optimizer_values_are_checked(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        OptimizerConfig(**change)


@pytest.mark.parametrize(
    "name", ["", "..", "../x", "a/b", "/etc", ".hidden", "x" * 101, "ä", "a b"]
)
def test_names_stay_in_their_folder(name: str, tmp_path) -> None:
    with pytest.raises(ConfigError, match="--study"):
        check_inside(tmp_path, name, flag="--study")
    assert check_inside(tmp_path, "ok-1.2_x", flag="--study").parent == tmp_path


def test_unknown_suggests_the_nearest_name() -> None:
    assert "did you mean 'gpt_tiny'?" in str(unknown("model", "gpt_tyni", ["gpt_tiny", "moe"]))
    assert "did you mean" not in str(unknown("model", "zzz", ["gpt_tiny"]))


def test_mesh_has_a_place_for_every_axis() -> None:
    assert dataclasses.asdict(Mesh(data=4)) == {"data": 4, "fsdp": 1, "expert": 1, "tensor": 1}
    assert Mesh(data=2, tensor=3).devices == 6
    with pytest.raises(ConfigError, match="fsdp=0"):
        Mesh(fsdp=0)
