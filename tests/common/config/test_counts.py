import pytest

from isoscale.common.config.counts import counted


@pytest.mark.parametrize("number, text", [(0, "0 runs"), (1, "1 run"), (2, "2 runs")])
def test_one_thing_is_not_in_the_plural(number: int, text: str) -> None:
    assert counted(number, "run") == text
