"""Tests ``isoscale doctor`` in fresh processes, as users run it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from isoscale.common.machine.cores import available_cores
from isoscale.common.program.examine import FACTS
from isoscale.common.registry import lookup
from tests.conftest import ROOT, copy_of_the_code

pytestmark = pytest.mark.slow

MAIN = "isoscale.common.commands.main"


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        # -P, as in the installed command: the working folder is not on the import path.
        [sys.executable, "-P", "-m", MAIN, "doctor", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess:
    """Runs one full examination for all tests that only read its output."""
    folder = tmp_path_factory.mktemp("doctor")
    # Processes started in this folder must not import this file as a package.
    (folder / "common.py").write_text("1 / 0")
    found = run(folder, "--json", "--sgemm_size=256", MY_SECRET="secret", NVIDIA_TF32_OVERRIDE="0")
    assert found.returncode == 0, found.stdout + found.stderr
    assert {path.name for path in folder.iterdir()} == {"common.py"}
    return found


@pytest.fixture(scope="module")
def facts(answer: subprocess.CompletedProcess) -> dict[str, Any]:
    return json.loads(answer.stdout)


def test_json_output_is_only_json_without_secrets(answer) -> None:
    assert answer.stdout.startswith("{")
    assert answer.stderr == ""
    assert "secret" not in answer.stdout


def test_the_json_describes_the_machine(facts) -> None:
    assert facts["machine"]["available_cores"] == available_cores()
    assert facts["settings"]["memory"]["total_bytes"] > 2**28
    assert facts["activity"]["busy_cpus"] >= 0
    assert facts["environment"]["NVIDIA_TF32_OVERRIDE"] == "0"
    assert facts["tested_versions"]["jax"]


@pytest.mark.parametrize("name", lookup.frameworks())
def test_every_framework_is_examined(facts, name: str) -> None:
    entry = facts["frameworks"][name]
    assert entry["status"] == "ok"
    assert entry["versions"][name][0].isdecimal()
    assert entry["versions"]["numpy"]
    assert entry["interpreter"]["executable"] == sys.executable
    assert set(FACTS) <= set(entry)
    assert entry["devices"]
    if hasattr(os, "sched_setaffinity"):
        assert entry["pinned_cores"] == available_cores()[:1]
    product = entry["matrix_product"]
    assert product["size"] == 256
    assert product["best_flops_per_second"] >= product["median_flops_per_second"] > 1e8
    assert product["n"] >= 3
    assert 0 < product["core_share"] < 1.5
    assert entry["environment_set"] is not None


def test_frameworks_name_their_matrix_library(facts) -> None:
    libraries = {n: facts["frameworks"][n]["matrix_library"] for n in ("jax", "tensorflow")}
    assert "unknown" not in libraries.values(), libraries
    torch = facts["frameworks"]["torch"]
    assert torch["threads"] == 1
    assert torch["instruction_set"]["ATen"]
    if torch["matrix_library"] == "MKL":
        intel = facts["machine"]["cpu_vendor"] == "GenuineIntel"
        assert torch["mkl_takes_for_intel"] is intel


def test_the_environment_problem_names_the_variable(facts) -> None:
    (entry,) = (p for p in facts["problems"] if p["id"] == "environment")
    assert "NVIDIA_TF32_OVERRIDE='0'" in entry["evidence"]
    for problem in facts["problems"]:
        assert set(problem) == {"id", "severity", "evidence", "meaning", "remedy"}


def test_the_printed_page_contains_the_facts_of_the_json(facts, tmp_path: Path) -> None:
    from isoscale.common.report.diagnosis import lines

    page = "\n".join(lines(facts))
    assert max(map(len, page.splitlines())) < 200
    for text in ("physical cores", "GFLOP/s best", "interpreter", "remedy", "measured", "governor"):
        assert text in page
    for problem in facts["problems"]:
        assert f"{problem['severity'].upper()}: {problem['id']}" in page
    for entry in facts["frameworks"].values():
        for version in entry["versions"].values():
            assert version in page


@pytest.fixture(scope="module")
def empty_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("empty")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin" / "python"


def test_a_framework_that_is_not_installed_is_reported_as_missing(
    empty_python: Path, tmp_path: Path
) -> None:
    answer = run(tmp_path, "--frameworks=jax", f"--python_jax={empty_python}")
    assert answer.returncode == 0, answer.stderr
    page = " ".join(answer.stdout.split())
    command = f"{empty_python} -m pip install '{ROOT}[jax]'"
    assert page.count(command) == 2  # in the problem and in its remedy
    assert "MISSING" in answer.stdout
    assert "physical cores" in answer.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("has_isoscale", [False, True])
def test_an_interpreter_without_isoscale_or_its_packages_is_reported(
    has_isoscale: bool, empty_python: Path, grown_code: Path, tmp_path: Path
) -> None:
    """The interpreter has empty framework modules; isoscale, or a package it needs, is missing."""
    site = next(empty_python.parents[1].glob("lib/python*/site-packages"))
    for name in ("jax", "flax", "optax"):
        (site / f"{name}.py").write_text("")
    try:
        path = str(grown_code.parent) if has_isoscale else ""
        answer = run(
            tmp_path, "--frameworks=jax", f"--python_jax={empty_python}", "--json", PYTHONPATH=path
        )
    finally:
        for name in ("jax", "flax", "optax"):
            (site / f"{name}.py").unlink()
    entry = json.loads(answer.stdout)["frameworks"]["jax"]
    if not has_isoscale:
        assert answer.returncode == 0
        assert entry["status"] == "missing"
        assert f"isoscale is not installed in {empty_python}" in entry["error"]
        assert entry["install"].startswith(f"{empty_python} -m pip install ")
        return
    assert answer.returncode == 1
    assert entry["status"] == "failed"
    assert "ModuleNotFoundError: No module named 'absl'" in entry["error"]
    assert entry["install"] == f"{empty_python} -m pip install . (in isoscale's folder)"


def test_a_gpu_that_a_framework_does_not_see_is_a_problem(tmp_path: Path) -> None:
    """The driver shows a GPU, but the framework does not see it."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\ncase $1 in --query*) echo 'A GPU, 80000 MiB, 580.1';; esac\n")
    program.chmod(0o755)
    folder = tmp_path / "empty"
    folder.mkdir()
    answer = run(
        folder,
        "--frameworks=torch",
        "--json",
        "--sgemm_size=256",
        PATH=f"{tmp_path}:{os.environ['PATH']}",
        CUDA_VISIBLE_DEVICES="",
    )
    assert answer.returncode == 0, answer.stderr
    facts = json.loads(answer.stdout)
    assert facts["frameworks"]["torch"]["gpu"]["devices"] == []
    assert facts["frameworks"]["torch"]["gpu"]["matrix_product"] == "unknown"
    (entry,) = (p for p in facts["problems"] if p["id"] == "gpu_not_seen")
    assert "torch" in entry["evidence"]
    assert "CUDA_VISIBLE_DEVICES='' is set" in entry["evidence"]


