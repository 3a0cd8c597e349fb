"""Durations, decisions and order come from clocks that nobody sets; time stamps are listed here."""

import ast
from pathlib import Path

import pytest

from tests.architecture.test_imports import SOURCES
from tests.conftest import ROOT

STAMP = "a time stamp for readers; nothing is computed from it"
ALLOWED = {
    "common/commands/board.py st_mtime": "whether a file is another one; no order, no duration",
    "common/report/board/report_page.py st_mtime": "whether a report is older than the results; if "
    "the clock was set back, the page leaves the report out",
    "common/report/board/event_files.py st_mtime_ns": "whether a file is another one",
    "common/commands/compare.py datetime.now": f"the start of a session: {STAMP}",
    "common/commands/doctor.py datetime.now": STAMP,
    "common/parity/matrix.py datetime.now": STAMP,
    "common/parity/relay.py datetime.now": STAMP,
    "common/processes/lock.py datetime.now": f"since when a folder is in use: {STAMP}",
    "common/program/checkpoints.py datetime.now": f"who wrote a checkpoint: {STAMP}",
    "common/program/outcomes.py datetime.now": f"the start of a run: {STAMP}",
    "common/program/run_dir.py datetime.now": f"the default folder of a run: {STAMP}",
    "common/report/parity/relay_curves.py time.time": f"TensorBoard's time of an event: {STAMP}",
    "common/study/runs.py datetime.now": f"the start of a run that failed: {STAMP}",
    "common/study/find.py datetime.now": "the default name of a study; it takes no name twice",
    "common/study/find.py st_mtime": "the newest study of a folder: only time stamps can tell",
    "common/program/startup.py time.time": "not Linux: psutil knows only the wall clock",
    "common/program/startup.py create_time": "not Linux: psutil knows only the wall clock",
}
"""File and name of a wall clock -> why the file may use it."""

_TIME = {"time", "time_ns", "localtime", "gmtime", "ctime", "strftime", "CLOCK_REALTIME"}
_DATES = {"now", "utcnow", "today"}
_FILES = {
    f"{name}{unit}" for name in ("st_mtime", "st_ctime", "st_atime", "st_birthtime")
    for unit in ("", "_ns")
} | {"getmtime", "getctime", "getatime"}  # fmt: skip
_PROCESSES = {"create_time", "boot_time"}


def wall_clocks(source: str) -> set[str]:
    """Returns the names of the wall clocks that some source text uses."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            found |= {f"time.{alias.name}" for alias in node.names if alias.name in _TIME}
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value).rsplit(".")[-1]
            if (owner == "time" and node.attr in _TIME) or (
                owner in ("datetime", "date") and node.attr in _DATES
            ):
                found.add(f"{owner}.{node.attr}")
            elif node.attr in _FILES | _PROCESSES:
                found.add(node.attr)
        if isinstance(node, ast.Constant) and node.value in _PROCESSES:  # process_iter([...])
            found.add(str(node.value))
    return found


def test_wall_clocks_are_used_only_in_listed_places() -> None:
    used = {f"{path} {name}" for path in SOURCES for name in wall_clocks((ROOT / path).read_text())}
    assert used == set(ALLOWED)


@pytest.mark.parametrize(
    "source, found",
    [
        ("import time\nbegan = time.time()", {"time.time"}),
        ("import time\ndef wait(clock=time.time): ...", {"time.time"}),
        ("from time import time", {"time.time"}),
        ("import datetime\ndatetime.datetime.now()", {"datetime.now"}),
        ("path.stat().st_mtime_ns", {"st_mtime_ns"}),
        ("psutil.Process().create_time()", {"create_time"}),
        ("import time\ntime.monotonic() - time.perf_counter()", set()),
    ],
)
def test_a_wall_clock_is_found(source: str, found: set[str]) -> None:
    assert wall_clocks(source) == found


@pytest.mark.parametrize("path", [Path("common/measure"), Path("common/processes")], ids=str)
def test_what_measures_and_what_kills_reads_monotonic_clocks(path: Path) -> None:
    """These folders compute all durations of a study, and all decisions of the watchdog."""
    used = {key for key in ALLOWED if key.startswith(f"{path}/")}
    assert used <= {"common/processes/lock.py datetime.now"}
