"""Runs each framework's program without ``compare``: all strategies and several data sets."""

import json
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.machine.cores import available_cores
from isoscale.common.registry import lookup
from tests.faults.listeners import Listeners

pytestmark = pytest.mark.slow

STRATEGIES = [(f, s) for f in lookup.frameworks() for s in lookup.strategies(f)]


def run(run_program, tmp_path: Path, framework: str, *arguments: str) -> dict[str, Any]:
    answer = run_program(lookup.program(framework), *arguments, "--run_dir=r")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    result = json.loads((tmp_path / "r/result.json").read_text())
    assert answer.stdout.count("results in") == 1, "one summary for any number of ranks"
    assert result["status"] == "ok"
    return {**result, "printed": answer.stdout}


@pytest.mark.parametrize("framework, strategy", STRATEGIES)
def test_every_strategy_runs_on_four_devices_or_its_limit(
    framework: str, strategy: str, run_program, tmp_path
) -> None:
    devices = lookup.strategy_info(framework, strategy).max_devices or 4
    with Listeners() as listeners:
        result = run(
            run_program, tmp_path, framework, "--model=gpt_tiny", "--num_layers=1",
            "--d_model=32", "--sequence_length=16", "--steps=8", f"--strategy={strategy}",
            f"--devices={devices}", "--allow_oversubscription",
        )  # fmt: skip
    assert not listeners.outside_loopback(), "other machines can reach the run"
    cell = result["cell"]
    assert cell["devices"] == devices
    assert cell["oversubscribed"] == (devices > len(available_cores()))
    assert ("OVERSUBSCRIBED" in result["printed"]) == cell["oversubscribed"]
    assert cell["overrides"] == {"num_layers": 1, "d_model": 32, "sequence_length": 16}
    assert result["loss_first"] == pytest.approx(5.5524, abs=0.02)  # near log 256
    assert result["tokens_per_second"] == pytest.approx(16 * result["examples_per_second"])
    machine = json.loads((tmp_path / "r/machine.json").read_text())
    per_device = lookup.strategy_info(framework, strategy).process_model == "per_device"
    assert len(machine["ranks"]) == (devices if per_device else 1)


@pytest.mark.parametrize("framework, strategy", [("jax", "pjit"), ("tensorflow", "mirrored")])
def test_independent_devices_train_a_copy_each(
    framework: str, strategy: str, run_program, tmp_path: Path
) -> None:
    """The processes of strategies that drive all devices from one; ddp has a test in turns."""
    result = run(
        run_program, tmp_path, framework, "--model=mlp_digits", "--steps=8", "--devices=2",
        f"--strategy={strategy}", "--independent=2", "--allow_oversubscription",
    )  # fmt: skip
    cell = result["cell"]
    assert (cell["devices"], cell["processes"], cell["independent"]) == (2, 2, 2)
    assert cell["mesh"]["data"] == 1
    assert "INDEPENDENT: 2 of them train a copy each, on 32 examples" in result["printed"]
    machine = json.loads((tmp_path / "r/machine.json").read_text())
    assert len({rank["pid"] for rank in machine["ranks"]}) == 2
    assert result["rank_combination"].startswith("harmonic mean")


@pytest.mark.parametrize("framework", lookup.frameworks())
def test_digits_reach_the_same_accuracy(framework: str, run_program, tmp_path: Path) -> None:
    """Accuracy is above 95 % on 360 held-out images; all frameworks train the same steps."""
    result = run(run_program, tmp_path, framework, "--model=mlp_digits", "--dataset=digits")
    assert result["eval"]["n"] == 360
    assert result["eval"]["accuracy"] > 0.95
    # All frameworks reach this figure at seed 0; float32 rounding may flip 1 image of 360.
    assert result["eval"]["accuracy"] == pytest.approx(DIGITS_ACCURACY, abs=1.01 / 360)


DIGITS_ACCURACY = 0.975


@pytest.mark.parametrize("framework", lookup.frameworks())
def test_real_text_with_timed_input(framework: str, run_program, tmp_path: Path) -> None:
    result = run(
        run_program, tmp_path, framework, "--model=gpt_tiny", "--num_layers=1", "--d_model=32",
        "--dataset=python_source", "--input_pipeline=timed", "--steps=20",
    )  # fmt: skip
    assert len(result["data"]["sha256"]) == 64
    assert result["loss_last"] < result["loss_first"]
    assert result["eval"]["n"] == 4 * 8 * 128
    assert result["cell"]["input_pipeline"] == "timed"


