"""Starts, supervises and kills the processes of isoscale."""

import contextlib
import ctypes
import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import psutil

from isoscale.common.processes import ranks
from isoscale.common.processes.heartbeat import last_beat

_PARENT = "ISOSCALE_PARENT_PID"
_PR_SET_PDEATHSIG = 1
POLL_SECONDS = 0.1
_LEAVE_SECONDS = 10.0
"""How long processes may continue after the result is complete, or after one process failed.

After a failure, this time lets the other processes report their errors.
"""


def die_with_launcher() -> bool:
    """Makes this process die when its launcher dies, even by kill -9 (Linux).

    The kernel kills this process when its parent dies. If the interpreter is a shell script, the
    script is the parent; then a thread looks for the launcher once a second.

    Every program that isoscale starts calls this first.

    Returns:
      Whether isoscale started this process; if not, the function does nothing.
    """
    launcher = os.environ.pop(_PARENT, None)  # this process's own workers have another launcher
    if launcher is None:
        return False
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    _die_without(int(launcher))
    if os.getppid() != int(launcher):
        threading.Thread(target=_keep_watching, args=(int(launcher),), daemon=True).start()
    return True


def _die_without(launcher: int) -> None:
    # A launcher that died before the kernel was asked is no ancestor any more. Its number may
    # belong to a new process.
    if launcher not in [parent.pid for parent in psutil.Process().parents()]:
        os.kill(os.getpid(), signal.SIGKILL)


def _keep_watching(launcher: int) -> None:
    while True:
        time.sleep(1.0)
        _die_without(launcher)


def restart(command: list[str], *, environment: dict[str, str], launched: bool) -> NoReturn:
    """Replaces this program by another one in the same process.

    Args:
      command: program and arguments.
      environment: added to this process's environment.
      launched: what ``die_with_launcher`` returned; the new program will return the same.
    """
    launcher = {_PARENT: str(os.getppid())} if launched else {}
    os.execve(command[0], command, {**os.environ, **environment, **launcher})


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessOutcome:
    """How a group of processes ended.

    Attributes:
      ok: whether every process exited with code 0.
      exit_code: the first exit code that is not 0, otherwise 0; negative for a signal.
      error: one line for messages; None if ``ok``.
      seconds: time from start to end.
      by_watchdog: whether the watchdog killed the processes.
    """

    ok: bool
    exit_code: int
    error: str | None
    seconds: float
    by_watchdog: bool = False

    def explain(self, log: Path, *, otherwise: str) -> str:
        """Returns the error with the last line of the processes' log.

        Args:
          log: log of the processes; not read if the watchdog killed them.
          otherwise: text to use if ``error`` is None.
        """
        error = self.error or otherwise
        said = None if self.by_watchdog else last_line(log)
        return f"{error}; last line of its log: {said}" if said else error


def module_command(python: str, module: str, *arguments: str) -> list[str]:
    """Returns the command that runs a module; ``-P`` prevents imports from the working folder."""
    return [python, "-P", "-m", module, *arguments]


def start(
    command: Sequence[str], *, environment: dict[str, str], log: Path | None = None
) -> subprocess.Popen:
    """Starts a worker in a session of its own; the worker dies with this process.

    Call it from the main thread: the kernel kills the worker when the starting thread ends.

    Args:
      command: program and arguments.
      environment: added to this process's environment, from which ``ranks.VARIABLES`` are removed.
      log: file for standard output and error; None: the worker uses those of this process.
    """
    variables = {k: v for k, v in os.environ.items() if k not in ranks.VARIABLES}
    variables |= {**environment, _PARENT: str(os.getpid())}
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("ab")) if log else None
        return subprocess.Popen(
            command,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            start_new_session=True,
        )


