import dataclasses
import json
import re
from typing import Any

import pytest

from isoscale.common.config.cell import Cell
from isoscale.common.config.errors import ConfigError, unknown
from isoscale.common.config.flags import Flags
from isoscale.common.config.mesh import Mesh
from isoscale.common.config.optimizer_config import OptimizerConfig
from isoscale.common.config.options import options_of
from isoscale.common.config.run_config import RunConfig
from isoscale.common.config.setting_flags import (
    CELL_FLAGS,
    define_flag,
    define_training_flags,
    read_settings,
)
from isoscale.common.disk.folders import check_inside
from isoscale.common.registry import lookup
from isoscale.models.mlp.spec import MlpSpec
from isoscale.models.moe.spec import MoeSpec
from isoscale.models.transformer.spec import TransformerSpec

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
        ({"devices": 0}, "devices=0 must be a whole number, 1 to 256"),
        ({"steps": 1.5}, "steps=1.5 must be a whole number"),
        ({"steps": 10**20}, "must be a whole number, 1 to 10000000"),
        ({"latency_steps": 10**8}, "latency_steps=100000000 must be a whole number, 0 to 10000000"),
        (
            {"global_batch_size": 2 * 10**6},
            "global_batch_size=2000000 must be a whole number, 1 to",
        ),
        ({"max_in_flight": 1001}, "max_in_flight=1001 must be a whole number, 1 to 1000"),
        ({"steps_per_dispatch": 0}, "steps_per_dispatch=0 must be a whole number"),
        ({"seed": -1}, "seed=-1 must be a whole number, 0 to 2147483647"),
        ({"dtype": "float23"}, "unknown dtype 'float23': did you mean 'float32', "),
        ({"platform": "cpus"}, "did you mean 'cpu', "),
        ({"input_pipeline": "time"}, "did you mean 'timed'?"),
    ],
)
def test_bad_values_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        RunConfig(**{**BASE, **change})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_model_that_cannot_be_meant_is_refused_with_both_numbers() -> None:
    for spec in (
        MlpSpec(hidden_sizes=(10**9, 10**9)),
        TransformerSpec(d_model=10**6, num_layers=1000),
        MoeSpec(num_experts=10**9),
    ):
        with pytest.raises(
            ConfigError, match=r"model 'm' has \S+ parameters; at most 1e\+11 are allowed"
        ):
            RunConfig(**{**BASE, "model": "m", "spec": spec})
    with pytest.raises(ConfigError, match="num_layers=1001 must be a whole number, 1 to 1000"):
        TransformerSpec(num_layers=1001)
    with pytest.raises(ConfigError, match="must be 1 to 1000 whole numbers"):
        MlpSpec(hidden_sizes=(8,) * 10**6)
    with pytest.raises(ConfigError, match="hidden_sizes=1000000000000 must be a whole number"):
        MlpSpec(hidden_sizes=(10**12,))


def test_accumulation_is_part_of_the_cell_only_if_above_1() -> None:
    config = RunConfig(**{**BASE, "gradient_accumulation_steps": 4})
    assert config.cell().gradient_accumulation_steps == 4
    assert "--gradient_accumulation_steps=4" in config.to_flags()
    assert "gradient_accumulation_steps" not in RunConfig(**BASE).cell().to_record()


def test_oversubscription_is_allowed_on_request_and_marked() -> None:
    config = RunConfig(**{**BASE, "devices": 4, "allow_oversubscription": True})
    assert config.cell().oversubscribed
    assert not RunConfig(**BASE).cell().oversubscribed


def test_processes_follow_the_process_model() -> None:
    assert RunConfig(**BASE).processes == 1
    assert RunConfig(**{**BASE, "process_model": "per_device"}).processes == 2


@pytest.mark.parametrize(
    "change", [{"devices": 1}, {"dtype": "float64"}, {"overrides": (("num_classes", 11),)}]
)
def test_different_cells_have_different_ids(change: dict[str, Any]) -> None:
    assert RunConfig(**BASE).cell().id != RunConfig(**{**BASE, **change}).cell().id


def test_the_seed_does_not_change_the_cell_id() -> None:
    assert RunConfig(**BASE).cell().id == RunConfig(**{**BASE, "seed": 9}).cell().id


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
def test_a_study_name_that_is_not_plain_is_refused(name: str, tmp_path) -> None:
    with pytest.raises(ConfigError, match="--study"):
        check_inside(tmp_path, name, flag="--study")
    assert check_inside(tmp_path, "ok-1.2_x", flag="--study").parent == tmp_path