def test_another_compile_mode(run_program, tmp_path: Path) -> None:
    """The parity tests cover PyTorch, which takes 20 seconds to compile."""
    result = run(
        run_program, tmp_path, "tensorflow", "--model=mlp_digits", "--compile_mode=xla",
        "--steps=10",
    )  # fmt: skip
    assert result["cell"]["compile_mode"] == "xla"
    assert "(xla)" in result["printed"]
    assert result["loss_first"] == pytest.approx(2.44584, abs=1e-4)


def test_secrets_stay_out_of_the_record(run_program, tmp_path: Path) -> None:
    answer = run_program(
        "isoscale.frameworks.torch_runner", "--model=mlp_digits", "--steps=2", "--run_dir=r",
        "--env=OMP_WAIT_POLICY=PASSIVE", MY_API_TOKEN="hunter2", OMP_PROC_BIND="close",
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    written = "".join(path.read_text() for path in (tmp_path / "r").iterdir())
    assert "hunter2" not in written
    environment = json.loads((tmp_path / "r/environment.json").read_text())
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert environment["OMP_NUM_THREADS"] == "1"
    assert "OMP_PROC_BIND" not in environment
    assert "runs do not get these variables of this shell: OMP_PROC_BIND (" in answer.stderr


ENVIRONMENT = {
    "jax": ("huge-pages", "GLIBC_TUNABLES"),
    "torch": ("mkl-as-intel", "LD_PRELOAD"),
}


@pytest.mark.parametrize("framework", list(ENVIRONMENT))
def test_environment_tweaks_are_set_before_the_framework_is_imported(
    framework: str, run_program, tmp_path: Path
) -> None:
    """A program started by hand restarts with the lane's variables and records them."""
    name, variable = ENVIRONMENT[framework]
    (tweak,) = (tweak for tweak in lookup.tweaks(framework) if tweak.name == name)
    if tweak.missing():
        pytest.skip(tweak.missing())
    value = tweak.environment()[variable]
    sizes = ["--model=gpt_tiny", "--num_layers=1", "--d_model=32", "--sequence_length=16"]
    result = run(run_program, tmp_path, framework, *sizes, "--steps=23", f"--tweaks=+{name}")
    assert result["cell"]["tuning"] == "stock"
    assert result["cell"]["tweaks"] == [name]
    machine = json.loads((tmp_path / "r/machine.json").read_text())
    assert list(machine["tweaks"]) == [name]
    environment = json.loads((tmp_path / "r/environment.json").read_text())
    part = Path(value).name  # of a library's path, only the name is recorded
    assert part in environment[variable]
    # A run without the tweak removes the tweak's value that the shell has set.
    answer = run_program(
        lookup.program(framework), *sizes, "--steps=5", "--run_dir=stock", **{variable: value}
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    environment = json.loads((tmp_path / "stock/environment.json").read_text())
    assert part not in environment.get(variable, "")


def test_blocks_of_steps_train_the_same_steps_as_single_calls(run_program, tmp_path: Path) -> None:
    """Also with dropout, where JAX carries the key; a block's rehearsal is not a training step."""
    flags = ["--model=mlp_digits", "--steps=40", "--window_steps=20", "--dropout_rate=0.1"]
    losses = {}
    for tweaks in ("none", "+several-steps"):
        folder = tmp_path / tweaks
        folder.mkdir()
        answer = run_program(
            lookup.program("jax"), *flags, f"--tweaks={tweaks}", f"--run_dir={folder}"
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        steps = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
        assert [step["step"] for step in steps] == list(range(len(steps)))
        losses[tweaks] = [step["loss"] for step in steps]
    assert losses["+several-steps"] == pytest.approx(losses["none"], rel=1e-5)
    result = json.loads((tmp_path / "+several-steps/result.json").read_text())
    assert result["cell"]["steps_per_dispatch"] == 10
    assert 0 < result["rehearsal_seconds"] < result["compile_seconds"]