def end(processes: Sequence[subprocess.Popen]) -> None:
    """Kills processes and their descendants; returns when they have ended.

    Does not reach a process in a session of its own whose parent has already ended.

    Uses SIGKILL immediately: a rank that waits for a dead rank does not react to other signals.
    """
    descendants: list[psutil.Process] = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            descendants += psutil.Process(process.pid).children(recursive=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    for descendant in descendants:
        with contextlib.suppress(psutil.NoSuchProcess):
            descendant.kill()
    for process in processes:
        process.wait()
    psutil.wait_procs(descendants, timeout=_LEAVE_SECONDS)


class Supervision:
    """Supervises processes. ``poll`` returns their outcome; call ``end`` afterwards."""

    def __init__(
        self,
        processes: Sequence[subprocess.Popen],
        *,
        run_dir: Path,
        watchdog_seconds: float,
        result: Path | None = None,
    ):
        """Starts the supervision.

        Args:
          processes: the ranks of one run, or its single process.
          run_dir: folder of the heartbeats.
          watchdog_seconds: longest time without a heartbeat.
          result: file that the run writes last; afterwards the processes have 10 seconds to exit.
        """
        self._processes = processes
        self._run_dir = run_dir
        self._watchdog_seconds = watchdog_seconds
        self._result = result
        self._began = time.time()
        self._newest, self._doing = self._began, "starting"
        self._failure: tuple[float, int, int] | None = None
        self._finished: float | None = None

    def poll(self) -> ProcessOutcome | None:
        """Returns the outcome; None while the processes run and make progress."""
        codes = [process.poll() for process in self._processes]
        if all(code == 0 for code in codes):
            return self._outcome(0, None)
        failed = [(rank, code) for rank, code in enumerate(codes) if code]
        if failed:
            self._failure = self._failure or (time.time(), *failed[0])
            since, rank, code = self._failure
            left = all(code is not None for code in codes)
            if left or time.time() - since > _LEAVE_SECONDS:
                who = f"rank {rank} " if len(self._processes) > 1 else ""
                return self._outcome(code, f"{who}{describe_exit(code)}")
        if self._result is not None and self._result.exists():
            self._finished = self._finished or time.time()
            if time.time() - self._finished > _LEAVE_SECONDS:
                error = f"did not exit within {_LEAVE_SECONDS:g} s after its result; killed"
                return self._outcome(-signal.SIGKILL, error)
        # Keep the newest heartbeat: a worker may remove its heartbeat before it exits.
        self._newest, self._doing = max((self._newest, self._doing), last_beat(self._run_dir))
        if time.time() - self._newest > self._watchdog_seconds:
            error = (
                f"killed by the watchdog: no progress for {self._watchdog_seconds:g} s in "
                f"'{self._doing}'"
            )
            return self._outcome(-signal.SIGKILL, error, by_watchdog=True)
        return None

    def _outcome(
        self, exit_code: int, error: str | None, *, by_watchdog: bool = False
    ) -> ProcessOutcome:
        return ProcessOutcome(
            ok=error is None,
            exit_code=exit_code,
            error=error,
            seconds=time.time() - self._began,
            by_watchdog=by_watchdog,
        )


def supervise(
    processes: Sequence[subprocess.Popen],
    *,
    run_dir: Path,
    watchdog_seconds: float,
    result: Path | None = None,
) -> ProcessOutcome:
    """Waits until the processes end, fail or make no progress; kills them; returns the outcome.

    The arguments are those of ``Supervision``.
    """
    supervision = Supervision(
        processes, run_dir=run_dir, watchdog_seconds=watchdog_seconds, result=result
    )
    try:
        while (outcome := supervision.poll()) is None:
            time.sleep(POLL_SECONDS)
        return outcome
    finally:
        end(processes)


def describe_exit(code: int) -> str:
    """Describes an exit code in words; negative codes are signals."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (out of memory?)" if -code == signal.SIGKILL else ""
    return f"was killed by {name}{hint}"


def last_line(log: Path) -> str | None:
    """Returns the last line of a log that is not empty, cut to 300 characters.

    Lines that begin with ``$ `` are commands of isoscale; they say nothing about an error.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 20_000))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return None
    said = [line.strip() for line in lines if line.strip() and not line.startswith("$ ")]
    return said[-1][:300] if said else None
