"""The command reference is that of the code, and every command that a document shows is valid."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from isoscale.common.commands import compare
from isoscale.common.commands.main import COMMANDS
from isoscale.common.config.flags import HELP, split_words
from isoscale.common.registry import lookup
from tests.conftest import ROOT, environment_of
from tests.documents.commands import PAGE, flags_of
from tests.documents.pages import PAGES, commands

TAKE_WORDS = {"explain", "new", "list", "report", "diff", "history", "repair", "board", "doctor"}
# Prints the page as another machine would: one core, a narrow terminal, no framework.
ELSEWHERE = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
sys.modules.update(dict.fromkeys(("jax", "flax", "tensorflow", "torch")))
os.chdir("/")
from tests.documents.commands import page
print(page(), end="")
"""


@pytest.mark.parametrize("program", ["from tests.documents.commands import page\n"
                                     "print(page(), end='')", ELSEWHERE],
                         ids=["here", "elsewhere"])  # fmt: skip
def test_the_command_reference_is_up_to_date_on_every_machine(program: str) -> None:
    environment = environment_of(COLUMNS="70", LINES="20", PYTHONUTF8="1")
    environment.pop("ISOSCALE_EXTRA", None)
    answer = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{program}"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == PAGE.read_text(encoding="utf-8"), "type: python -m tests.documents"


def test_documents_show_many_commands() -> None:
    found = {page.name: len(commands(page)) for page in PAGES}
    assert found["README.md"] >= 10
    assert sum(found.values()) >= 60


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_document_shows_is_valid(page: Path, tmp_path: Path) -> None:
    for line in commands(page):
        program, *arguments = shlex.split(line.removeprefix(".venv/bin/"))
        if program == "make":
            check_make(arguments)
        elif program == "isoscale":
            check_isoscale(arguments, tmp_path)
        else:
            check_python(arguments[1], arguments[2:])


def test_every_extra_that_a_document_names_exists() -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {page.name: set(re.findall(r"\.\[([a-z-]+)\]", page.read_text())) for page in PAGES}
    assert named["README.md"] >= {"jax", "tensorflow", "torch", "all", "digits"}
    assert set.union(*named.values()) <= set(known)


def check_make(arguments: list[str]) -> None:
    """Checks that all targets are targets of the Makefile."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert {word for word in arguments if "=" not in word} <= set(targets), arguments


def check_isoscale(arguments: list[str], folder: Path) -> None:
    """Parses the flags; plans the study where nothing but the line is needed."""
    command, *rest = arguments or HELP
    if command in HELP or command == "--version":
        return
    assert command in COMMANDS, arguments
    words, flags = split_words(rest)
    assert not words or command in TAKE_WORDS, arguments
    if set(flags) & set(HELP):
        return
    fv = flags_of(f"isoscale {command}")
    fv.parse(flags)
    if command == "compare" and not (fv.resume or fv.extra or fv.platform == "gpu"):
        assert compare.read_request([*flags, "--allow_oversubscription", f"--out_dir={folder}"])


def check_python(module: str, arguments: list[str]) -> None:
    """Parses the flags of a framework's program; checks the paths of pytest."""
    if module == "pytest":
        paths = [argument for argument in arguments if not argument.startswith("-")]
        assert all((ROOT / path).exists() for path in paths), arguments
    elif module.startswith("tests."):
        assert (ROOT / module.replace(".", "/") / "__main__.py").exists(), module
    else:
        assert module in map(lookup.program, lookup.frameworks()), module
        if not set(arguments) & set(HELP):
            flags_of(f"python -m {module}").parse(arguments)
