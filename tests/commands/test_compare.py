"""Tests whole studies in fresh processes, as users run them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import copy_of_the_code

pytestmark = pytest.mark.slow

MAIN = "isoscale.common.commands.main"
SMALL = ("--models=mlp_digits", "--steps=20", "--study=s", "--noreport", "--nobase_cases")
TORCH = (*SMALL, "--frameworks=torch", "--strategies=bare", "--devices=1")

REQUIRED = {
    "cell", "run", "seed", "status", "error", "step_seconds", "latency_seconds",
    "examples_per_second", "tokens_per_second", "compile_seconds", "loss_first", "loss_last",
    "eval", "parameters", "flops_per_step", "peak_memory_bytes", "versions", "run_dir",
}  # fmt: skip
CELL = {
    "model", "overrides", "framework", "strategy", "devices", "processes", "global_batch_size",
    "dtype", "tuning", "dataset", "platform",
}  # fmt: skip
RUN_DIR = {
    "config.json", "machine.json", "environment.json", "versions.json", "steps.jsonl",
    "windows.jsonl", "result.json", "log.txt",
}  # fmt: skip


def results(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "runs/out/s/results.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.two_cores
def test_a_study_is_measured_resumed_and_extended(run_program, tmp_path: Path) -> None:
    answer = run_program(MAIN, "compare", *SMALL, "--devices=1,2", "--runs=1")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    lines = results(tmp_path)
    assert len(lines) == 11  # 3 bare, 4 strategies at 1 and 2 devices
    assert {line["status"] for line in lines} == {"ok"}
    first = [line["loss_first"] for line in lines]
    assert max(first) == pytest.approx(min(first), rel=1e-5)
    for line in lines:
        assert set(line) >= REQUIRED
        assert set(line["cell"]) >= CELL
        assert set(line["step_seconds"]) == {"median", "mean", "p10", "p90", "n"}
        processes = 2 if (line["cell"]["strategy"], line["cell"]["devices"]) == ("ddp", 2) else 1
        assert line["cell"]["processes"] == processes
        run_dir = tmp_path / "runs/out/s" / line["run_dir"]
        assert {path.name for path in run_dir.iterdir()} == RUN_DIR
        steps = [json.loads(text) for text in (run_dir / "steps.jsonl").read_text().splitlines()]
        assert [step["step"] for step in steps] == list(range(line["steps_trained"]))
        assert steps[0]["loss"] == line["loss_first"]
        pinned = json.loads((run_dir / "machine.json").read_text())["ranks"]
        cores = [core for rank in pinned for core in rank["pinned_cores"]]
        assert len(cores) == len(set(cores)) == line["cell"]["devices"]
    for text in ("ms/step", "speedup", "efficiency", "no verdict", "results.jsonl"):
        assert text in answer.stdout

    before = {line["run_dir"]: (tmp_path / "runs/out/s" / line["run_dir"] / "result.json").stat()
              for line in lines}  # fmt: skip
    # All planned runs are done; only the report remains.
    again = run_program(MAIN, "compare", "--study=s", "--resume", "--report")
    assert again.returncode == 0, again.stderr
    assert results(tmp_path) == lines
    written = {path.name for path in (tmp_path / "runs/out/s").iterdir()}
    assert written >= {"report.html", "report.md", "results.csv", "plots", "tensorboard"}
    *_, short, entry = again.stdout.partition("In short: the fastest; how certain; ")
    assert short
    assert entry.splitlines()[1].startswith("- mlp_digits, global batch ")
    assert entry.splitlines()[-1] == "Report: runs/out/s/report.html"

    grown = run_program(
        MAIN, "compare", "--study=s", "--resume", "--runs=2", "--frameworks=torch", "--devices=1"
    )
    assert grown.returncode == 0, grown.stderr
    assert results(tmp_path)[:11] == lines
    new = results(tmp_path)[11:]
    assert [(line["run"], line["seed"], line["cell"]["framework"]) for line in new] == [
        (1, 1, "torch")
    ] * 2
    for name, stat in before.items():
        path = tmp_path / "runs/out/s" / name / "result.json"
        assert path.stat().st_mtime_ns == stat.st_mtime_ns, "a successful run was repeated"

    # The narrow session left the cells of the first session in the study.
    dry = run_program(MAIN, "compare", "--study=s", "--resume", "--dry_run")
    assert "11 cells, 0 runs to do" in dry.stdout

    refused = run_program(MAIN, "compare", "--study=s", "--resume", "--steps=21")
    assert refused.returncode == 2
    assert "started with 20" in refused.stderr


def test_the_command_in_a_log_repeats_the_run(run_program, tmp_path: Path) -> None:
    run_program(MAIN, "compare", *TORCH, "--runs=1")
    (line,) = results(tmp_path)
    log = (tmp_path / "runs/out/s" / line["run_dir"] / "log.txt").read_text()
    command = log.splitlines()[0].removeprefix("$ ").split()
    assert command[1:3] == ["-P", "-m"]
    arguments = [a for a in command[4:] if not a.startswith("--run_dir")]
    answer = run_program(command[3], *arguments, "--run_dir=again")
    assert answer.returncode == 0, answer.stderr
    again = json.loads((tmp_path / "again/result.json").read_text())
    assert again["cell"] == line["cell"]
    assert (again["loss_first"], again["loss_last"]) == (line["loss_first"], line["loss_last"])


def test_a_time_budget_allows_at_least_one_round(run_program, tmp_path: Path) -> None:
    answer = run_program(MAIN, "compare", *TORCH, "--time_budget=1s")
    assert answer.returncode == 0, answer.stderr
    assert len(results(tmp_path)) == 1
    # Without flags, all runs are done; a new budget for four runs of that length adds rounds.
    assert run_program(MAIN, "compare", "--study=s", "--resume").returncode == 0
    assert len(results(tmp_path)) == 1
    budget = 1 + int(4 * results(tmp_path)[0]["wall_seconds"])
    again = run_program(MAIN, "compare", "--study=s", "--resume", f"--time_budget={budget}s")
    assert again.returncode == 0, again.stderr
    assert len(results(tmp_path)) > 1
    assert results(tmp_path)[0]["run"] == 0
    # New cells of a study that was planned by time get as many runs as its other cells.
    runs, more = len(results(tmp_path)), ("--global_batch_size=16", "--dry_run")
    planned = run_program(MAIN, "compare", "--study=s", "--resume", *more)
    assert f"1 cell, {runs} runs to do" in planned.stdout, planned.stderr


@pytest.mark.two_cores
def test_weak_scaling_grows_the_batch(run_program, tmp_path: Path) -> None:
    answer = run_program(
        MAIN, "compare", *SMALL, "--scaling=weak", "--frameworks=torch", "--devices=1,2",
        "--global_batch_size=8", "--runs=1",
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    cells = [line["cell"] for line in results(tmp_path)]
    batches = {(c["strategy"], c["devices"]): c["global_batch_size"] for c in cells}
    assert batches == {("bare", 1): 8, ("ddp", 1): 8, ("ddp", 2): 16}


def test_a_framework_that_is_not_installed_is_skipped(run_program, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "empty"], check=True)
    answer = run_program(
        MAIN, "compare", *SMALL, "--frameworks=jax,torch", "--strategies=bare", "--devices=1",
        "--runs=1", f"--python_jax={tmp_path / 'empty/bin/python'}",
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout + answer.stderr
    by_framework = {line["cell"]["framework"]: line for line in results(tmp_path)}
    assert {name: line["status"] for name, line in by_framework.items()} == {
        "jax": "skipped",
        "torch": "ok",
    }
    assert by_framework["jax"]["error"].endswith(": python -m pip install 'isoscale[jax]'")
    assert "python -m pip install 'isoscale[jax]'" in answer.stdout
    assert set(by_framework["jax"]) >= REQUIRED
    # The path of the interpreter is in no file, and --resume does not start it without being told.
    study = tmp_path / "runs/out/s"
    for path in [path for path in study.rglob("*") if path.is_file()]:
        assert b"empty/bin" not in path.read_bytes(), path
    for more in ((), ("--dry_run",)):
        refused = run_program(MAIN, "compare", "--study=s", "--resume", *more)
        assert refused.returncode == 2
        assert "was run with --python_jax; to resume it, add --python_jax=PATH" in refused.stderr
    # jax is installed now (in the named interpreter): only its run is executed.
    again = run_program(MAIN, "compare", "--study=s", "--resume", f"--python_jax={sys.executable}")
    assert again.returncode == 0, again.stdout + again.stderr
    after = {line["cell"]["framework"]: line for line in results(tmp_path)}
    assert after["jax"]["status"] == "ok"
    assert after["torch"] == by_framework["torch"]


BROKEN = """
import time
from isoscale.frameworks.torch_runner.strategies import bare

