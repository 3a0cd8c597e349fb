"""Checkpoints of whole programs: resumed in another framework, and after a kill."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isoscale.common.checkpoint import files
from isoscale.common.processes.lock import locked
from isoscale.common.registry import lookup
from tests.common.checkpoint.test_damaged import FOREIGN, forge

pytestmark = pytest.mark.slow

MODEL = ("--model=mlp_digits", "--dtype=float64", "--warmup_steps=2", "--latency_steps=3")
TORCH = "isoscale.frameworks.torch_runner"
JAX = "isoscale.frameworks.jax_runner"


def arrays(folder: Path) -> dict[str, np.ndarray]:
    path = files.find(str(folder))
    assert path is not None
    return files.read_state(path, files.read_manifest(path)).tensors()


def equal(ours: Path, theirs: Path) -> None:
    """Checks that the newest checkpoints of two folders contain the same bits."""
    found, expected = arrays(ours), arrays(theirs)
    assert set(found) == set(expected)
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def losses(folder: Path) -> dict[int, float]:
    lines = (folder / "steps.jsonl").read_text().splitlines()
    return {step["step"]: step["loss"] for step in map(json.loads, lines)}


def test_a_checkpoint_is_resumed_in_another_framework(run_program, tmp_path: Path) -> None:
    """From torch ddp on 2 devices to jax pjit on 4, then to tensorflow mirrored on 2."""
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
        assert files.checkpoints_in(tmp_path / "saved")[-1][0] == end
        found = result(tmp_path / f"{framework}{end}")
        assert found["first_step"] == end - 12
        assert (found["resumed_from"] or {"step": 0})["step"] == end - 12
        assert "checkpoints in" in answer.stdout
    answer = run_program(TORCH, *MODEL, "--steps=30", "--run_dir=unbroken", "--save_checkpoint=u")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    for said in (", 1 cpu device in 1 process, ", "  saved       1 checkpoint in "):
        assert said in answer.stdout
    unbroken = losses(tmp_path / "unbroken")
    assert curve == pytest.approx(unbroken, rel=1e-12)
    ours, theirs = arrays(tmp_path / "saved"), arrays(tmp_path / "u")
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=0, atol=1e-10, err_msg=name)


def test_a_bfloat16_run_is_resumed_in_another_framework(run_program, tmp_path: Path) -> None:
    """The parameters and moments are float32, on disk and in every framework."""
    model = ("--model=mlp_digits", "--dtype=bfloat16", "--warmup_steps=0", "--latency_steps=0")
    for program, *flags in (
        (TORCH, "--steps=10", "--save_checkpoint=saved", "--run_dir=first"),
        (JAX, "--steps=20", "--save_checkpoint=saved", "--resume_from=latest", "--run_dir=second"),
        (JAX, "--steps=20", "--run_dir=unbroken"),
    ):
        answer = run_program(program, *model, *flags)
        assert answer.returncode == 0, answer.stdout + answer.stderr
    assert {value.dtype for value in arrays(tmp_path / "saved").values()} == {np.dtype("float32")}
    unbroken = losses(tmp_path / "unbroken")
    assert unbroken[19] < 0.9 * unbroken[0], "the loss must fall, to distinguish a resumed run"
    second = losses(tmp_path / "second")
    assert list(second) == list(range(11, 21))
    assert second == pytest.approx({step: unbroken[step] for step in second}, rel=2e-2)


@pytest.mark.parametrize("framework", lookup.frameworks())
def test_a_resumed_run_uses_the_same_dropout_masks(
    framework: str, run_program, tmp_path: Path
) -> None:
    model = ("--model=mlp_digits", "--dropout_rate=0.5", "--warmup_steps=0", "--latency_steps=0")
    program = lookup.program(framework)
    for name, *flags in (
        ("first", "--steps=5", "--save_checkpoint=saved"),
        ("second", "--steps=11", "--save_checkpoint=saved", "--resume_from=latest"),
        ("unbroken", "--steps=11", "--save_checkpoint=u"),
    ):
        answer = run_program(program, *model, *flags, f"--run_dir={name}")
        assert answer.returncode == 0, answer.stdout + answer.stderr
    equal(tmp_path / "saved", tmp_path / "u")
    first = losses(tmp_path / "first")[0]
    assert first == losses(tmp_path / "unbroken")[0]
    assert abs(first - 2.44584) > 1e-3, "this is the loss without dropout"


@pytest.mark.parametrize(
    "program, flags, steps, kills",
    [
        (JAX, (), 1500, 20),
        (TORCH, ("--strategy=ddp", "--devices=2", "--allow_oversubscription"), 200, 1),
    ],
)
def test_a_run_killed_many_times_ends_equal_to_an_unbroken_run(
    program: str, flags: tuple[str, ...], steps: int, kills: int, run_program, tmp_path: Path
) -> None:
    """Kills come at random moments after a run's first checkpoint, also during saves."""
    training = (*MODEL, *flags, f"--steps={steps}", "--window_steps=100")
    answer = run_program(program, *training, "--run_dir=unbroken", "--save_checkpoint=u")
    assert answer.returncode == 0, answer.stderr
    dice, inside = random.Random(0), 0
    saved = tmp_path / "saved"
    for attempt in range(kills + 1):
        before = files.checkpoints_in(saved)[-1:]
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", program, *training, f"--run_dir=run_{attempt}"),
                *("--save_checkpoint=saved", "--save_every=10", "--resume_from=latest"),
            ],
            cwd=tmp_path,
            env=dict(os.environ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if attempt < kills:
            # Kill after the first save; otherwise all kills would hit the import.
            while files.checkpoints_in(saved)[-1:] == before and process.poll() is None:
                time.sleep(0.001)
            time.sleep(dice.uniform(0, 0.03))
            process.send_signal(signal.SIGKILL)
        said = process.communicate(timeout=120)[1]  # waits for the ranks, too
        assert process.returncode == (-signal.SIGKILL if attempt < kills else 0), said
        inside += bool(list(saved.glob(".writing.*")))
    assert inside or kills < 20, "no kill came during a save"
    equal(saved, tmp_path / "u")
    # Repeating the same command after the last step succeeds.
    answer = run_program(
        program, *training, "--run_dir=more", "--save_checkpoint=saved", "--resume_from=latest"
    )
    assert answer.returncode == 0, answer.stderr
    assert f"already contains all {steps + 6} steps" in answer.stdout
    assert not (tmp_path / "more").exists()


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """Trains a few steps; returns the checkpoint."""
    folder = tmp_path_factory.mktemp("good")
    answer = subprocess.run(
        [*(sys.executable, "-m", TORCH, *MODEL, "--steps=5"), "--run_dir=r", "--save_checkpoint=s"],
        cwd=folder,
        env=dict(os.environ),
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    return folder / "s/step_000000011"


def _cut(path: Path) -> None:
    os.truncate(path / files.TENSORS, 1000)


def _flip(path: Path) -> None:
    content = bytearray((path / files.TENSORS).read_bytes())
    content[len(content) // 2] ^= 1
    (path / files.TENSORS).write_bytes(content)


def _nan(path: Path) -> None:
    content = (path / files.TENSORS).read_bytes()
    forge(path, content[:-8] + np.float64(np.nan).tobytes())


def _pickle(path: Path) -> None:
    forge(path, FOREIGN["a pickle"])


def _terminal(path: Path) -> None:
    """Adds a tensor name with escape codes for the terminal."""
    manifest = files.read_manifest(path)
    bad = {"parameters/\x1b[2J\nisoscale: all is well": (64, 128)}
    forge(path, (path / files.TENSORS).read_bytes(), tensors=bad | manifest.tensors)


@pytest.mark.parametrize(
    "damage, flags, message",
    [
        (_cut, (), "has 1000 bytes; its manifest says"),
        (_flip, (), "is damaged: its checksum differs"),
        (_nan, (), "contains NaN or infinity"),
        (_pickle, (), "and a header of"),
        (
            _terminal,
            (),
            "\ufffd[2J isoscale: all is well: found [64, 128], expected no tensor",
        ),
        (None, ("--model=mlp_medium",), "dense_0/kernel: found [64, 128], expected [799, 256]"),
        (None, ("--model=gpt_tiny",), "parameters/token_embedding/embedding: found no tensor"),
        (None, ("--hidden_sizes=128,9",), "dense_1/kernel: found [128, 64], expected [128, 9]"),
        (None, ("--dtype=float32",), "trained with dtype=float64; this run has float32"),
        (
            None,
            ("--optimizer=sgd",),
            "was trained with optimizer=adamw; this run has sgd",
        ),
        (None, ("--learning_rate=0.5",), "trained with learning_rate=0.001; this run has 0.5"),
        (None, ("--seed=4",), "trained with seed=0; this run has 4"),
        (None, ("--global_batch_size=32",), "global_batch_size=64; this run has 32"),
        (
            None,
            ("--steps=5",),
            "is at step 11, but the run ends at step 11 (compile, warm-up and latency steps "
            "included); use --steps=6 or more",
        ),
        (
            None,
            ("--save_checkpoint=r/s",),
            "--save_checkpoint=r/s lies in --run_dir=r, which is new",
        ),
        (
            None,
            ("--save_checkpoint=other",),
            "contains 'step_000000099', which is later than step 11",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", str(value))[:30],
)
def test_resume_refuses_damaged_checkpoints_and_flags_that_do_not_fit(
    damage: Callable[[Path], None] | None,
    flags: tuple[str, ...],
    message: str,
    good: Path,
    run_program,
    tmp_path: Path,
) -> None:
    saved = tmp_path / "saved" / good.name
    shutil.copytree(good, saved)
    if damage:
        damage(saved)
    (tmp_path / "other/step_000000099").mkdir(parents=True)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    answer = run_program(TORCH, *MODEL, "--steps=50", *flags, "--run_dir=r", "--resume_from=saved")
    assert (answer.returncode, answer.stdout) == (2, ""), answer.stderr
    (line,) = answer.stderr.splitlines()
    assert message in line
    assert line.isprintable()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_folder_of_checkpoints_has_one_writer(good: Path, run_program, tmp_path: Path) -> None:
    saved = tmp_path / "saved" / good.name
    shutil.copytree(good, saved)
    flags = (*MODEL, "--steps=50", "--run_dir=r", "--save_checkpoint=saved")
    answer = run_program(TORCH, *flags)
    assert answer.returncode == 2
    assert (
        "already contains 'step_000000011': resume from it with --resume_from=latest"
        in answer.stderr
    )
    with locked(tmp_path / "saved", called="it"):
        answer = run_program(TORCH, *flags, "--resume_from=latest")
    assert answer.returncode == 3
    assert f"--save_checkpoint=saved is in use by process {os.getpid()}" in answer.stderr
    assert not (tmp_path / "r").exists()


def test_ctrl_c_prints_how_to_resume(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", TORCH, *MODEL, "--steps=1000000", "--run_dir=r"),
            *("--save_checkpoint=saved", "--save_every=10"),
        ],
        cwd=tmp_path,
        env=dict(os.environ),
        stderr=subprocess.PIPE,
        text=True,
    )
    while not files.checkpoints_in(tmp_path / "saved"):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "; resume at step " in said
    assert "--resume_from=latest" in said
