"""The cause of a failed run in words: killed, stopped, hung and broken processes of real runs."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from torch import distributed

from isoscale.common.processes.heartbeat import path_for, read_beats
from isoscale.common.processes.ports import free_port
from isoscale.frameworks.torch_runner.strategies import ddp
from tests.common.processes.workers import wait_until
from tests.conftest import copy_of_the_code, environment_of
from tests.faults.oracle import check_no_process

pytestmark = pytest.mark.slow

ENDLESS = (
    "--model=mlp_digits", "--steps=10000000", "--window_steps=1000000", "--latency_steps=0",
    "--allow_oversubscription", "--run_dir=r",
)  # fmt: skip
DDP = ("--strategy=ddp", "--devices=2")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Returns the working folder of a program, and checks afterwards that no process is left."""
    yield tmp_path
    try:
        assert wait_until(lambda: not _processes_in(tmp_path), 10)
        check_no_process(tmp_path)
    finally:
        for process in _processes_in(tmp_path):
            process.kill()


def _processes_in(folder: Path) -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == str(folder)]


def start(folder: Path, *arguments: str, framework: str = "torch", **more: Any) -> subprocess.Popen:
    """Starts a runner's program in a folder."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", f"isoscale.frameworks.{framework}_runner", *arguments],
        cwd=folder,
        env=more.pop("env", environment_of()),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def wait_for_windows(program: subprocess.Popen, run_dir: Path, ranks: int) -> None:
    """Waits until all ranks of a run are in a measured window."""

    def inside() -> bool:
        assert program.poll() is None, program.communicate()
        beats = read_beats(run_dir)
        return len(beats) == ranks and all("throughput" in b.doing for b in beats.values())

    assert wait_until(inside, 60)
    time.sleep(0.3)


def pid_of(run_dir: Path, rank: int) -> int:
    found = read_beats(run_dir)[rank].pid
    assert found is not None
    return found


def result_in(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "result.json").read_text())


@pytest.mark.parametrize("rank", [1, pytest.param(0, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "number", [signal.SIGKILL, *(pytest.param(n, marks=pytest.mark.long) for n in (11, 7, 6, 4))]
)
def test_a_killed_rank_is_named_with_its_step_and_the_others_are_consequences(
    number: int, rank: int, folder: Path
) -> None:
    program = start(folder, *ENDLESS, *DDP)
    wait_for_windows(program, folder / "r", 2)
    os.kill(pid_of(folder / "r", rank), number)
    _, said = program.communicate(timeout=20)
    assert program.returncode == 1
    result = result_in(folder / "r")
    cause, consequences = result["error"].split("; as a consequence: ")
    assert cause.startswith(f"rank {rank} was killed by {signal.Signals(number).name}")
    assert cause.endswith(" in 'throughput, steps 6 to 1000005'")
    assert consequences.startswith(f"rank {1 - rank} failed in 'throughput, steps 6 to 1000005': ")
    assert said.splitlines()[-1] == f"isoscale: {result['error']}"
    assert [path.name for path in (folder / "r").iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    "framework", [pytest.param(name, marks=pytest.mark.long) for name in ("jax", "tensorflow")]
)
def test_the_log_of_a_killed_process_is_not_quoted_if_it_says_nothing(
    framework: str, folder: Path
) -> None:
    study = subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "isoscale.common.commands.main", "compare", "--runs=1"),
            *("--models=mlp_digits", f"--frameworks={framework}", "--devices=1", "--study=s"),
            *("--strategies=bare", "--steps=10000000", "--noreport"),
        ],
        cwd=folder,
        env=environment_of(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    runs = folder / "runs/out/s/cells"
    assert wait_until(lambda: list(runs.glob("*/run_0/heartbeat.0")), 60)
    run_dir = next(runs.glob("*/run_0"))
    wait_for_windows(study, run_dir, 1)
    os.kill(pid_of(run_dir, 0), signal.SIGKILL)
    study.communicate(timeout=60)
    line = json.loads((folder / "runs/out/s/results.jsonl").read_text())
    assert line["error"].startswith("was killed by SIGKILL (out of memory?) in 'throughput, steps")
    assert "last line of its log" not in line["error"]


@pytest.mark.long
def test_a_stopped_rank_is_named_by_the_watchdog_with_its_step(folder: Path) -> None:
    program = start(folder, *ENDLESS, *DDP, "--watchdog_seconds=12", "--window_steps=1000")
    wait_for_windows(program, folder / "r", 2)
    os.kill(pid_of(folder / "r", 1), signal.SIGSTOP)
    program.communicate(timeout=60)
    assert program.returncode == 1
    error = result_in(folder / "r")["error"]
    # The expected time of the window comes on top of the 12 seconds.
    words = r"killed by the watchdog: no progress for [\d.]+ s: rank 1 is behind, in '"
    assert re.match(words, error)
    assert "', stopped by a signal; rank 0, in '" in error
    assert "step" in error


HANGING = """
import time
from isoscale.frameworks.torch_runner.strategies import ddp
INFO = {
    "summary": "hangs", "process_model": "per_device", "max_devices": None, "mesh_axes": ("data",),
}

