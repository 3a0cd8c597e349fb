"""Tests ``isoscale parity`` as a program: differences, failed runs, interruption, bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from isoscale.common.processes.lock import locked
from tests.commands.test_bad_input import check
from tests.common.report.page import Page
from tests.conftest import ROOT, copy_of_the_code, interrupted

pytestmark = pytest.mark.slow

MAIN = "isoscale.common.commands.main"
TORCH = ("--models=mlp_plain", "--frameworks=torch", "--strategies=bare", "--devices=1",
         "--nopieces", "--dtype=float64", "--steps=3")  # fmt: skip


@pytest.fixture
def code(tmp_path: Path) -> Path:
    return copy_of_the_code(tmp_path / "code")


def change(code: Path, path: str, old: str, new: str) -> None:
    text = (code / path).read_text()
    assert text.count(old) == 1
    (code / path).write_text(text.replace(old, new))


def test_equal_computations_exit_with_0(run_program, tmp_path: Path) -> None:
    answer = run_program(MAIN, "parity", *TORCH)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    last = answer.stdout.splitlines()[-1]
    assert last == "All 3 pairs of 1 run are within their bounds at the inputs visited."
    folder = tmp_path / "runs/out/parity"
    written = {".lock", ".work", "parity.html", "parity.json"}
    assert {path.name for path in folder.iterdir()} == written
    assert not (folder / ".work/outputs").exists(), "gigabytes of records were not deleted"
    document = json.loads((folder / "parity.json").read_text())
    assert document["bounds"]["float64"]["loss"] == 1e-12
    with locked(folder, called="it"):
        other = run_program(MAIN, "parity", *TORCH)
    assert (other.returncode, other.stdout) == (3, "")
    said = f"isoscale: --out_dir=runs/out/parity is in use by process {os.getpid()} since "
    assert other.stderr.startswith(said)
    again = run_program(MAIN, "parity", *TORCH)  # replaces the earlier result
    assert again.returncode == 0


def test_a_difference_exits_with_1_and_names_step_and_tensor(
    run_program, code: Path, tmp_path: Path
) -> None:
    rate = "lr=config.learning_rate{},\n            betas"
    path = "frameworks/torch_runner/optimizer.py"
    change(code, path, rate.format(""), rate.format(" * 1.001"))
    answer = run_program(MAIN, "parity", *TORCH, "--steps=5", code=code)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    (line,) = [x for x in answer.stdout.splitlines() if x.startswith("OUT OF BOUNDS")]
    assert "First: mlp_plain float64, torch - NumPy" in line
    assert "update of parameters of dense_0/kernel at step 0: " in line
    page = (tmp_path / "runs/out/parity/parity.html").read_text()
    assert "dense_0/kernel at step 0" in page
    plots = sorted((tmp_path / "runs/out/parity/plots").glob("*.*"))
    assert [p.suffix for p in plots if p.stem == "mlp_plain_float64"] == [".pdf", ".png", ".svg"]
    assert '<a href="plots/mlp_plain_float64.pdf">PDF</a>' in page
    assert page.count("<svg") == 1  # mlp_plain in float64
    assert Page(page).loads == []
    assert "href=http" not in page


def test_a_failed_run_exits_with_1_and_the_other_runs_continue(run_program, code: Path) -> None:
    change(code, "frameworks/torch_runner/optimizer.py", 'if config.name == "adamw":',
           'if config.name == "adamw" and config.schedule != "constant":\n'
           '        raise RuntimeError("out of luck")\n'
           '    if config.name == "adamw":')  # fmt: skip
    flags = (
        "--models=mlp_plain,mlp_plain/adamw_linear_clipped,mlp_plain/sgd_unclipped",
        *TORCH[1:4],
        *TORCH[5:],
    )
    answer = run_program(MAIN, "parity", *flags, "--nopieces", code=code)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    line = next(x for x in answer.stdout.splitlines() if x.startswith("FAILED"))
    assert "mlp_plain/adamw_linear_clipped torch bare devices=1 float64" in line
    assert (answer.stdout + answer.stderr).count("RuntimeError: out of luck") == 1
    assert "RuntimeError: out of luck" in line
    (early,) = [x for x in answer.stderr.splitlines() if x.startswith("failed: ")]
    log = "runs/out/parity/.work/torch-1-single-0/log.txt"
    assert early == (
        f"failed: mlp_plain/adamw_linear_clipped torch bare devices=1 float64 (log: {log})"
    )
    assert answer.stdout.splitlines()[-1] == "FAILED: 1 of 3 runs."
    assert "within" not in answer.stdout


def test_other_frameworks_do_not_wait_for_a_failed_framework(run_program, code: Path) -> None:
    change(code, "models/mlp/torch_model.py", "x_BF = inputs_BF.to(self.dtype)", "1 / 0")
    flags = ("--frameworks=torch,jax", TORCH[0], *TORCH[2:])
    answer = run_program(MAIN, "parity", *flags, code=code)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert "NOT COMPARED; torch bare failed" in answer.stdout
    assert "jax - NumPy" in answer.stdout
    failed, count = answer.stdout.splitlines()[-2:]
    assert failed.startswith("FAILED: mlp_plain torch bare devices=1 float64: ")
    assert "ZeroDivisionError" in failed
    assert count == "FAILED: 1 of 2 runs; 1 pair was not compared."
    assert "within" not in answer.stdout


def test_the_tensor_without_a_gradient_is_named_in_every_framework(run_program, code: Path) -> None:
    """The bias of the last layer is not used; JAX gives zeros for it, the others nothing."""
    change(code, "models/mlp/torch_model.py", "return last(x_BF)", "return x_BF @ last.weight.T")
    change(code, "models/mlp/tf_model.py", "return self.dense[-1](x_BF)",
           "return tf.matmul(x_BF, self.dense[-1].kernel)")  # fmt: skip
    change(code, "models/mlp/flax_model.py", "return self.dense[-1](x_BF)",
           "return x_BF @ self.dense[-1].kernel[...]")  # fmt: skip
    flags = (TORCH[0], *TORCH[2:])
    answer = run_program(MAIN, "parity", *flags, code=code)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    outside, torch, tensorflow, count = answer.stdout.splitlines()[-4:]
    assert outside.startswith("OUT OF BOUNDS: ")
    assert "jax, by itself" in outside
    assert "no gradient of dense_2/bias at step 2" in outside
    for name, line in (("torch", torch), ("tensorflow", tensorflow)):
        said = "ValueError: the loss has no gradient for dense_2/bias: the model does not use it"
        assert line.startswith(f"FAILED: mlp_plain {name} bare devices=1 float64: ")
        assert said in line
    assert count.startswith("FAILED: 2 of 3 runs; ")
    assert "within" not in answer.stdout


def test_a_framework_that_is_not_installed_is_skipped(run_program, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "empty"], check=True)
    flags = ("--frameworks=torch,jax", TORCH[0], *TORCH[2:])
    python = f"--python_jax={tmp_path / 'empty/bin/python'}"
    answer = run_program(MAIN, "parity", *flags, python)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert f"empty/bin/python -m pip install '{ROOT}[jax]'" in answer.stderr
    assert "python -m pip install 'isoscale[jax]'" in answer.stdout  # as in the document
    assert "torch - NumPy" in answer.stdout


def test_ctrl_c_ends_all_processes_and_resume_continues(
    run_program, code: Path, tmp_path: Path
) -> None:
    flags = ("--frameworks=torch", "--models=mlp_plain,moe_plain", *TORCH[2:])

    def probes() -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            line = " ".join(process.info["cmdline"] or [])
            ours = "isoscale.common.parity.probe" in line and str(tmp_path) in line
            if ours and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found

    work = tmp_path / "runs/out/parity/.work"
    output = interrupted(
        "parity", *flags, signal_number=signal.SIGINT, work=work, folder=tmp_path, code=code
    )
    assert "1 of 2 runs are kept" in output
    # A probe that was starting during the signal notices the dead command and exits.
    end = time.time() + 20
    while probes():
        assert time.time() < end, "a probe outlived the command"
        time.sleep(0.05)
    spec = code / "models/mlp/spec.py"
    unchanged = spec.read_text()
    for more, text, message in (
        ([], unchanged + "# changed", "the code has changed since --out_dir=runs/out/parity was"),
        (["--steps=4"], unchanged, "was interrupted with other jobs or interpreters"),
        (["--out_dir=other"], unchanged, "--out_dir=other contains no interrupted session"),
    ):
        spec.write_text(text)
        answer = run_program(MAIN, "parity", *flags, "--resume", *more, code=code)
        assert (answer.returncode, answer.stdout) == (2, ""), message
        assert message in answer.stderr
        assert len(answer.stderr.splitlines()) == 1
    answer = run_program(MAIN, "parity", *flags, "--resume", code=code)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "2 runs (1 kept from an earlier session) in" in answer.stdout
    assert not (work / "outputs").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--models=moe_paded"], "unknown model 'moe_paded': did you mean 'moe_padded', "),
        (["--frameworks=pytorch"], "unknown framework 'pytorch': did you mean 'torch'?"),
        (["--strategies=dpd"], "unknown strategy 'dpd': did you mean 'ddp'?"),
        (["--dtype=float16"], "unknown dtype 'float16'"),
        (["--tuning=ladder"], "unknown tuning 'ladder'"),
        (["--tweaks=+huge-page"], "did you mean 'huge-pages'?"),
        (["--devices=0"], "--devices=0: must be a whole number, 1 to 256"),
        (["--steps=x"], "--steps=x: must be a whole number, 1 to 100000"),
        (["--stepz=3"], "did you mean '--steps', "),
        (["--platform=gpu", "--devices=99"], "this machine shows"),
        (["--out_dir=/proc/nope"], "/proc/nope"),
        (["--python_jax=/no/python"], "--python_jax=/no/python is not a Python"),
        (["mlp_plain"], "'mlp_plain' is not a flag"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_input(arguments: list[str], message: str, run_program, tmp_path: Path) -> None:
    check(run_program(MAIN, "parity", *arguments), message, tmp_path)


def test_help(run_program, tmp_path: Path) -> None:
    answer = run_program(MAIN, "parity", "--help")
    assert answer.returncode == 0
    for text in ("--models", "moe_padded", "mlp_plain/dropout", "Exit code", "pjit"):
        assert text in answer.stdout
    assert not list(tmp_path.iterdir())


def test_the_batch_is_rounded_up_to_a_multiple_of_the_devices(run_program) -> None:
    flags = ("--models=mlp_plain", "--frameworks=torch", "--devices=3", "--nopieces",
             "--dtype=float64", "--steps=3")  # fmt: skip
    answer = run_program(MAIN, "parity", *flags)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "torch, N devices - bare" in answer.stdout
