"""The list of the kinds of fault is true: every test that it names exists."""

import ast

import pytest

from tests.conftest import ROOT
from tests.faults.kinds import KINDS

LEAST = 45


def test_at_least_45_kinds_of_fault_are_tested() -> None:
    assert len(KINDS) >= LEAST


@pytest.mark.parametrize("kind", KINDS)
def test_the_test_of_a_kind_of_fault_exists(kind: str) -> None:
    path, _, name = KINDS[kind].partition("::")
    tree = ast.parse((ROOT / path).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_test_of_a_fault_belongs_to_a_kind_or_checks_the_checks() -> None:
    """A new file of faults must add its kinds here."""
    named = {test.partition("::")[0] for test in KINDS.values()}
    files = {f"tests/faults/{path.name}" for path in (ROOT / "tests/faults").glob("test_*.py")}
    assert files - named == {
        "tests/faults/test_kinds.py",
        "tests/faults/test_more_kills.py",
    }