class Strategy(ddp.Strategy):
    def __init__(self, config):
        super().__init__(config)
        self._steps = 0

    def scale_loss(self, loss):
        self._steps += 1
        if self._steps == 40 and self.rank == 1:
            self.wait_for_a_friend()
        return super().scale_loss(loss)

    def wait_for_a_friend(self):
        time.sleep(600)

make = Strategy
"""


@pytest.mark.long
def test_a_rank_that_hangs_in_a_step_is_named_with_the_line_where_it_hangs(folder: Path) -> None:
    code = copy_of_the_code(folder / "code")
    (code / "frameworks/torch_runner/strategies/hanging.py").write_text(HANGING)
    program = start(
        folder, *ENDLESS, "--strategy=hanging", "--devices=2", "--watchdog_seconds=12",
        "--window_steps=20", env=environment_of(code),
    )  # fmt: skip
    _, said = program.communicate(timeout=60)
    assert program.returncode == 1, said
    error = result_in(folder / "r")["error"]
    assert "in wait_for_a_friend" in error


@pytest.mark.parametrize(
    "number, name",
    [
        (signal.SIGTERM, "SIGTERM"),
        pytest.param(signal.SIGHUP, "SIGHUP", marks=pytest.mark.long),
        pytest.param(signal.SIGINT, "SIGINT", marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("strategy", [pytest.param("bare", marks=pytest.mark.long), "ddp"])
def test_a_signal_saves_a_last_checkpoint_and_the_same_command_goes_on(
    strategy: str, number: int, name: str, folder: Path
) -> None:
    flags = (*ENDLESS, f"--strategy={strategy}", f"--devices={1 + (strategy == 'ddp')}")
    saving = (*flags, "--save_checkpoint=saved", "--resume_from=latest")
    steps = [0]
    for _ in range(2):
        program = start(folder, *saving)
        wait_for_windows(program, folder / "r", 1 + (strategy == "ddp"))
        program.send_signal(number)
        _, said = program.communicate(timeout=30)
        assert program.returncode == 128 + number, said
        steps.append(max(int(p.name[5:]) for p in (folder / "saved").glob("step_*")))
        message = f"interrupted by {name}; resume at step {steps[-1]} with --resume_from=latest"
        assert said.splitlines()[-1] == f"isoscale: {message}"
        assert "Traceback" not in said
        result = result_in(folder / "r")
        assert (result["status"], result["error"]) == ("interrupted", message)
        assert [path.name for path in (folder / "r").iterdir()] == ["result.json"]
    assert steps[0] < steps[1] < steps[2]


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.long)])
def test_a_signal_to_one_rank_stops_all_ranks_after_the_same_step(rank: int, folder: Path) -> None:
    program = start(folder, *ENDLESS, *DDP, "--save_checkpoint=saved")
    wait_for_windows(program, folder / "r", 2)
    os.kill(pid_of(folder / "r", rank), signal.SIGTERM)
    _, said = program.communicate(timeout=30)
    assert program.returncode == 143, said
    assert "; resume at step " in said
    assert [path.name for path in (folder / "r").iterdir()] == ["result.json"]


@pytest.mark.long
def test_a_rank_that_still_waits_for_its_peers_ends_after_a_signal(folder: Path) -> None:
    """Its main thread is in code of PyTorch, which does not return to Python."""
    port = str(free_port())
    ranks = {
        "RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }  # fmt: skip
    program = start(folder, *ENDLESS, *DDP, env=environment_of(**ranks))
    assert wait_until(lambda: "building" in str(read_beats(folder / "r").get(0)), 60)
    time.sleep(1)
    program.terminate()
    _, said = program.communicate(timeout=30)
    assert program.returncode == 143
    assert said.splitlines()[-1] == "isoscale: interrupted by SIGTERM"


@pytest.mark.long
def test_two_programs_do_not_share_a_run_dir(folder: Path) -> None:
    first = start(folder, *ENDLESS, "--strategy=bare")
    wait_for_windows(first, folder / "r", 1)
    second = start(folder, *ENDLESS, "--strategy=bare")
    _, said = second.communicate(timeout=30)
    first.kill()
    first.communicate()
    assert second.returncode in (2, 3)
    assert "--run_dir=r is in use by another process" in said


@pytest.mark.parametrize("strategy", ["bare", pytest.param("ddp", marks=pytest.mark.long)])
def test_a_signal_ends_a_run_that_saves_nothing_at_once(strategy: str, folder: Path) -> None:
    flags = (*ENDLESS, f"--strategy={strategy}", f"--devices={1 + (strategy == 'ddp')}")
    program = start(folder, *flags)
    wait_for_windows(program, folder / "r", 1 + (strategy == "ddp"))
    program.send_signal(signal.SIGTERM)
    _, said = program.communicate(timeout=10)
    assert program.returncode == 143
    assert said == "isoscale: interrupted by SIGTERM\n"
    assert result_in(folder / "r")["status"] == "interrupted"


@pytest.mark.parametrize("error", ["ImportError", pytest.param("1 / 0", marks=pytest.mark.long)])
def test_peers_end_within_five_seconds_after_a_rank_fails_at_import(
    error: str, folder: Path
) -> None:
    """In a copy of the code, the import of the strategy fails in rank 1 only."""
    code = copy_of_the_code(folder / "code")
    path = code / "frameworks/torch_runner/strategies/ddp.py"
    raised = "raise ImportError('no such symbol')" if error == "ImportError" else error
    failing = f"if os.environ.get('RANK') == '1':\n    open('failed', 'w').close()\n    {raised}\n"
    path.write_text(path.read_text() + failing)
    program = start(folder, *ENDLESS, *DDP, env=environment_of(code))
    assert wait_until(lambda: (folder / "failed").exists(), 60)
    began = time.monotonic()
    program.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert program.returncode == 1
    said = result_in(folder / "r")["error"]
    words = "BrokenFrameworkError: torch is" if error == "ImportError" else "ZeroDivisionError: "
    assert said.startswith(f"rank 1 failed in 'importing the framework': {words}")


BROKEN = {
    "jax": ("jaxlib.py", "raise OSError('libcudart.so.12: cannot open shared object file')"),
    "tensorflow": ("tensorflow.py", "import numpy._core.no_such_module"),
    "torch": ("torch.py", "raise RuntimeError('\\n\\nabi mismatch\\nmore')"),
}
FIRST = {
    "jax": "OSError: libcudart.so.12: cannot open shared object file",
    "tensorflow": "ModuleNotFoundError: No module named 'numpy._core.no_such_module'",
    "torch": "RuntimeError: abi mismatch",
}


@pytest.mark.parametrize(
    "framework",
    ["jax", *(pytest.param(n, marks=pytest.mark.long) for n in ("tensorflow", "torch"))],
)
def test_a_broken_framework_is_recorded_with_its_first_error_and_the_install_line(
    framework: str, folder: Path, run_program
) -> None:
    name, text = BROKEN[framework]
    (folder / "broken").mkdir()
    (folder / "broken" / name).write_text(text)
    path = os.pathsep.join([str(folder / "broken"), os.environ.get("PYTHONPATH", "")])
    answer = run_program(
        "isoscale.common.commands.main", "compare", "--models=mlp_digits", "--steps=5",
        f"--frameworks={framework}", "--strategies=bare", "--devices=1", "--runs=1", "--study=s",
        "--noreport", PYTHONPATH=path.strip(os.pathsep),
    )  # fmt: skip
    assert answer.returncode == 1, answer.stderr
    line = json.loads((folder / "runs/out/s/results.jsonl").read_text())
    assert line["status"] == "failed"
    assert line["error"].startswith(
        f"BrokenFrameworkError: {framework} is installed but broken ({FIRST[framework]}); "
        "install it again: "
    )


def test_too_few_file_descriptors_are_named(folder: Path) -> None:
    command = [sys.executable, "-P", "-m", "isoscale.frameworks.torch_runner", *ENDLESS, *DDP]
    program = subprocess.run(
        ["sh", "-c", 'ulimit -n 9; exec "$@"', "sh", *command],
        cwd=folder,
        env=environment_of(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert program.returncode == 1
    error = result_in(folder / "r")["error"]
    assert "RuntimeError: each of 2 ranks opens about " in error
    assert "the limit is 9 (raise it with 'ulimit -n')" in error
    assert "reset" not in error


@pytest.mark.long
def test_a_low_soft_limit_of_file_descriptors_is_raised(folder: Path) -> None:
    command = [sys.executable, "-P", "-m", "isoscale.frameworks.torch_runner", *DDP, "--steps=5"]
    program = subprocess.run(
        ["sh", "-c", 'ulimit -S -n 9; exec "$@"', "sh", *command, "--model=mlp_digits",
         "--allow_oversubscription"],
        cwd=folder,
        env=environment_of(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )  # fmt: skip
    assert program.returncode == 0, program.stderr


def test_a_missing_network_interface_is_named(folder: Path) -> None:
    store = distributed.FileStore(str(folder / "store"), 1)
    before = os.environ.get("GLOO_SOCKET_IFNAME")
    os.environ["GLOO_SOCKET_IFNAME"] = "nothing0"
    try:
        with (
            pytest.raises(ConnectionError, match="names no network interface of this machine"),
            ddp.errors_in_words(),
        ):
            distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    finally:
        os.environ.pop("GLOO_SOCKET_IFNAME")
        if before is not None:
            os.environ["GLOO_SOCKET_IFNAME"] = before


def test_a_port_that_is_taken_is_named(folder: Path) -> None:
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::", 0))
        taken.listen()
        with (
            pytest.raises(ConnectionError, match="another program uses port MASTER_PORT"),
            ddp.errors_in_words(),
        ):
            distributed.TCPStore("localhost", taken.getsockname()[1], 2, is_master=True)


def test_an_error_of_another_kind_keeps_its_words() -> None:
    with pytest.raises(RuntimeError, match=r"^something else$"), ddp.errors_in_words():
        raise RuntimeError("something else")


def test_the_heartbeat_of_a_by_hand_run_is_removed(folder: Path) -> None:
    program = start(folder, "--model=mlp_digits", "--steps=5", "--run_dir=r")
    program.communicate(timeout=60)
    assert program.returncode == 0
    assert not path_for(folder / "r", 0).exists()
    assert not list((folder / "r").glob("heartbeat*"))