INFO = {{
    "summary": "fails",
    "process_model": "{process_model}",
    "max_devices": 2,
    "mesh_axes": ("data",),
}}

class Strategy(bare.Strategy):
    def __init__(self, config):
        super().__init__(config)
        {action}

make = Strategy
"""


@pytest.fixture(scope="module")
def broken_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a copy of the code with one strategy for each known kind of failure."""
    folder = copy_of_the_code(tmp_path_factory.mktemp("broken"))
    actions = {
        "crash": ("single", "raise RuntimeError('out of luck')"),
        "fail": ("single", "raise RuntimeError('out of luck')"),
        "abort": ("single", "import os; os.abort()"),
        "hang": ("single", "time.sleep(600)"),
        "linger": ("single", "self.close = lambda: time.sleep(600)"),
        "peer": (
            "per_device",
            "import os; rank = int(os.environ['RANK']); time.sleep(600 * (1 - rank)); 1 / 0",
        ),
    }
    for name, (process_model, action) in actions.items():
        path = folder / f"frameworks/torch_runner/strategies/{name}.py"
        path.write_text(BROKEN.format(process_model=process_model, action=action))
    return folder


def test_failing_runs_are_recorded_and_retried(
    run_program, broken_code: Path, tmp_path: Path
) -> None:
    answer = run_program(
        MAIN, "compare", "--models=mlp_digits", "--steps=20", "--study=s", "--frameworks=torch",
        "--strategies=crash,abort,hang,linger,peer,bare", "--devices=2", "--runs=1",
        "--watchdog_seconds=15", "--compile_timeout=15s", "--allow_oversubscription",
        "--nobase_cases",
        code=broken_code,
    )  # fmt: skip
    assert answer.returncode == 1, answer.stdout + answer.stderr
    lines = {line["cell"]["strategy"]: line for line in results(tmp_path)}
    statuses = {name: line["status"] for name, line in lines.items()}
    assert statuses == dict.fromkeys(("crash", "abort", "hang", "peer"), "failed") | {
        "bare": "ok",
        "linger": "ok",  # the result is complete; exit_warning describes the end of the process
    }
    assert "did not exit within" in lines["linger"]["exit_warning"]
    assert lines["bare"]["exit_warning"] is None
    assert all(set(line) >= REQUIRED for line in lines.values())
    assert lines["crash"]["error"] == "RuntimeError: out of luck"
    assert "was killed by SIGABRT in 'building the model'" in lines["abort"]["error"]
    assert "no progress for 15 s in 'building the model', at hang.py:" in lines["hang"]["error"]
    assert lines["peer"]["error"] == (
        "rank 1 failed in 'building the model': ZeroDivisionError: division by zero"
    )
    assert "--resume" in answer.stdout
    # The reasons stand below the table, each with the log of its run.
    below = answer.stdout.partition("Measured: ms/step;")[2]
    said = " ".join(below.split())
    for name in ("crash", "abort", "hang", "peer"):
        error, folder = lines[name]["error"], lines[name]["run_dir"]
        assert f": 1 run failed: {error} (log: runs/out/s/{folder}/log.txt)" in said

    # The strategy is repaired; --resume repeats failed runs only.
    mended = broken_code / "frameworks/torch_runner/strategies/crash.py"
    mended.write_text(mended.read_text().replace("raise RuntimeError('out of luck')", "pass"))
    again = run_program(
        MAIN, "compare", "--study=s", "--resume", "--strategies=crash,bare", code=broken_code
    )
    assert again.returncode == 1  # the study still has the other failed runs
    after = {line["cell"]["strategy"]: line for line in results(tmp_path)}
    assert after["crash"]["status"] == "ok"
    assert after["bare"] == lines["bare"]
    cell_folder = (tmp_path / "runs/out/s" / after["crash"]["run_dir"]).parent
    assert {path.name for path in cell_folder.iterdir()} == {"run_0", "run_0.attempt_1"}


