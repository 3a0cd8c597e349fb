"""Tests that start, supervise and kill real processes, without a framework."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from isoscale.common.processes import launch

WORKER = "from isoscale.common.processes import launch; launch.die_with_launcher(); "


def start(code: str, log: Path | None = None) -> subprocess.Popen:
    return launch.start([sys.executable, "-c", WORKER + code], environment={}, log=log)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def kill(*pids: int) -> None:
    """Kills processes that a failed test would leave behind."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait_until(condition, seconds: float = 20.0) -> bool:
    end = time.time() + seconds
    while time.time() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_success(tmp_path: Path) -> None:
    outcome = launch.supervise([start("pass")], run_dir=tmp_path, watchdog_seconds=60)
    assert (outcome.ok, outcome.exit_code, outcome.error) == (True, 0, None)


def test_one_failing_rank_ends_the_others(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(launch, "_LEAVE_SECONDS", 0.2)
    ranks = [start("import time; time.sleep(600)"), start("raise SystemExit(3)")]
    outcome = launch.supervise(ranks, run_dir=tmp_path, watchdog_seconds=60)
    assert outcome.error == "rank 1 exited with code 3"
    assert all(rank.poll() is not None for rank in ranks)


def test_a_process_is_killed_if_it_does_not_exit_after_its_result(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(launch, "_LEAVE_SECONDS", 0.5)
    result = tmp_path / "result.json"
    worker = start(f"import time; open({str(result)!r}, 'w'); time.sleep(600)")
    outcome = launch.supervise([worker], run_dir=tmp_path, watchdog_seconds=60, result=result)
    assert outcome.error == "did not exit within 0.5 s after its result; killed"
    assert worker.poll() is not None


def test_the_error_names_the_signal_that_killed_a_process(tmp_path: Path) -> None:
    worker = start("import os; os.abort()", tmp_path / "log")
    outcome = launch.supervise([worker], run_dir=tmp_path, watchdog_seconds=60)
    assert outcome.error == "was killed by SIGABRT"


def test_the_watchdog_kills_a_process_that_makes_no_progress(tmp_path: Path) -> None:
    deaf = start("import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)")
    outcome = launch.supervise([deaf], run_dir=tmp_path, watchdog_seconds=0.5)
    assert "no progress for 0.5 s in 'starting'" in str(outcome.error)
    assert deaf.poll() == -signal.SIGKILL


BEATS = (
    "import time; from pathlib import Path; "
    "from isoscale.common.processes.heartbeat import Heartbeat, path_for, remove; "
    "folder = Path({folder!r}); beat = Heartbeat(path_for(folder, 0)); "
)


def test_the_watchdog_does_not_kill_a_process_with_a_heartbeat(tmp_path: Path) -> None:
    code = (
        BEATS.format(folder=str(tmp_path)) + "[(beat.beat('x'), time.sleep(0.1)) for _ in 'x' * 50]"
    )
    outcome = launch.supervise([start(code)], run_dir=tmp_path, watchdog_seconds=3.0)
    assert outcome.ok
    assert outcome.seconds > 3


def test_the_watchdog_waits_for_the_expected_time_of_a_long_window(tmp_path: Path) -> None:
    code = (
        BEATS.format(folder=str(tmp_path)) + "beat.beat('x', expected_seconds=600); time.sleep(4)"
    )
    assert launch.supervise([start(code)], run_dir=tmp_path, watchdog_seconds=2.0).ok


def test_the_watchdog_does_not_kill_a_worker_that_removes_its_heartbeats(tmp_path: Path) -> None:
    """After the removal, the watchdog must not count the whole time since the start."""
    code = BEATS.format(folder=str(tmp_path))
    code += "[(beat.beat('x'), time.sleep(0.1)) for _ in 'x' * 40]; remove(folder); time.sleep(1)"
    assert launch.supervise([start(code)], run_dir=tmp_path, watchdog_seconds=3.0).ok


def test_descendants_in_other_sessions_are_killed(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    code = (
        "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', "
        "'import time; time.sleep(600)'], start_new_session=True); "
        f"open({str(path)!r}, 'w').write(str(child.pid)); time.sleep(600)"
    )
    worker = start(code)
    assert wait_until(lambda: path.exists() and path.read_text())
    pid = int(path.read_text())
    try:
        launch.end([worker])
        assert worker.poll() == -signal.SIGKILL
        assert gone(pid)
    finally:
        kill(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_workers_die_with_a_launcher_that_is_killed(tmp_path: Path) -> None:
    """Starts launcher -> worker -> worker, and kills the launcher with -9."""
    inner = (
        f"{WORKER}open({str(tmp_path / 'inner')!r}, 'w').write(str(__import__('os').getpid())); "
    )
    inner += "import time; time.sleep(600)"
    middle = (
        "import os, sys, time; "
        f"open({str(tmp_path / 'middle')!r}, 'w').write(str(os.getpid())); "
        f"launch.start([sys.executable, '-c', {inner!r}], environment={{}}); time.sleep(600)"
    )
    launcher = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from isoscale.common.processes import launch; "
            f"launch.start([sys.executable, '-c', {WORKER + middle!r}], environment={{}}); "
            "time.sleep(600)",
        ],
        env=dict(os.environ),
    )
    files = [tmp_path / "middle", tmp_path / "inner"]
    assert wait_until(lambda: all(path.exists() and path.read_text() for path in files))
    pids = [int(path.read_text()) for path in files]
    assert not any(gone(pid) for pid in pids)
    launcher.kill()
    launcher.wait()
    try:
        assert wait_until(lambda: all(gone(pid) for pid in pids), 10), (
            "workers outlived their launcher"
        )
    finally:
        kill(*pids)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_worker_is_killed_if_a_new_process_has_the_id_of_its_launcher() -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        variables = {**os.environ, launch._PARENT: str(other.pid)}
        worker = subprocess.run([sys.executable, "-c", WORKER], env=variables, check=False)
    finally:
        kill(other.pid)
        other.wait()
    assert worker.returncode == -signal.SIGKILL


@pytest.mark.parametrize("launched", [True, False])
def test_a_program_that_restarts_still_knows_whether_it_was_launched(
    launched: bool, tmp_path: Path
) -> None:
    first = (
        "import sys; from isoscale.common.processes import launch; "
        "launched = launch.die_with_launcher(); "
        "again = 'from isoscale.common.processes.launch import die_with_launcher as launched; "
        "print(launched())'; "
        "launch.restart([sys.executable, '-c', again], environment={}, launched=launched)"
    )
    command, log = [sys.executable, "-c", first], tmp_path / "log"
    if launched:
        worker = launch.start(command, environment={}, log=log)
        assert launch.supervise([worker], run_dir=tmp_path, watchdog_seconds=60).ok
    else:
        log.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
    assert log.read_text() == f"{launched}\n"


def test_a_worker_behind_a_shell_script_dies_with_its_launcher(tmp_path: Path) -> None:
    script, pid_file = tmp_path / "python", tmp_path / "pid"
    script.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\nexit 0\n')
    script.chmod(0o755)
    inner = f"{WORKER}open({str(pid_file)!r}, 'w').write(str(__import__('os').getpid())); "
    inner += "import time; time.sleep(600)"
    launcher = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import time; from isoscale.common.processes import launch; "
            f"launch.start([{str(script)!r}, '-c', {inner!r}], environment={{}}); time.sleep(600)",
        ]
    )
    assert wait_until(lambda: pid_file.exists() and pid_file.read_text())
    pid = int(pid_file.read_text())
    launcher.kill()
    launcher.wait()
    try:
        assert wait_until(lambda: gone(pid), 10), "the worker outlived its launcher"
    finally:
        kill(pid)


def test_a_worker_does_not_inherit_the_rank_variables_of_its_launcher(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("RANK", "7")
    worker = start("import os, sys; sys.exit('RANK' in os.environ)")
    assert launch.supervise([worker], run_dir=tmp_path, watchdog_seconds=60).ok


def test_last_line_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert launch.last_line(log) is None
    log.write_text("$ python -m program\n")
    assert launch.last_line(log) is None
    log.write_text("Traceback\nValueError: no\n\n  \n")
    assert launch.last_line(log) == "ValueError: no"