NEW_FRAMEWORK = """
from isoscale.common.config.framework_info import FrameworkInfo

INFO = FrameworkInfo(
    name="{name}", packages=("{package}",), install="pip install {package}",
    default_strategy="bare", compile_modes=("eager",), platforms=("cpu",), model_module="none",
)

def environment(config):
    return {{"MARK": str(config.devices)}}
"""
FAILING = {
    "raises": "1 / 0",
    "aborts": "import os\nos.abort()",
    "hangs": "import time\ntime.sleep(600)",
}


@pytest.fixture(scope="module")
def grown_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a copy of the code with more frameworks: one lacks ``examine``, the others fail."""
    folder = copy_of_the_code(tmp_path_factory.mktemp("grown"))
    for name in ("plain", *FAILING):
        package = folder / "frameworks" / f"{name}_runner"
        package.mkdir()
        text = NEW_FRAMEWORK.format(name=name, package="json")
        (package / "__init__.py").write_text(text)
        if name in FAILING:
            (package / "examine.py").write_text(FAILING[name])
    return folder


def test_a_new_framework_needs_no_file_for_doctor(grown_code: Path, tmp_path: Path) -> None:
    answer = run(tmp_path, "--frameworks=plain", "--json", PYTHONPATH=str(grown_code.parent))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    entry = json.loads(answer.stdout)["frameworks"]["plain"]
    assert entry["status"] == "ok"
    assert {entry[name] for name in FACTS} == {"unknown"}
    assert entry["matrix_product"] == "unknown"
    assert entry["environment_set"] == {"MARK": "1"}
    page = run(tmp_path, "plain", PYTHONPATH=str(grown_code.parent))
    assert page.returncode == 0, page.stderr
    assert "unknown" in page.stdout
    assert "torch" not in page.stdout


def test_failing_frameworks_do_not_stop_the_examination_of_other_frameworks(
    grown_code: Path, tmp_path: Path
) -> None:
    names = ",".join([*FAILING, "plain"])
    answer = run(
        tmp_path,
        f"--frameworks={names}",
        "--watchdog_seconds=5",
        "--json",
        PYTHONPATH=str(grown_code.parent),
    )
    assert answer.returncode == 1
    found = json.loads(answer.stdout)["frameworks"]
    assert {name: entry["status"] for name, entry in found.items()} == {
        **dict.fromkeys(FAILING, "failed"),
        "plain": "ok",
    }
    assert found["raises"]["error"] == "ZeroDivisionError: division by zero"
    assert "SIGABRT" in found["aborts"]["error"]
    assert "no progress for 5 s in 'importing hangs'" in found["hangs"]["error"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--frameworks=pytorch"], "unknown framework 'pytorch': did you mean 'torch'?"),
        (["--jsn"], "unknown flag '--jsn': did you mean '--json', "),
        (["--sgemm_size=1"], "--sgemm_size=1: must be a whole number, 256 to 4096"),
        (["--sgemm_size=big"], "--sgemm_size=big: must be a whole number"),
        (["--python_jax=/no/python"], "--python_jax=/no/python is not a Python"),
        (["--out_dir=" + "x" * 300], "cannot be used: File name too long"),
        (["jacks"], "unknown framework 'jacks': did you mean 'jax'?"),
        (["jax", "--frameworks=torch"], "name frameworks once"),
    ],
)
def test_bad_input(arguments: list[str], message: str, tmp_path: Path) -> None:
    answer = run(tmp_path, *arguments)
    assert answer.returncode == 2, answer.stdout + answer.stderr
    assert message in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
    assert answer.stdout == ""
    assert not list(tmp_path.iterdir())


def test_help_exits_with_0(tmp_path: Path) -> None:
    answer = run(tmp_path, "--help")
    assert answer.returncode == 0
    for text in ("--json", "--sgemm_size", "--python_torch", "default:"):
        assert text in answer.stdout


def examinations(doctor: subprocess.Popen) -> list[psutil.Process]:
    """Returns the processes that a doctor has started to examine a framework."""
    children = psutil.Process(doctor.pid).children(recursive=True)
    found = []
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):  # the process has ended meanwhile
            if "--framework=hangs" in child.cmdline():
                found.append(child)
    return found


@pytest.mark.parametrize(
    "signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL]
)
def test_examination_processes_end_when_the_doctor_ends(
    signal_number: int, grown_code: Path, tmp_path: Path
) -> None:
    doctor = subprocess.Popen(
        [sys.executable, "-P", "-m", MAIN, "doctor", "--frameworks=hangs"],
        cwd=tmp_path,
        # After kill -9 the doctor's temporary folder remains: create the folder in tmp_path.
        env={**os.environ, "PYTHONPATH": str(grown_code.parent), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.time() + 60
    while not (started := examinations(doctor)):
        assert time.time() < end, "doctor started no examination"
        time.sleep(0.05)
    doctor.send_signal(signal_number)
    output, errors = doctor.communicate(timeout=30)
    _, alive = psutil.wait_procs(started, timeout=10)
    for process in alive:
        process.kill()
    assert not alive
    if signal_number == signal.SIGKILL:
        assert doctor.returncode == -signal.SIGKILL
    else:
        assert doctor.returncode == 128 + signal_number
        name = signal.Signals(signal_number).name
        assert (output, errors) == ("", f"isoscale: interrupted by {name}\n")
