"""The second half of the kills of ``test_kills.py``: a pytest worker runs whole files."""

from pathlib import Path

import pytest

from tests.faults.test_kills import EACH, check, control

__all__ = ["control"]  # a fixture
pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.mark.parametrize("seed", range(21, 41))
def test_kills_at_random_moments_lose_double_and_repeat_nothing(
    seed: int,
    control: Path,
    tmp_path: Path,
) -> None:
    check(seed, EACH, control, tmp_path)
