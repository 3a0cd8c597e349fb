"""Tests that planted bugs are found: a few of those of ``python -m tests.mutations``."""

import ast
from pathlib import Path

import pytest

from tests.conftest import copy_of_the_code
from tests.mutations.__main__ import find
from tests.mutations.measuring import MEASURING
from tests.mutations.mutations import MUTATIONS

BY_NAME = {mutation.name: mutation for mutation in (*MUTATIONS, *MEASURING)}
BY_TESTS = (
    "the-second-clock-is-read-before-the-wait",
    "descendants-outlive-the-end",
    "a-file-is-written-in-place",
    "outliers-are-dropped",
)
BY_PARITY = (
    "torch-epsilon-moved",
    "ddp-normaliser-of-its-own-shard",
    "torch-square-kernels-transposed",
    "torch-dropout-of-another-rate",
    "tensorflow-one-slot-too-many",
    "torch-relu6-for-relu",
)


def test_there_are_enough_bugs_with_unique_names() -> None:
    assert len(BY_NAME) == len(MUTATIONS) + len(MEASURING)
    assert len(MUTATIONS) >= 78
    assert len(MEASURING) >= 35


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_the_code(tmp_path_factory.mktemp("code"))


@pytest.mark.parametrize("name", BY_NAME)
def test_each_bug_still_changes_the_code(name: str, code: Path) -> None:
    """If the code at the place of a bug has changed, the bug no longer applies."""
    path = code / BY_NAME[name].path
    before = path.read_text()
    try:
        BY_NAME[name].apply(code)
        assert ast.dump(ast.parse(path.read_text())) != ast.dump(ast.parse(before))
    finally:
        path.write_text(before)


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_TESTS)
def test_the_tests_find_the_bug(name: str) -> None:
    found, said = find(BY_NAME[name])
    assert found, said


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize("name", BY_PARITY)
def test_parity_finds_the_bug(name: str) -> None:
    found, said = find(BY_NAME[name])
    assert found, said
