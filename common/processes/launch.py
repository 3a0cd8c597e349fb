"""Starts and kills the processes of isoscale; ``supervise.py`` watches over them."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import psutil

_PARENT = "ISOSCALE_PARENT_PID"
_PR_SET_PDEATHSIG = 1
_END_SECONDS = 10.0
"""How long ``end`` waits for descendants that it has killed."""


def die_with_launcher() -> bool:
    """Makes this process die when its launcher dies, even by kill -9 (Linux).

    The kernel kills this process when its parent dies. If the interpreter is a shell script, the
    script is the parent; then a thread looks for the launcher once a second.

    Every program that isoscale starts calls this first.

    Returns:
      Whether isoscale started this process; if not, the function does nothing.
    """
    launcher = os.environ.pop(_PARENT, None)  # this process's own workers have another launcher
    if launcher is None or not (launcher.isdecimal() and len(launcher) < 10):
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


def restart(command: list[str], *, environment: Mapping[str, str], launched: bool) -> NoReturn:
    """Replaces this program by another one in the same process.

    Args:
      command: program and arguments.
      environment: the whole environment of the new program.
      launched: what ``die_with_launcher`` returned; the new program will return the same.
    """
    launcher = {_PARENT: str(os.getppid())} if launched else {}
    os.execve(command[0], command, {**environment, **launcher})


def module_command(python: str, module: str, *arguments: str) -> list[str]:
    """Returns the command that runs a module; ``-P`` prevents imports from the working folder."""
    return [python, "-P", "-m", module, *arguments]


def start(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: Path | None = None,
    inherited: Sequence[int] = (),
) -> subprocess.Popen:
    """Starts a worker in a session of its own; the worker dies with this process.

    Call it from the main thread: the kernel kills the worker when the starting thread ends.

    Args:
      command: program and arguments.
      environment: the worker's whole environment (``common/registry/environments.py`` builds it);
        this function adds what ties the worker to this process.
      log: file for standard output and error; None: the worker uses those of this process.
      inherited: numbers of further open files that the worker gets.
    """
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("ab")) if log else None
        return subprocess.Popen(
            command,
            env={**environment, _PARENT: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            start_new_session=True,
            pass_fds=inherited,
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
    psutil.wait_procs(descendants, timeout=_END_SECONDS)
