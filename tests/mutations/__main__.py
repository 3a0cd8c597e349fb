"""Plants each bug of ``mutations.py`` in a copy of the code, and shows that parity finds it.

    python -m tests.mutations [NAME ...]

For each one: the code with the bug must run (exit 3 means that it does not), and ``isoscale
parity`` must end with exit 1, where it ends with exit 0 without the bug. Exit code: 0 all were
found, 1 some were not.
"""

import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from isoscale.common.config.errors import ConfigError, require_choice
from isoscale.common.machine.cores import available_cores
from tests.conftest import copy_of_the_code, environment_of
from tests.mutations.mutations import MUTATIONS, Mutation

MAIN = "isoscale.common.commands.main"
UNHARMED, FOUND = 0, 1
STEPS = 10


def parity(code: Path, *flags: str, out_dir: Path) -> subprocess.CompletedProcess:
    """Runs ``isoscale parity`` of a copy of the code."""
    return subprocess.run(
        [
            *(sys.executable, "-P", "-m", MAIN, "parity", "--dtype=float64"),
            *(f"--steps={STEPS}", f"--out_dir={out_dir}", "--processes=1", *flags),
        ],
        cwd=code,
        env=environment_of(code),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def look(
    flags: tuple[str, ...], mutation: Mutation | None = None
) -> subprocess.CompletedProcess | None:
    """Returns what parity says of a copy of the code, with a bug or as it is; None: nothing."""
    with tempfile.TemporaryDirectory(prefix="isoscale-mutation-") as name:
        folder = Path(name)
        code = copy_of_the_code(folder)
        if mutation:
            mutation.apply(code)
        try:
            return parity(code, *flags, out_dir=folder / "out")
        except subprocess.TimeoutExpired:
            return None


def hunt(mutation: Mutation) -> tuple[bool, str]:
    """Returns whether parity finds a bug, and what it says."""
    answer = look(mutation.flags, mutation)
    if answer is None:
        return False, "no answer"
    said = [line for line in answer.stdout.splitlines() if line.startswith(("OUT", "FAILED"))]
    text = said[0] if said else (answer.stderr.strip().splitlines() or ["nothing found"])[-1]
    # A command that breaks leaves with 1, too: it must have found a difference.
    found = answer.returncode == FOUND and text.startswith("OUT OF BOUNDS")
    return found, f"exit {answer.returncode}: {text}"


def control(flags: tuple[str, ...]) -> str | None:
    """Returns what parity finds in the code as it is, where there should be nothing."""
    answer = look(flags)
    if answer is None:
        return "no answer"
    return None if answer.returncode == UNHARMED else answer.stdout + answer.stderr


def main() -> int:
    by_name = {mutation.name: mutation for mutation in MUTATIONS}
    names = sys.argv[1:] or list(by_name)
    try:
        for name in names:
            require_choice("mutation", name, by_name)
    except ConfigError as error:
        print(f"isoscale: {error}", file=sys.stderr)
        return 2
    began, missed = time.monotonic(), []

    with ThreadPoolExecutor(len(available_cores())) as pool:
        looks = list(dict.fromkeys(by_name[name].flags for name in names))
        for index, (flags, said) in enumerate(zip(looks, pool.map(control, looks), strict=True), 1):
            print(f"[{index}/{len(looks)}] without a bug: {' '.join(flags)}", flush=True)
            if said is not None:
                print(f"parity finds a difference in the code as it is:\n{said}")
                return 1
        results = pool.map(lambda name: hunt(by_name[name]), names)
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
