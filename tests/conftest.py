"""Shared fixtures, and the order in which two pytest workers run the tests.

Tests of whole programs run the programs in fresh processes. Under ``pytest -n 2``, each worker
pins its slow tests to its own half of the cores; the workers do not disturb each other. A test
marked ``two_cores`` needs all cores: a lock lets it run alone, after the other tests of its file.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from isoscale.common.machine.cores import available_cores, pin
from isoscale.common.machine.own_version import COMMIT_FILE, UNKNOWN, commit_of
from isoscale.common.registry import environments

ROOT = Path(__file__).resolve().parents[1]

# The order of the folders within the fast and within the slow tests. A worker runs whole files.
_ORDER = (
    "common", "models", "architecture", "documents", "parity", "frameworks", "commands",
    "faults", "mutations",
)  # fmt: skip
_CORES = available_cores()


# The user's shell must not decide which lines commands print in this process.
for _name in environments.removed():
    os.environ.pop(_name, None)
    environments._SHELL.pop(_name)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run long proofs (make faults)")
    parser.addoption("--network", action="store_true", help="also ask the package index")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts the tests: fast tests first, tests that need two cores last; leaves out some kinds."""
    for kind in ("long", "network"):
        if items and not items[0].config.getoption(f"--{kind}"):
            left_out = [item for item in items if item.get_closest_marker(kind) is not None]
            items[0].config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if item not in left_out]

    def rank(item: pytest.Item) -> tuple[bool, bool, int]:
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        slow = item.get_closest_marker("slow") is not None
        return (_needs_two_cores(item), slow, _ORDER.index(folder))

    items.sort(key=rank)


def _needs_two_cores(item: pytest.Item) -> bool:
    return item.get_closest_marker("two_cores") is not None


def _cores_of_worker() -> list[int]:
    """Returns the cores for slow tests: the worker's share; all cores without workers."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return _CORES[int(worker) :: count] or _CORES


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Pins a test to its cores; a test that needs two cores waits until it runs alone."""
    alone = _needs_two_cores(item)
    shares = item.get_closest_marker("slow") is not None and not alone
    pin(_cores_of_worker() if shares else _CORES)
    descriptor = os.open(ROOT / "tests", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        return (yield)
    finally:
        os.close(descriptor)


CODE = ("common", "models", "frameworks")


def copy_of_the_code(folder: Path) -> Path:
    """Copies the code to ``folder/isoscale`` and returns this path."""
    for name in CODE:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / "isoscale" / name, ignore=ignore)
    return folder / "isoscale"


def build_wheel(folder: Path) -> Path:
    """Builds a wheel without a network; returns its path.

    Builds from a copy, because the folder of an earlier build could add files.

    Args:
      folder: an empty folder; receives the copy and the wheel.
    """
    code = copy_of_the_code(folder)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, code)
    (code / "runs").mkdir()
    for file in [*(ROOT / "runs").glob("*.py"), *(ROOT / "runs").glob("*.flags")]:
        shutil.copy(file, code / "runs")
    (code / "runs/out/study").mkdir(parents=True)
    (code / "runs/out/study/secret.flags").write_text("--models=gpt_tiny")
    commit = commit_of(ROOT)  # the copy has no git history
    if commit != UNKNOWN:
        (code / "common" / COMMIT_FILE).write_text(commit)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
            *(f"--wheel-dir={folder}", str(code)),
        ],
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def environment_of(code: Path = ROOT, **more: str) -> dict[str, str]:
    """Returns the environment variables for programs that run the code of a folder.

    Libraries that tests import add variables to this process; programs do not get these.

    Args:
      code: ROOT (installed), or a copy in a folder named ``isoscale``.
      **more: further variables.
    """
    path = {} if code == ROOT else {"PYTHONPATH": str(code.parent)}
    return {**environments.of_worker(), **path, **more}


def bare_environment() -> dict[str, str]:
    """Returns an environment with only an empty PATH and the location of the code."""
    return {"PATH": "", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}


def files_under_two_names() -> dict[str, list[str]]:
    """Returns file of the project -> its module names, for files imported under several names."""
    names: dict[str, list[str]] = {}
    for name, module in sorted(sys.modules.items()):
        path = Path(getattr(module, "__file__", None) or "/").resolve()
        if name != "__main__" and path.is_relative_to(ROOT) and ".venv" not in path.parts:
            names.setdefault(str(path), []).append(name)
    return {path: found for path, found in names.items() if len(found) > 1}


@pytest.fixture(scope="session", autouse=True)
def _one_name_for_each_file() -> Iterator[None]:
    yield
    assert not files_under_two_names()


@pytest.fixture
def run_program(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Returns a function that runs ``python -m MODULE ARGUMENTS`` in an empty folder.

    The function returns the completed process with its standard output and standard error.
    """

    def run(
        module: str,
        *arguments: str,
        code: Path = ROOT,
        timeout: float = 300,
        **environment: str,
    ) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-P", "-m", module, *arguments],
            cwd=tmp_path,
            env=environment_of(code, **environment),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


def interrupted(
    *arguments: str, signal_number: int, work: Path, folder: Path, code: Path = ROOT
) -> str:
    """Runs ``isoscale ARGUMENTS``, sends a signal after the first finished job, returns the output.

    Args:
      *arguments: name of the command, and its flags.
      signal_number: the signal to send.
      work: folder of the command's workers.
      folder: working folder of the command.
      code: ROOT, or a copy of the code.
    """
    command = subprocess.Popen(
        [sys.executable, "-P", "-m", "isoscale.common.commands.main", *arguments],
        cwd=folder,
        env=environment_of(code),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    end = time.time() + 60
    while not [path for path in work.glob("*/results.jsonl") if path.read_text()]:
        assert time.time() < end
        time.sleep(0.01)
    command.send_signal(signal_number)
    said, _ = command.communicate(timeout=30)
    assert command.returncode == 128 + signal_number, said
    assert f"interrupted by {signal.Signals(signal_number).name}" in said
    return said
