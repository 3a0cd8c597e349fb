"""Tests that start and kill real processes, without a framework."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from isoscale.common.processes import launch
from isoscale.common.processes.supervise import supervise
from tests.common.processes.workers import WORKER, gone, kill, limits, start, wait_until


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
        f"launch.start([sys.executable, '-c', {inner!r}], environment=os.environ); time.sleep(600)"
    )
    launcher = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, sys, time; from isoscale.common.processes import launch; "
            f"launch.start([sys.executable, '-c', {WORKER + middle!r}], environment=os.environ); "
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
        "import os, sys; from isoscale.common.processes import launch; "
        "launched = launch.die_with_launcher(); "
        "again = 'from isoscale.common.processes.launch import die_with_launcher as launched; "
        "print(launched())'; "
        "launch.restart([sys.executable, '-c', again], environment=os.environ, launched=launched)"
    )
    command, log = [sys.executable, "-c", first], tmp_path / "log"
    if launched:
        worker = launch.start(command, environment=os.environ, log=log)
        assert supervise([worker], run_dir=tmp_path, limits=limits(60)).ok
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
            "import os, time; from isoscale.common.processes import launch; "
            f"launch.start([{str(script)!r}, '-c', {inner!r}], environment=os.environ); "
            "time.sleep(600)",
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
