"""Plants bugs in copies of the code, one bug in each, and checks that each bug is found.

    python -m tests.mutations [NAME ...]

Parity must find the bugs of ``mutations.py``: ``isoscale parity`` must exit with 0 without the bug
and with 1 with the bug. Exit code 3 means that a run failed; it does not count.
Tests must find the bugs of ``measuring.py``: the tests that a bug names must all pass without the
bug, and at least one must fail with the bug.
Exit codes: 0 all bugs were found, 1 a bug was missed, 2 bad input.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from isoscale.common.config.errors import ConfigError, require_choice
from isoscale.common.machine.cores import available_cores
from tests.conftest import CODE, ROOT, copy_of_the_code, environment_of
from tests.mutations.measuring import MEASURING, MeasuringMutation
from tests.mutations.mutations import MUTATIONS, Mutation

MAIN = "isoscale.common.commands.main"
UNHARMED, FOUND = 0, 1
STEPS = 10
TEST_SECONDS = 20
"""Timeout of one test; with some bugs a test would wait for ever."""


def run_python(*arguments: str, code: Path, folder: Path) -> subprocess.CompletedProcess:
    """Runs Python in a folder with a copy of the code."""
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        cwd=folder,
        env=environment_of(code),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def parity(code: Path, *flags: str, out_dir: Path) -> subprocess.CompletedProcess:
    """Runs ``isoscale parity`` from a copy of the code."""
    return run_python(
        *("-m", MAIN, "parity", "--dtype=float64"),
        *(f"--steps={STEPS}", f"--out_dir={out_dir}", "--processes=1", *flags),
        code=code,
        folder=code,
    )


def look(
    flags: tuple[str, ...], mutation: Mutation | None = None
) -> subprocess.CompletedProcess | None:
    """Returns the result of parity with a copy of the code; None: timeout.

    Args:
      flags: flags of ``isoscale parity``.
      mutation: the bug to plant; None: no bug.
    """
    with tempfile.TemporaryDirectory(prefix="isoscale-mutation-") as name:
        folder = Path(name)
        code = copy_of_the_code(folder)
        if mutation:
            mutation.apply(code)
        try:
            return parity(code, *flags, out_dir=folder / "out")
        except subprocess.TimeoutExpired:
            return None


def find_by_parity(mutation: Mutation) -> tuple[bool, str]:
    """Returns (whether parity finds a bug, its message)."""
    answer = look(mutation.flags, mutation)
    if answer is None:
        return False, "no answer"
    said = [line for line in answer.stdout.splitlines() if line.startswith(("OUT", "FAILED"))]
    text = said[0] if said else (answer.stderr.strip().splitlines() or ["nothing found"])[-1]
    # A command that crashes also exits with 1: the output must name a difference.
    found = answer.returncode == FOUND and text.startswith("OUT OF BOUNDS")
    return found, f"exit {answer.returncode}: {text}"


def run_tests(
    tests: str, only: str | None, mutation: MeasuringMutation | None = None
) -> subprocess.CompletedProcess:
    """Runs tests in a copy of the code and of the tests.

    Args:
      tests: path of the file of tests.
      only: expression for ``pytest -k``; None: all tests of the file.
      mutation: the bug to plant; None: no bug.
    """
    with tempfile.TemporaryDirectory(prefix="isoscale-mutation-") as name:
        folder = Path(name)
        code = copy_of_the_code(folder)
        for top in CODE:  # tests look for the code in this folder
            (folder / top).symlink_to(code / top)
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "tests", folder / "tests", ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", folder)
        if mutation:
            mutation.apply(code)
        return run_python(
            *("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"),
            *(f"--timeout={TEST_SECONDS}", tests, *(["-k", only] if only else [])),
            code=code,
            folder=folder,
        )


def find_by_tests(mutation: MeasuringMutation) -> tuple[bool, str]:
    """Returns (whether a test finds a bug, the line with its message)."""
    answer = run_tests(mutation.tests, mutation.only, mutation)
    said = [line for line in answer.stdout.splitlines() if line.startswith("FAILED")]
    text = said[0] if said else (answer.stdout + answer.stderr).strip().splitlines()[-1]
    return answer.returncode == FOUND and bool(said), f"exit {answer.returncode}: {text}"


def find(mutation: Mutation | MeasuringMutation) -> tuple[bool, str]:
    """Returns (whether a bug is found, the message of its judge)."""
    if isinstance(mutation, Mutation):
        return find_by_parity(mutation)
    return find_by_tests(mutation)


def check_of(mutation: Mutation | MeasuringMutation) -> tuple[str, tuple[Any, ...]]:
    """Returns (judge, its arguments) of the control run, which must pass without the bug."""
    if isinstance(mutation, Mutation):
        return "parity", mutation.flags
    return "pytest", (mutation.tests, mutation.only)


def control(check: tuple[str, tuple[Any, ...]]) -> str | None:
    """Runs a judge on the code without a bug; returns None if it passes, else its output."""
    judge, arguments = check
    answer = look(arguments) if judge == "parity" else run_tests(*arguments)
    if answer is None:
        return "no answer"
    return None if answer.returncode == UNHARMED else answer.stdout + answer.stderr


def main() -> int:
    by_name = {mutation.name: mutation for mutation in (*MUTATIONS, *MEASURING)}
    names = sys.argv[1:] or list(by_name)
    try:
        for name in names:
            require_choice("mutation", name, by_name)
    except ConfigError as error:
        print(f"isoscale: {error}", file=sys.stderr)
        return 2
    began, missed = time.monotonic(), []

    with ThreadPoolExecutor(len(available_cores())) as pool:
        checks = list(dict.fromkeys(check_of(by_name[name]) for name in names))
        said_of = zip(checks, pool.map(control, checks), strict=True)
        for index, ((judge, arguments), said) in enumerate(said_of, 1):
            words = " ".join(word for word in (judge, *arguments) if word)
            print(f"[{index}/{len(checks)}] without a bug: {words}", flush=True)
            if said is not None:
                print(f"{judge} fails without a bug:\n{said}")
                return 1
        results = pool.map(lambda name: find(by_name[name]), names)
        for index, (name, (found, said)) in enumerate(zip(names, results, strict=True), 1):
            word = "found " if found else "MISSED"
            print(f"[{index}/{len(names)}] {word} {name}: {said}", flush=True)
            if not found:
                missed.append(name)
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    print(f"{len(names) - len(missed)} of {len(names)} found in {minutes}:{seconds:02d} minutes")
    if missed:
        print(f"missed: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
