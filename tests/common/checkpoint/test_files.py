"""Undamaged checkpoints: reading returns the saved arrays; only an equal training may resume."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from isoscale.common.checkpoint import files
from isoscale.common.checkpoint.files import State
from isoscale.common.checkpoint.manifest import check_agrees
from isoscale.common.config.errors import ConfigError, FolderError
from isoscale.common.config.optimizer_config import OptimizerConfig
from isoscale.models.mlp.spec import MlpSpec
from tests.common.checkpoint import small
from tests.conftest import ROOT


def equal(one: State, other: State) -> bool:
    ours, theirs = one.tensors(), other.tensors()
    return set(ours) == set(theirs) and all(np.array_equal(ours[n], theirs[n]) for n in ours)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_saved_checkpoint_is_read_back_unchanged(
    dtype: str, optimizer: str, tmp_path: Path
) -> None:
    state = small.state(7, dtype=dtype, optimizer=optimizer)
    config = OptimizerConfig(name=optimizer)
    training = small.training(dtype=dtype, optimizer=config)
    path = files.save(tmp_path, state, **small.about(7, dtype=dtype, optimizer=config))
    manifest = files.read_manifest(path)
    assert (manifest.step, manifest.next_batch, manifest.seed) == (7, 3, 0)
    check_agrees(manifest, training, small.SPEC, batches=lambda: small.BATCHES, called="it")
    back = files.read_state(path, manifest)
    assert equal(back, state)
    assert {value.dtype for value in back.tensors().values()} == {np.dtype(dtype)}


def test_arrays_with_other_strides_are_saved_correctly(tmp_path: Path) -> None:
    """safetensors 0.8 writes the memory of an array and ignores its strides."""
    plain = small.state(1)
    strided = State(
        parameters={n: np.asfortranarray(v) for n, v in plain.parameters.items()},
        slots={s: {n: np.flip(np.flip(v).copy()) for n, v in a.items()}
               for s, a in plain.slots.items()},
    )  # fmt: skip
    assert any(not v.flags.c_contiguous for v in strided.tensors().values())
    path = files.save(tmp_path, strided, **small.about(1))
    assert equal(files.read_state(path, files.read_manifest(path)), plain)


def test_two_generations_are_kept(tmp_path: Path) -> None:
    for step in (5, 999_999_999, 1_000_000_000):
        small.save(tmp_path, step)
    kept = {"step_999999999", "step_1000000000"}
    assert {path.name for path in tmp_path.iterdir()} == kept
    assert [step for step, _ in files.checkpoints_in(tmp_path)] == [999_999_999, 1_000_000_000]
    with pytest.raises(FolderError, match="step_1000000000' already exists"):
        small.save(tmp_path, 7)
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_a_failed_save_leaves_no_files(tmp_path: Path, monkeypatch) -> None:
    small.save(tmp_path, 5)

    def full(*_: object) -> None:
        raise files.safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(files.safetensors.numpy, "save_file", full)
    with pytest.raises(FolderError, match=r"step_000000010: no space left on device$"):
        small.save(tmp_path, 10)
    assert {path.name for path in tmp_path.iterdir()} == {"step_000000005"}


def test_files_are_synced_before_a_checkpoint_is_renamed(tmp_path: Path, monkeypatch) -> None:
    """Otherwise a power cut could keep a checkpoint's name and lose its content."""
    seen: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def note_sync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        seen.append("folder" if path.is_dir() and path == tmp_path else path.name.split(".")[0])
        if path.parent == tmp_path and path.is_dir():
            seen[-1] = "checkpoint"
        fsync(descriptor)

    def note_rename(path: Path, target: Path) -> Path:
        seen.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "rename", note_rename)
    small.save(tmp_path, 5)
    assert sorted(seen[:3]) == ["", "checkpoint", "tensors"]
    assert seen.index("checkpoint") == 2, "the folder must be synced after its files"
    assert seen[3:] == ["rename", "folder"]


def test_resume_from_finds_latest_a_folder_or_a_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    assert files.find("latest", folder=folder) is None
    first, second = small.save(folder, 5), small.save(folder, 10)
    assert files.find("latest", folder=folder) == second
    assert files.find(str(folder)) == second
    assert files.find(str(first)) == first
    (folder / ".writing.left").mkdir()
    (folder / "step_of_another_kind").mkdir()
    assert files.find("latest", folder=folder) == second


