"""What people type in front of, or instead of, a command."""

import subprocess
import sys
from collections.abc import Sequence

import pytest

from isoscale.common.commands.main import COMMANDS, main
from tests.conftest import environment_of

MAIN = "isoscale.common.commands.main"


@pytest.mark.parametrize("argv", [[], ["help"], ["-h"], ["--help"], ["help", "help"], ["-h", "-h"]])
def test_the_help_page_names_every_command(argv: list[str], capsys) -> None:
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in COMMANDS)
    assert max(map(len, said.splitlines())) <= 100


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_its_help_however_it_is_asked(name: str, capsys) -> None:
    asked = [["help", name], [name, "help"], ["--help", name], ["-h", name], [name, "-h"]]
    pages = set()
    for argv in [*asked, [name, "--help"]]:
        assert main(argv) == 0
        pages.add(capsys.readouterr().out)
    (page,) = pages
    assert f"isoscale {name}" in page
    assert "Exit code" in page


def test_the_program_of_a_framework_shows_its_help_too(run_program) -> None:
    answer = run_program("isoscale.frameworks.torch_runner", "help")
    assert answer.returncode == 0
    assert answer.stdout.startswith("Trains one model in torch")


@pytest.mark.parametrize("argv", [["--version"], ["-v"], ["-V"], ["version"]])
def test_the_version(argv: list[str], capsys) -> None:
    assert main(argv) == 0
    assert capsys.readouterr().out.startswith("isoscale 0.")


@pytest.mark.parametrize(
    "argv, said",
    [
        (["help", "comprae"], "unknown command 'comprae': did you mean 'compare'?"),
        (["repor"], "unknown command 'repor': did you mean 'report' or 'repair'?"),
        (["models"], "unknown command 'models': type 'isoscale list models'"),
        (["--models=gpt_tiny"], "unknown command '--models=gpt_tiny'"),
        (["version", "now"], "unknown command 'version'"),
    ],
)
def test_an_unknown_command_is_one_line(argv: list[str], said: str, capsys) -> None:
    assert main(argv) == 2
    answer = capsys.readouterr()
    assert answer.out == ""
    assert said in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["compare", "--help"], ["list", "tweaks"]])
def test_a_reader_that_wants_a_few_lines_gets_them(arguments: Sequence[str]) -> None:
    program = [sys.executable, "-P", "-m", MAIN, *arguments]
    answer = subprocess.run(
        ["bash", "-c", '"$@" | head -n 3', "bash", *program],
        env=environment_of(PYTHONUNBUFFERED="1"),  # each line is written by itself
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert len(answer.stdout.splitlines()) == 3
    assert answer.stderr == ""


def test_a_study_may_be_called_help(run_program) -> None:
    answer = run_program(MAIN, "report", "help", "--out_dir=nowhere")
    assert answer.returncode == 2
    assert "unknown study 'help'" in answer.stderr
