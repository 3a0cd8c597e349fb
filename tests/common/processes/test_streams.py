"""Output that cannot be written ends no program: what the program does afterwards is done."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import environment_of

PROGRAM = """
import os, sys
from pathlib import Path
from isoscale.common.processes.frame import exit_code_of, leave_at_once

def run():
    print("g\\xe4be", flush=True)
    print("more " * 10_000, file=sys.stderr)
    print("more " * 50_000, flush=True)  # more than a pipe holds
    Path("done").write_text(" ".join(str(os.fstat(n).st_ino) for n in (0, 1, 2)))
    return CODE

END
"""


def run(shell: str, folder: Path, *, code: int = 0, leaves: bool = False, **variables: str):
    """Runs the program behind a line of shell in which ``$@`` stands for the program."""
    end = "exit_code_of(lambda: leave_at_once(run()))" if leaves else "sys.exit(exit_code_of(run))"
    program = PROGRAM.replace("CODE", str(code)).replace("END", end)
    answer = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {shell}", "bash", sys.executable, "-c", program],
        cwd=folder,
        env=environment_of(**variables),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (folder / "done").exists(), answer.stderr
    assert b"Traceback" not in answer.stderr
    assert b"Exception ignored" not in answer.stderr
    return answer


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("code, seen", [(0, 141), (1, 1)])
def test_a_reader_that_leaves_stops_no_work(
    unbuffered: str, leaves: bool, code: int, seen: int, tmp_path: Path
) -> None:
    answer = run(
        '"$@" 2>/dev/null | head -n 1',
        tmp_path, code=code, leaves=leaves, PYTHONUNBUFFERED=unbuffered,
    )  # fmt: skip
    assert answer.returncode == seen
    assert answer.stdout.decode() == "gäbe\n"


@pytest.mark.parametrize("leaves", [False, True])
def test_a_full_disk_behind_standard_output_is_one_line_at_the_end(
    leaves: bool, tmp_path: Path
) -> None:
    answer = run('"$@" 2>said >/dev/full', tmp_path, leaves=leaves)
    assert answer.returncode == 3
    assert (tmp_path / "said").read_text().splitlines()[1:] == [
        "isoscale: cannot write to standard output: no space left on device"
    ]


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_a_stream_that_is_closed_or_full_does_no_harm(closed: str, tmp_path: Path) -> None:
    assert run(f'"$@" {closed} | cat', tmp_path).returncode == 0
    null = str(Path("/dev/null").stat().st_ino)
    streams = (tmp_path / "done").read_text().split()
    for number, text in enumerate(("<&-", " >&-", "2>&-")):
        assert (streams[number] == null) or text not in f" {closed}"


@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict", "latin-1", "utf-8"])
def test_a_character_that_the_encoding_lacks_is_printed_as_its_escape(
    encoding: str, tmp_path: Path
) -> None:
    answer = run('"$@"', tmp_path, PYTHONIOENCODING=encoding)
    assert answer.returncode == 0
    lacks = encoding.startswith("ascii")
    wanted = b"g\\xe4be" if lacks else "gäbe".encode(encoding)
    assert answer.stdout.splitlines()[0] == wanted
