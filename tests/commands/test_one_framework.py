"""With one framework installed, every command works for it and skips the others."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from isoscale.common.registry import lookup

MAIN = "isoscale.common.commands.main"
FRAMEWORKS = {"jax": ("jax", "flax", "optax"), "tensorflow": ("tensorflow",), "torch": ("torch",)}
HIDING = """
import importlib.machinery, sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hide())
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: (
    None if name.partition(".")[0] in {names!r} else find(name, package)
)
"""

Run = Callable[..., CompletedProcess]


def only(framework: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides all other frameworks and scikit-learn from the programs that a test starts."""
    hidden = [name for other, n in FRAMEWORKS.items() if other != framework for name in n]
    (folder / "hiding").mkdir()
    text = HIDING.format(names={*hidden, "sklearn"})
    (folder / "hiding/sitecustomize.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(folder / "hiding"))


def check_others_are_named(said: str, framework: str | None) -> None:
    said = " ".join(said.split())  # where a line breaks depends on the length of a path
    for other in FRAMEWORKS:
        assert (f"pip install 'isoscale[{other}]'" in said) == (other != framework), said


def test_without_a_framework_all_is_planned_and_nothing_runs(
    run_program: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(None, tmp_path, monkeypatch)
    planned = run_program(MAIN, "compare", "--devices=1", "--dry_run")
    assert planned.returncode == 0, planned.stderr
    check_others_are_named(planned.stdout, None)
    listed = run_program(MAIN, "tweaks")
    assert listed.returncode == 0, listed.stderr
    for command in ("parity", "relay"):
        model = "--model=mlp_plain" if command == "relay" else "--models=mlp_plain"
        refused = run_program(MAIN, command, model)
        assert refused.returncode == 2
        assert "isoscale[jax]" in refused.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("program", [MAIN, "isoscale.frameworks.torch_runner"])
def test_digits_without_scikit_learn_are_refused_in_one_line(
    run_program: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    only("torch", tmp_path, monkeypatch)
    which = ["compare", "--models=mlp_digits"] if program == MAIN else ["--model=mlp_digits"]
    answer = run_program(program, *which, "--dataset=digits")
    assert answer.returncode == 2
    assert answer.stderr.count("\n") == 1, answer.stderr
    assert answer.stderr.endswith(" -m pip install 'isoscale[digits]'\n")
    assert [path.name for path in tmp_path.iterdir()] == ["hiding"]


@pytest.mark.slow
@pytest.mark.parametrize("framework", lookup.frameworks())
def test_compare_skips_the_others(
    run_program: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, framework: str
) -> None:
    only(framework, tmp_path, monkeypatch)
    answer = run_program(
        MAIN, "compare", "--models=mlp_digits", "--strategies=bare", "--devices=1", "--runs=1",
        "--steps=5", "--study=s", "--tuning=stock",
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout + answer.stderr
    check_others_are_named(answer.stdout, framework)
    with (tmp_path / "runs/out/s/results.csv").open() as file:
        status = {row["framework"]: row["status"] for row in csv.DictReader(file)}
    assert status == {name: "ok" if name == framework else "skipped" for name in FRAMEWORKS}
    page = (tmp_path / "runs/out/s/report.html").read_text()
    check_others_are_named(page.replace("&#39;", "'"), framework)


@pytest.mark.slow
def test_the_other_commands_skip_the_others(
    run_program: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only("torch", tmp_path, monkeypatch)
    doctor = run_program(MAIN, "doctor", "--json", "--sgemm_size=256")
    found = json.loads(doctor.stdout)["frameworks"]
    missing = {name for name, entry in found.items() if entry["status"] == "missing"}
    assert (doctor.returncode, missing) == (0, {"jax", "tensorflow"}), doctor.stdout
    flags = ("--models=mlp_plain", "--steps=3", "--devices=1", "--dtype=float64", "--nopieces")
    parity = run_program(MAIN, "parity", *flags)
    assert parity.returncode == 0, parity.stdout + parity.stderr
    check_others_are_named(parity.stderr, "torch")
    assert "torch - NumPy" in parity.stdout
    document = json.loads((tmp_path / "runs/out/parity/parity.json").read_text())
    assert set(document["missing"]) == {"jax", "tensorflow"}
    assert all("/" not in reason for reason in document["missing"].values())  # no path of a user
    relay = run_program(MAIN, "relay", "--model=mlp_plain", "--steps=4")
    assert relay.returncode == 0, relay.stdout + relay.stderr
    check_others_are_named(relay.stderr, "torch")
    assert "torch:bare:1 > torch:ddp:2" in relay.stdout