def test_unknown_suggests_the_nearest_name() -> None:
    assert "did you mean 'gpt_tiny'?" in str(unknown("model", "gpt_tyni", ["gpt_tiny", "moe"]))
    assert "did you mean" not in str(unknown("model", "zzz", ["gpt_tiny"]))


def test_only_the_devices_of_this_machine_need_its_cores() -> None:
    """A launcher such as torchrun can spread the ranks over several machines."""
    config = RunConfig(**{**BASE, "devices": 4, "local_devices": 2})
    assert not config.cell().oversubscribed
    assert config.devices_here == 2
    with pytest.raises(ConfigError, match=r"devices=4, 3 of them here, .* needs 3 cores and 2 are"):
        RunConfig(**{**BASE, "devices": 4, "local_devices": 3})


@pytest.mark.parametrize(
    "quota, devices, oversubscribed",
    [(None, 2, False), (2.0, 2, False), (1.5, 2, True), (1.5, 1, False), (0.5, 1, True)],
)
def test_a_cpu_quota_counts_as_cores_do(quota, devices: int, oversubscribed: bool) -> None:
    values = {**BASE, "devices": devices, "available_cores": 2, "cpu_quota": quota}
    allowed = RunConfig(**values, allow_oversubscription=True)
    assert allowed.cell().oversubscribed == oversubscribed
    if oversubscribed:
        with pytest.raises(ConfigError, match=f"quota of this container is the time of {quota}"):
            RunConfig(**values)
    else:
        RunConfig(**values)


def test_a_mesh_has_a_size_for_every_axis() -> None:
    assert dataclasses.asdict(Mesh(data=4)) == {"data": 4, "fsdp": 1, "expert": 1, "tensor": 1}
    assert Mesh(data=2, tensor=3).devices == 6
    with pytest.raises(ConfigError, match="fsdp=0"):
        Mesh(fsdp=0)


def test_every_setting_declares_whether_cells_contain_the_setting() -> None:
    """A field without a declaration would merge runs that are not comparable."""
    declared = {
        n: o.cell for n, o in options_of(RunConfig).items()
    }  # raises for a field without a declaration
    in_cell = {name for name, membership in declared.items() if membership != "never"}
    derived = {"processes", "mesh", "oversubscribed"}
    assert in_cell | derived == {field.name for field in dataclasses.fields(Cell)}
    assert set(options_of(OptimizerConfig)) == {f.name for f in dataclasses.fields(OptimizerConfig)}


@pytest.mark.parametrize("name", [n for n, o in options_of(RunConfig).items() if o.cell != "never"])
def test_cells_differ_if_any_setting_of_the_cell_differs(name: str) -> None:
    changes: dict[str, Any] = {
        "framework": "torch", "strategy": "pmap", "model": "mlp_large", "devices": 1,
        "overrides": (("num_classes", 11),), "global_batch_size": 32, "dtype": "float64",
        "compile_mode": "eager", "tuning": "tuned", "dataset": "digits", "input_pipeline": "timed",
        "tweaks": ("a",), "platform": "gpu", "threads_per_device": 3, "optimizer":
        OptimizerConfig(beta1=0.5), "gradient_accumulation_steps": 2, "steps_per_dispatch": 10,
        "scenario": "breakdown", "env": ("TF_X=1",), "tf32": True, "independent": 2,
    }  # fmt: skip
    base = {**BASE, "available_cores": 8, "platform": "gpu" if name == "tf32" else "cpu"}
    base |= {"process_model": "per_device"} if name == "independent" else {}
    assert RunConfig(**base).cell() != RunConfig(**{**base, name: changes[name]}).cell()


def test_cell_ids_are_the_same_as_in_earlier_versions() -> None:
    """Folder names of earlier studies contain the ids of cells; the test checks one full id."""
    assert RunConfig(**BASE).cell().id == "mlp_digits-jax-pjit-2dev-b64-float32-8d5f2760"


def test_tf32_is_a_choice_for_float32_on_gpus() -> None:
    gpu = {**BASE, "platform": "gpu"}
    config = RunConfig(**{**gpu, "tf32": True})
    assert "--tf32=true" in config.to_flags()
    assert config.cell().to_record()["tf32"] is True
    assert "tf32" not in RunConfig(**gpu).cell().to_record()
    assert Cell.from_record(json.loads(json.dumps(config.cell().to_record()))) == config.cell()
    for change in ({"platform": "cpu"}, {"platform": "tpu"}, {"dtype": "bfloat16"}):
        with pytest.raises(ConfigError, match=r"--tf32 with .*: TF32 is a format of GPUs"):
            RunConfig(**{**gpu, "tf32": True, **change})


