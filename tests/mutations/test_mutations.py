"""Parity finds bugs: some of those that ``python -m tests.mutations`` plants, one of each kind."""

import pytest

from tests.conftest import copy_of_the_code
from tests.mutations.__main__ import hunt
from tests.mutations.mutations import MUTATIONS

BY_NAME = {mutation.name: mutation for mutation in MUTATIONS}
SOME = (
    "torch-epsilon-moved",
    "ddp-normaliser-of-its-own-shard",
    "torch-square-kernels-transposed",
    "torch-dropout-of-another-rate",
    "tensorflow-one-slot-too-many",
)


def test_there_are_enough_of_them() -> None:
    assert len(BY_NAME) == len(MUTATIONS) >= 30


@pytest.mark.parametrize("name", BY_NAME)
def test_each_changes_what_is_there(name: str, tmp_path) -> None:
    """A bug whose place has gone would be no bug."""
    code = copy_of_the_code(tmp_path)
    before = (code / BY_NAME[name].path).read_text()
    BY_NAME[name].apply(code)
    assert (code / BY_NAME[name].path).read_text() != before


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize("name", SOME)
def test_parity_finds(name: str) -> None:
    found, said = hunt(BY_NAME[name])
    assert found, said