def test_resume_from_refuses_paths_without_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"\x80\x04")
    for text, message in (
        ("latest", "latest takes the newest checkpoint in --save_checkpoint; also use"),
        (str(tmp_path / "none"), "does not exist"),
        (str(tmp_path / "model.pt"), "is a file; a checkpoint is a folder"),
        ("a\0b", "does not exist"),
        ("x" * 5000, "cannot read"),
    ):
        with pytest.raises(ConfigError, match=message):
            files.find(text)


OTHERS = {
    "another model": ({"spec": MlpSpec(input_size=5, hidden_sizes=(4,), num_classes=2)},
                      r"fit model 'mlp': parameters/dense_0/kernel: "
                      r"found \[3, 4\], expected \[5, 4\]"),
    "more layers": ({"spec": MlpSpec(input_size=3, hidden_sizes=(4, 4), num_classes=2)},
                    r"parameters/dense_1/kernel: found \[4, 2\], expected \[4, 4\]"),
    "another optimizer": ({"optimizer": OptimizerConfig(name="sgd")},
                          "was trained with optimizer=adamw; this run has sgd"),
    "the same tensors, another model": (
        {"spec": MlpSpec(input_size=3, hidden_sizes=(4,), num_classes=2, dropout_rate=0.5)},
        r"trained with dropout_rate=0.0; this run has 0.5"),
    "another dtype": ({"dtype": "float64"}, "trained with dtype=float32; this run has float64"),
    "another seed": ({"seed": 1}, "trained with seed=0; this run has 1"),
    "another rate": ({"optimizer": OptimizerConfig(learning_rate=0.5)},
                     "trained with learning_rate=0.001; this run has 0.5"),
    "other batches": ({"global_batch_size": 16}, "global_batch_size=8; this run has 16"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_a_checkpoint_of_another_training_is_refused(name: str, tmp_path: Path) -> None:
    changes, message = OTHERS[name]
    manifest = files.read_manifest(small.save(tmp_path, 5))
    run = small.config(**changes)
    with pytest.raises(ConfigError, match=message):
        check_agrees(
            manifest,
            small.training(**changes),
            run.spec,
            batches=lambda: pytest.fail("batches are slow to make: compare them last"),
            called="'it'",
        )


def test_a_checkpoint_fits_any_framework_strategy_and_number_of_devices(tmp_path: Path) -> None:
    manifest = files.read_manifest(small.save(tmp_path, 5))
    changes = {"framework": "jax", "strategy": "pjit", "devices": 4, "steps": 99}
    check_agrees(
        manifest,
        small.training(**changes),
        small.SPEC,
        batches=lambda: small.BATCHES,
        called="it",
    )


SAVING = """
import sys
from pathlib import Path
from isoscale.models.mlp.spec import MlpSpec
from tests.common.checkpoint import small

# Large enough that saving takes most of the time.
small.SPEC = MlpSpec(input_size=300, hidden_sizes=(400,), num_classes=200)
small.state.__kwdefaults__["spec"] = small.SPEC
folder, step = Path(sys.argv[1]), int(sys.argv[2])
while True:
    small.save(folder, step)
    print(step, flush=True)
    step += 1
"""


@pytest.mark.slow
def test_every_checkpoint_is_complete_after_20_kills_during_saves(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    random = np.random.default_rng(0)
    step = halves = 0
    for _ in range(20):
        command = [sys.executable, "-c", SAVING, str(folder), str(step)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()  # the process has started to save
        time.sleep(random.uniform(0, 0.1))
        process.kill()
        said = process.communicate()[0].split()
        halves += bool(list(folder.glob(".writing.*")))
        kept = files.checkpoints_in(folder)
        assert 1 <= len(kept) <= files.KEPT + 1  # killed after a save, before removing old ones
        for number, path in kept:
            manifest = files.read_manifest(path)
            assert manifest.step == number
            files.read_state(path, manifest)
        assert kept[-1][0] >= int(said[-1] if said else step), "a complete checkpoint was lost"
        step = kept[-1][0] + 1
    assert halves > 0, "no kill came during a save"
