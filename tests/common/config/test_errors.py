"""The texts of errors: short, with the nearest names."""

import pytest

from isoscale.common.config.errors import (
    ConfigError,
    require_number,
    require_whole,
    shown,
    suggestion,
    unknown,
)
from isoscale.common.config.flags import fail


def test_a_short_list_of_known_names_is_shown_whole() -> None:
    assert str(unknown("dtype", "float23", ["float64", "float32", "x"])) == (
        "unknown dtype 'float23': did you mean 'float32' or 'float64'? Known: float32, float64, x"
    )
    assert str(unknown("study", "x", [])) == "unknown study 'x'. Known: none"


def test_up_to_three_near_names_are_suggested_whatever_their_case() -> None:
    names = ["tiny_1", "tiny_2", "tiny_3", "tiny_4", "Huge"]
    assert suggestion("tiny_", names).count("tiny_") == 3
    assert suggestion("HUGE", names) == ": did you mean 'Huge'?"
    assert suggestion("zzz", names) == ""


def test_of_a_long_list_the_nearest_three_names_are_shown() -> None:
    names = [f"case_number_{n}" for n in range(1000)]
    text = str(unknown("case", "case_number_7x", names))
    assert text == (
        "unknown case 'case_number_7x': did you mean 'case_number_7', 'case_number_97' or "
        "'case_number_87'? 1000 names are known"
    )


def test_a_long_value_is_cut_and_compared_quickly() -> None:
    text = str(unknown("case", "x" * 10**6, ["y" * 10**4] * 100))
    assert len(text) < 500
    assert shown("x" * 81) == "x" * 60 + "... (81 characters)"
    assert shown("x" * 80) == "x" * 80


@pytest.mark.parametrize("value", [0, 11, 1.0, True, "5", None, 10**400])
def test_a_whole_number_out_of_range_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"must be a whole number, 1 to 10$"):
        require_whole("steps", value, maximum=10)


@pytest.mark.parametrize("value", [-0.1, 10.5, float("nan"), float("inf"), True, "5", None])
def test_a_number_out_of_range_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"must be a number, 0 to 10$"):
        require_number("rate", value, maximum=10)


def test_the_line_of_an_error_is_short(capsys: pytest.CaptureFixture) -> None:
    assert fail(ConfigError("given " + "x" * 10**6 + " allowed: y\n\x1b[31m")) == 2
    said = capsys.readouterr().err
    assert len(said) < 400
    assert said.startswith("isoscale: given xxx")
    assert said.endswith("x allowed: y \ufffd[31m\n")
