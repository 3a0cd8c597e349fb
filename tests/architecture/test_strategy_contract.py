"""The three contracts of strategies have the same text; every strategy follows its contract."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from isoscale.common.registry import lookup
from tests.conftest import ROOT, copy_of_the_code

FRAMEWORKS = {"jax": "JAX", "tensorflow": "TensorFlow", "torch": "PyTorch"}
ONLY = {
    # Members that, by the contract's text, exist in some frameworks only.
    "place_state": {"jax"},
    "place_pool": {"jax", "tensorflow"},
    "split_rows": {"jax"},
    "scope": {"tensorflow"},
    "local": {"tensorflow"},
    "per_replica": {"tensorflow"},
    "sync": {"torch"},
    "scale_loss": {"torch"},
}
STRATEGIES = [(f, s) for f in FRAMEWORKS for s in lookup.strategies(f)]


def _contract(framework: str) -> tuple[str, dict[str, str]]:
    """Returns (text of the file, member -> its text)."""
    tree = ast.parse((ROOT / f"frameworks/{framework}_runner/strategy.py").read_text())
    (found,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    members = {n.name: ast.get_docstring(n) for n in found.body if isinstance(n, ast.FunctionDef)}
    assert found.name == "Strategy"
    assert all(members.values()), members
    return ast.get_docstring(tree) or "", {name: str(text) for name, text in members.items()}


def test_the_contracts_use_the_same_words() -> None:
    contracts = {framework: _contract(framework) for framework in FRAMEWORKS}
    heads = {
        " ".join(text.partition("Some methods")[0].replace(FRAMEWORKS[f], "NAME").split())
        for f, (text, _) in contracts.items()
    }
    assert len(heads) == 1
    bodies = {text.partition("Some methods exist")[2] for text, _ in contracts.values()}
    assert len(bodies) == 1
    for name in {name for _, members in contracts.values() for name in members}:
        having = {f for f, (_, members) in contracts.items() if name in members}
        assert having == ONLY.get(name, set(FRAMEWORKS)), name
        assert len({contracts[f][1][name] for f in having}) == 1, name
        if name in ONLY:
            assert name in next(iter(bodies)), f"{name}: the contract does not say why"


@pytest.mark.parametrize("framework, strategy", STRATEGIES)
def test_mypy_compares_a_strategy_with_the_contract(framework: str, strategy: str) -> None:
    """``make`` declares the contract as its return type, so mypy compares the strategy with it."""
    path = ROOT / f"frameworks/{framework}_runner/strategies/{strategy}.py"
    makes = [
        node
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "make"
    ]
    assert [ast.unparse(node.returns or ast.Constant(None)) for node in makes] == [
        "strategy.Strategy"
    ]


@pytest.mark.slow
def test_mypy_finds_a_missing_method(tmp_path: Path) -> None:
    code = copy_of_the_code(tmp_path)
    path = code / "frameworks/jax_runner/strategies/bare.py"
    text = path.read_text()
    assert text.count("def device_index(") == 1
    path.write_text(text.replace("def device_index(", "def device_number("))
    files = (path, path.parents[1] / "strategy.py", code / "common/measure/strategy.py")
    answer = subprocess.run(
        [
            sys.executable, "-m", "mypy",
            f"--config-file={os.devnull}", f"--cache-dir={os.devnull}",
            "--follow-imports=skip", "--explicit-package-bases", "--namespace-packages",
            *map(str, files),
        ],
        cwd=tmp_path, env={**os.environ, "MYPYPATH": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert 'missing following "Strategy" protocol member' in answer.stdout
    assert "device_index" in answer.stdout