def test_a_study_without_a_success_prints_the_reason_alone(
    run_program, broken_code: Path, tmp_path: Path
) -> None:
    answer = run_program(
        MAIN, "compare", *SMALL, "--frameworks=torch", "--strategies=fail", "--devices=1",
        "--runs=2", code=broken_code,
    )  # fmt: skip
    assert answer.returncode == 1, answer.stdout + answer.stderr
    log = f"runs/out/s/{results(tmp_path)[0]['run_dir']}/log.txt"
    assert (tmp_path / log).is_file()
    reason, places = answer.stdout.partition("Results: ")[::2]
    assert " ".join(reason.split()) == (
        "! torch fail on 1 device (mlp_digits, global batch 64, float32): 2 runs failed: "
        f"RuntimeError: out of luck (log: {log})"
    )
    assert [line.partition(":")[0] for line in places.splitlines()[1:]] == ["Continue with"]


def _start(tmp_path: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", MAIN, "compare", *SMALL),
            *("--strategies=bare,ddp", "--frameworks=torch", "--devices=2", "--runs=2"),
        ],
        cwd=tmp_path,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, "timed out"
        time.sleep(0.05)


def _workers(folder: Path) -> list[psutil.Process]:
    """Returns the living programs with a run directory below ``folder``."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = " ".join(process.info["cmdline"] or [])
        if f"--run_dir={folder}" in command and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


@pytest.mark.two_cores
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_study_keeps_finished_runs_and_can_be_resumed(
    signal_number: int, run_program, tmp_path: Path
) -> None:
    study = _start(tmp_path)
    path = tmp_path / "runs/out/s/results.jsonl"
    _wait_for(lambda: path.exists() and bool(_workers(tmp_path)))
    study.send_signal(signal_number)
    output, _ = study.communicate(timeout=30)
    _wait_for(lambda: not _workers(tmp_path), 20)
    kept = results(tmp_path)
    assert kept
    assert all(line["status"] == "ok" for line in kept)
    if signal_number == signal.SIGKILL:
        assert study.returncode == -signal.SIGKILL
    else:
        assert study.returncode == 130, output
        assert "isoscale compare --study=s --resume" in output
    answer = run_program(MAIN, "compare", "--study=s", "--resume")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    lines = results(tmp_path)
    assert lines[: len(kept)] == kept
    assert len(lines) == 4
    assert len({(json.dumps(line["cell"]), line["run"]) for line in lines}) == 4


def test_resume_adopts_a_finished_run_that_has_no_result_line(run_program, tmp_path: Path) -> None:
    run_program(MAIN, "compare", *TORCH, "--runs=2")
    path = tmp_path / "runs/out/s/results.jsonl"
    lines = results(tmp_path)
    path.write_text(path.read_text().splitlines(keepends=True)[0])  # killed before the second line
    answer = run_program(MAIN, "compare", "--study=s", "--resume")
    assert answer.returncode == 0, answer.stderr
    lines[1]["wall_seconds"] = None  # no command measured how long the process ran
    again = results(tmp_path)
    for line in (*lines, *again):
        del line["line_sha256"]
    assert again == lines


@pytest.mark.two_cores
def test_dry_run_shows_the_plan_and_writes_nothing(run_program, tmp_path: Path) -> None:
    answer = run_program(MAIN, "compare", "--dry_run", "--runs=2")
    assert answer.returncode == 0
    assert "cells, " in answer.stdout
    # Three models: bare, two strategies on 1 and 2 devices, and two base cases of each on 2.
    assert answer.stdout.count("jax") == 27
    named = run_program(MAIN, "compare", "--dry_run", "--runs=2", "--nobase_cases")
    assert named.stdout.count("jax") == 15
    assert "Estimated, not measured" in answer.stdout
    assert not list(tmp_path.iterdir())


def test_a_tuned_cell_that_is_the_stock_cell_is_run_once(run_program, tmp_path: Path) -> None:
    lanes = ("--tuning=stock,tuned", "--tweaks=none", "--runs=2")
    dry = run_program(MAIN, "compare", *TORCH, *lanes, "--dry_run")
    one = "1 tuned cell is the same configuration as stock (tuned adds no tweak): run once"
    assert one in " ".join(dry.stdout.split())
    assert "1 cell, 2 runs to do." in dry.stdout
    answer = run_program(MAIN, "compare", *TORCH, *lanes)
    assert answer.returncode == 0, answer.stderr
    lines = results(tmp_path)
    assert [(line["cell"]["tuning"], line["run"]) for line in lines] == [("stock", 0), ("stock", 1)]
    assert f"isoscale: {one}, for both lanes\n" in answer.stderr
    assert "1 of 1 tuned cells is the same configuration as stock" in " ".join(
        answer.stdout.split()
    )
    # Also on a machine whose tuned lane would differ: the report reads what the study recorded.
    record = json.loads((tmp_path / "runs/out/s/study.json").read_text())
    (shared,) = record["sessions"][0]["shared"]
    assert shared["cell_id"] == Path(lines[0]["run_dir"]).parts[1]

    again = run_program(MAIN, "compare", "--study=s", "--resume")
    assert again.returncode == 0, again.stderr
    assert results(tmp_path) == lines
    explained = run_program(MAIN, "explain", "s", "--frameworks=torch", "--noreport")
    assert explained.returncode == 0, explained.stderr
    assert results(tmp_path) == lines
    said = " ".join(explained.stdout.split())
    assert "On 1 device, same configuration in stock and tuned: torch bare" in said


def test_a_diverged_run_has_the_status_diverged(run_program, tmp_path: Path) -> None:
    answer = run_program(
        MAIN, "compare", *TORCH, "--runs=1", "--optimizer=sgd", "--learning_rate=1e9",
        "--clip_norm=0",
    )  # fmt: skip
    assert answer.returncode == 1
    (line,) = results(tmp_path)
    assert line["status"] == "diverged"
    assert "not finite" in line["error"]
    assert line["loss_last"] is None