def test_a_cell_is_restored_from_its_record() -> None:
    config = RunConfig(**{**BASE, "tweaks": ("a", "b"), "overrides": (("hidden_sizes", (3, 4)),)})
    cell = config.cell()
    again = Cell.from_record(json.loads(json.dumps(cell.to_record())))
    assert again == cell
    assert again.id == cell.id
    assert again.tweaks == ("a", "b")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"devices": "2"}, "cell.devices is '2'; it must be int"),
        ({"devices": True}, "cell.devices is True; it must be int"),
        ({"devices": 0}, "must be 1 or more"),
        ({"mesh": [1]}, "cell.mesh is [1]; it must be an object"),
        ({"optimizer": {"nme": "adamw"}}, "cell.optimizer.nme: OptimizerConfig lacks this field"),
        ({"colour": "red"}, "cell.colour: Cell lacks this field"),
        ({"tweaks": ["a", 1]}, "cell.tweaks[1] is 1; it must be str"),
        ({"dtype": None}, "cell.dtype is None; it must be str"),
    ],
)
def test_a_wrong_record_of_a_cell_is_refused(change: dict[str, Any], message: str) -> None:
    record = {**RunConfig(**BASE).cell().to_record(), **change}
    with pytest.raises(ValueError, match=re.escape(message)):
        Cell.from_record(record)


def test_a_cell_without_a_model_is_refused() -> None:
    record = RunConfig(**BASE).cell().to_record()
    del record["model"]
    with pytest.raises(ValueError, match=re.escape("cell.model is missing")):
        Cell.from_record(record)


def test_flags_rebuild_the_settings() -> None:
    """Covers every setting with a flag, at a value other than its default."""
    config = RunConfig(
        **{**BASE, "warmup_steps": 3, "seed": 7, "batch_pool": 5, "max_in_flight": 1,
           "input_pipeline": "timed", "gradient_accumulation_steps": 2, "threads_per_device": 2,
           "allow_oversubscription": True, "dataset": "digits",
           "env": ("TF_X=a,b", "XLA_FLAGS=--c=d"),
           "optimizer": OptimizerConfig(name="sgd", learning_rate=0.25, schedule="linear",
                                        schedule_steps=50)},
    )  # fmt: skip
    fv = Flags(usage="x")
    for name in CELL_FLAGS:
        define_flag(fv, name)
    define_training_flags(fv)
    fv.parse(config.to_flags())
    settings = read_settings(fv)
    assert settings.pop("tweaks") == ["none"]
    assert settings == {name: getattr(config, name) for name in settings}


INDEPENDENT = {**BASE, "independent": 2, "process_model": "per_device"}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"independent": 3}, "independent=3 with devices=2: it must be at most the number"),
        ({"devices": 1, "independent": 1}, "independent=1 with devices=1"),
        ({"platform": "tpu"}, "independent=2 on platform=tpu"),
        ({"process_model": "single"}, "each device needs a process of its own"),
        ({"global_batch_size": 63}, "not divisible by devices=2"),
        ({"available_cores": 1}, "needs 2 cores and 1 are available"),
    ],
)
def test_independent_devices_that_cannot_be_are_refused(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        RunConfig(**{**INDEPENDENT, **change})


def test_a_process_of_an_independent_run_trains_its_share_on_one_device() -> None:
    config = RunConfig(**INDEPENDENT)
    assert (config.processes, config.examples_per_step, config.mesh) == (2, 64, Mesh(data=1))
    part = config.part
    assert (part.devices, part.independent, part.global_batch_size) == (1, 0, 32)
    alone = RunConfig(**{**INDEPENDENT, "independent": 1, "available_cores": 1})
    assert (alone.processes, alone.examples_per_step) == (1, 32)
    together = RunConfig(**BASE)
    assert together.part is together
    assert together.examples_per_step == 64


def test_an_independent_cell_differs_from_the_one_with_communication() -> None:
    plain, independent = RunConfig(**BASE).cell(), RunConfig(**INDEPENDENT).cell()
    assert "independent" not in plain.to_record()
    assert plain.id != independent.id
    assert Cell.from_record(independent.to_record()) == independent
    assert independent.examples_per_step == 64
    broken = {**independent.to_record(), "independent": 3}
    with pytest.raises(ValueError, match="independent must be between 0 and devices"):
        Cell.from_record(broken)
