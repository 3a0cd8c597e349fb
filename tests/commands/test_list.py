"""Tests ``isoscale list``."""

import json
import shlex
from pathlib import Path

import pytest

from isoscale.common.commands.list import KINDS, flops_text
from isoscale.common.commands.main import main
from isoscale.common.registry import lookup
from tests.architecture.test_imports import FRAMEWORKS, check_not_loaded

NAMES = {
    "models": [*lookup.presets(), *lookup.families()],
    "frameworks": lookup.frameworks(),
    "strategies": lookup.all_strategies(),
    "datasets": lookup.data_sources(),
    "tweaks": lookup.tweak_names(),
    "recipes": [path.stem for path in (lookup.ROOT / "runs").glob("*.flags")],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_name_has_its_line_within_80_columns(kind: str, capsys) -> None:
    assert main(["list", kind]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    for name in NAMES[kind]:
        (first, *_) = [line for line in lines if line.split()[:1] in ([name], [f"{name}:"])]
        assert len(first.split()) > (1 if kind != "strategies" else 0)
    # Only a word that has no blanks may be longer, so that it can be copied.
    assert all(len(line) <= 80 or len(line.split()) == 1 for line in lines)
    assert said.out.isascii()
    assert said.err == ""


def test_models_have_their_exact_size_cost_and_frameworks(capsys) -> None:
    assert main(["list", "models", "--json"]) == 0
    found = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert list(found) == list(lookup.presets())
    for name, preset in lookup.presets().items():
        batch = preset.global_batch_size
        entry = found[name]
        assert entry["parameters"] == preset.spec.parameter_count
        assert entry["global_batch_size"] == batch
        assert entry["flops_per_step"] == preset.spec.training_flops(global_batch_size=batch)
        assert entry["frameworks"] == ["jax", "tensorflow", "torch"]
    assert main(["list", "models"]) == 0
    (line,) = [
        text for text in capsys.readouterr().out.splitlines() if text.startswith("  mlp_med")
    ]
    assert line.split() == ["mlp_medium", "258,432", "64", "72.8", "MFLOP"]


def test_the_command_of_each_recipe_can_be_typed(capsys, monkeypatch, tmp_path: Path) -> None:
    for place in (lookup.ROOT, tmp_path):
        monkeypatch.chdir(place)
        assert main(["list", "recipes"]) == 0
        lines = capsys.readouterr().out.splitlines()
        commands = [shlex.split(line) for line in lines if line.startswith("  isoscale ")]
        assert len(commands) == len(NAMES["recipes"])
        for command in commands:
            assert main([*command[1:], "--dry_run"]) == 0
        capsys.readouterr()


def test_the_default_strategy_and_processes_are_marked(capsys) -> None:
    assert main(["list", "strategies"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "nccl on GPU (one process per device, default)" in said
    assert said.count("default)") == len(lookup.frameworks())


def test_list_alone_shows_what_can_be_listed(capsys) -> None:
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    assert all(f"isoscale list {kind}" in said for kind in KINDS)


@pytest.mark.parametrize(
    "argv, said",
    [
        (["modles"], "unknown kind of list 'modles': did you mean 'models'? Known: datasets, "),
        (["model"], "did you mean 'models'?"),
        (["models", "tweaks"], "list takes one word; 'tweaks' is a second one"),
        (["--json"], "list --json needs one of: models, "),
        (["models", "--jsn"], "unknown flag '--jsn': did you mean '--json', "),
    ],
)
def test_bad_input_is_one_line(argv: list[str], said: str, capsys) -> None:
    assert main(["list", *argv]) == 2
    answer = capsys.readouterr()
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert answer.out == ""


@pytest.mark.parametrize(
    "count, text",
    [(5, "5 FLOP"), (999, "999 FLOP"), (999_600, "1 MFLOP"), (72_800_000, "72.8 MFLOP"),
     (180 * 10**9, "180 GFLOP"), (10**16, "10 PFLOP")],
)  # fmt: skip
def test_costs_have_three_digits_and_a_unit(count: int, text: str) -> None:
    assert flops_text(count) == text


def test_a_list_imports_no_framework(tmp_path: Path) -> None:
    code = """
import sys
from isoscale.common.commands.list import KINDS, run
for kind in KINDS:
    assert run([kind]) == 0
"""
    check_not_loaded(FRAMEWORKS, after=code, folder=tmp_path)
