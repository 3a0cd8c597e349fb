"""Runs a program and measures its processor time and its memory."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import environment_of

# A process begins with the peak memory of the process that started it: a small one, not pytest.
_SMALL = """
import json, os, signal, sys
pid = os.fork()
if pid == 0:
    os.execv(sys.argv[3], sys.argv[3:])
signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
signal.alarm(int(sys.argv[2]))
_, status, usage = os.wait4(pid, 0)
figures = [os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss]
with open(sys.argv[1], "w") as file:
    json.dump(figures, file)
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """What a program did.

    Attributes:
      code: exit code; -9: it did not end in time.
      stdout, stderr: its output.
      cpu_seconds: processor time, its child processes included.
      peak_mebibytes: largest resident memory of one process.
    """

    code: int
    stdout: str
    stderr: str
    cpu_seconds: float
    peak_mebibytes: float


def measured(
    module: str, arguments: list[str], *, folder: Path, figures: Path, timeout: int = 60
) -> Measured:
    """Runs ``python -m MODULE ARGUMENTS`` and returns what it did.

    Args:
      module, arguments: the program.
      folder: its working folder.
      figures: path of a new file.
      timeout: seconds after which the program is killed.
    """
    command = [sys.executable, "-P", "-m", module, *arguments]
    answer = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _SMALL, str(figures), str(timeout), *command],
        cwd=folder,
        env=environment_of(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout + 60,
        check=True,
    )
    code, seconds, kibibytes = json.loads(figures.read_text())
    return Measured(
        code=code,
        stdout=answer.stdout.decode(errors="replace"),
        stderr=answer.stderr.decode(errors="replace"),
        cpu_seconds=seconds,
        peak_mebibytes=kibibytes / 1024,
    )
