"""``isoscale selftest`` finishes its steps, goes on after an interruption, and packs no secrets."""

import json
import signal
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from isoscale.common.disk.bundle import write_bundle
from tests.conftest import ROOT, interrupted

MAIN = "isoscale.common.commands.main"
FLAGS = ("selftest", "--frameworks=torch", "--out_dir=st")
CPU = (*FLAGS, "--platform=cpu", "--models=mlp_digits", "--steps=5", "--devices=1")


def packed(folder: Path) -> dict[str, str]:
    """Returns name -> text of the files in the bundle."""
    with tarfile.open(folder / "st/isoscale-selftest.tar.gz") as archive:
        assert {(member.uname, member.uid) for member in archive} == {("", 0)}
        names = archive.getnames()
        return {name: archive.extractfile(name).read().decode() for name in names}  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_selftest_on_cpus_goes_on_after_an_interruption(
    run_program: Callable, tmp_path: Path
) -> None:
    work = tmp_path / "st/parity/.work"
    said = interrupted(*CPU, signal_number=signal.SIGINT, work=work, folder=tmp_path)
    assert "step 2 of 5: parity" in said
    answer = run_program(MAIN, *CPU, MY_API_TOKEN="hunter2secret")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "step 1 of 5: doctor: done before" in answer.stderr
    assert "Self-test: ok" in answer.stdout
    for model in ("gpt_tiny", "transformer_small"):
        kernel = "scaled_dot_product_attention (FLASH_ATTENTION)"
        assert f"\ntorch, {model}: attention {kernel}\n" in answer.stdout
    files = packed(tmp_path)
    assert {"st/doctor.json", "st/parity/parity.json", "st/selftest.json"} <= set(files)
    for name, dtype in (("parity", "float32"), ("bfloat16", "bfloat16")):
        judged = json.loads(files[f"st/{name}/parity.json"])["runs"]
        assert {run["dtype"] for run in judged} == {dtype}
        assert {"transformer_encoder", "transformer_causal"} <= {run["case"] for run in judged}
    assert any(name.endswith("run_0/result.json") for name in files)
    text = "".join(files.values())
    for private in (str(tmp_path), str(ROOT), str(Path.home()), socket.gethostname(), "hunter2"):
        assert private not in text
    again = run_program(MAIN, *CPU)
    assert again.returncode == 0
    assert again.stderr.count("done before") == 5
    other = run_program(MAIN, *CPU, "--steps=6")
    assert other.returncode == 2
    assert "holds a self-test with other flags" in other.stderr


@pytest.mark.slow
def test_a_failed_step_is_in_the_file_and_the_next_steps_run(
    run_program: Callable, tmp_path: Path
) -> None:
    answer = run_program(MAIN, *FLAGS, CUDA_VISIBLE_DEVICES="")
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert "Self-test: failed: parity, bfloat16, kernels, scaling" in answer.stdout
    steps = json.loads(packed(tmp_path)["st/selftest.json"])["steps"]
    assert steps["doctor"]["code"] == 0
    for name in ("parity", "bfloat16", "kernels", "scaling"):
        assert steps[name]["code"] == 2
        assert "devices=1 on platform=gpu: " in steps[name]["error"]


def test_a_folder_with_other_files_is_refused(run_program: Callable, tmp_path: Path) -> None:
    (tmp_path / "st").mkdir()
    (tmp_path / "st/mine.txt").write_text("x")
    answer = run_program(MAIN, *FLAGS)
    assert answer.returncode == 2
    assert "--out_dir=st holds files, but no selftest.json" in answer.stderr
    assert [path.name for path in (tmp_path / "st").iterdir()] == ["mine.txt"]


def test_a_bundle_has_no_hidden_linked_or_large_files(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    (folder / ".cache").mkdir(parents=True)
    for name in ("a.json", "b.png", ".secret.txt", ".cache/c.json"):
        (folder / name).write_text("me")
    (folder / "link.txt").symlink_to("/etc/passwd")
    (folder / "large.txt").write_bytes(b"x" * (2**24 + 1))
    names = write_bundle(tmp_path / "r.tar.gz", folder, clean=lambda text: text.replace("me", "x"))
    assert names == ["r/a.json"]
    with tarfile.open(tmp_path / "r.tar.gz") as archive:
        assert archive.extractfile("r/a.json").read() == b"x"  # type: ignore[union-attr]
