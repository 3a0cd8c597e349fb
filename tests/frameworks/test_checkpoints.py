"""Checkpoints of whole programs: handed from framework to framework, and found after a kill."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.checkpoint import files
from common.commands import lookup
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

MODEL = ("--model=mlp_digits", "--dtype=float64", "--warmup_steps=2", "--latency_steps=3")
TORCH = "frameworks.torch_runner"


def arrays(folder: Path) -> dict[str, np.ndarray]:
    path = files.find(str(folder))
    assert path is not None
    return files.read_state(path, files.read_manifest(path)).tensors()


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def losses(folder: Path) -> dict[int, float]:
    lines = (folder / "steps.jsonl").read_text().splitlines()
    return {step["step"]: step["loss"] for step in map(json.loads, lines)}


def test_saved_in_one_resumed_in_another(run_program, tmp_path: Path) -> None:
    """From torch ddp on 2 devices to jax pjit on 4 to tensorflow mirrored on 2."""
    legs = [
        ("torch", "ddp", 2, 12),
        ("jax", "pjit", 4, 24),
        ("tensorflow", "mirrored", 2, 36),
    ]
    curve: dict[int, float] = {}
    for framework, strategy, devices, end in legs:
        answer = run_program(
            lookup.program(framework), *MODEL, f"--strategy={strategy}", f"--devices={devices}",
            f"--steps={end - 6}", "--allow_oversubscription", f"--run_dir={framework}{end}",
            "--save_checkpoint=saved", "--resume_from=latest", "--save_every=5",
        )  # fmt: skip
        assert answer.returncode == 0, answer.stdout + answer.stderr
        of_leg = losses(tmp_path / f"{framework}{end}")
        assert list(of_leg) == list(range(len(curve), end))
        curve |= of_leg
        assert files.generations(tmp_path / "saved")[-1][0] == end
        found = result(tmp_path / f"{framework}{end}")
        assert found["first_step"] == end - 12
        assert (found["resumed_from"] or {"step": 0})["step"] == end - 12
        assert "checkpoints in" in answer.stdout
    answer = run_program(TORCH, *MODEL, "--steps=30", "--run_dir=unbroken", "--save_checkpoint=u")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    unbroken = losses(tmp_path / "unbroken")
    assert curve == pytest.approx(unbroken, rel=1e-12)
    ours, theirs = arrays(tmp_path / "saved"), arrays(tmp_path / "u")
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=0, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_dropout_goes_on_with_the_same_masks(framework: str, run_program, tmp_path: Path) -> None:
    model = ("--model=mlp_digits", "--dropout_rate=0.5", "--warmup_steps=0", "--latency_steps=0")
    program = lookup.program(framework)
    for name, *flags in (
        ("first", "--steps=5", "--save_checkpoint=saved"),
        ("second", "--steps=11", "--save_checkpoint=saved", "--resume_from=latest"),
        ("unbroken", "--steps=11", "--save_checkpoint=u"),
    ):
        answer = run_program(program, *model, *flags, f"--run_dir={name}")
        assert answer.returncode == 0, answer.stdout + answer.stderr
    ours, theirs = arrays(tmp_path / "saved"), arrays(tmp_path / "u")
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


KILLS = 6  # tests/common/checkpoint kills what saves 20 times


def test_killed_again_and_again_it_ends_as_an_unbroken_one(run_program, tmp_path: Path) -> None:
    """At random moments between the first checkpoint of a run and its end, inside saves too."""
    training = (*MODEL, "--steps=1000", "--window_steps=100")
    answer = run_program(TORCH, *training, "--run_dir=unbroken", "--save_checkpoint=u")
    assert answer.returncode == 0, answer.stderr
    dice, kills, attempt = random.Random(0), 0, 0
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    saved = tmp_path / "saved"
    while True:
        attempt += 1
        assert attempt < 60
        before = files.generations(saved)[-1:]
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", TORCH, *training, f"--run_dir=run_{attempt}"),
                *("--save_checkpoint=saved", "--save_every=10", "--resume_from=latest"),
            ],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if kills < KILLS:
            # Once it has begun to save; else all kills would hit the import.
            while files.generations(saved)[-1:] == before and process.poll() is None:
                time.sleep(0.001)
            time.sleep(dice.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
        said = process.communicate(timeout=120)[1]
        if process.returncode == -signal.SIGKILL:
            kills += 1
            continue
        assert process.returncode == 0, said
        break
    assert kills == KILLS
    ours, theirs = arrays(saved), arrays(tmp_path / "u")
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", TORCH, *MODEL, "--steps=1000000", "--run_dir=r"),
            *("--save_checkpoint=saved", "--save_every=10"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not files.generations(tmp_path / "saved"):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "; go on from step " in said
    assert "--resume_from=latest" in said
