"""Sentences say what the verdicts say, word for word."""

from pathlib import Path
from typing import Any

from common.report.answers import answer, glance
from common.report.study_data import StudyData, load_study
from tests.common.report.fake_study import make_cell, make_line, write_study

# Six runs whose geometric mean is 1, the same for each cell: ratios come out exact.
SPREAD = (0.98, 0.99, 1.0, 1.0, 1 / 0.99, 1 / 0.98)
Cell = tuple[str, str, int]


def study(folder: Path, seconds: dict[Cell, float], *, runs: int = 6, **changes: Any) -> StudyData:
    lines = [
        make_line(make_cell(*cell), run, value * SPREAD[run], sequence=run, **changes)
        for cell, value in seconds.items()
        for run in range(runs)
    ]
    return load_study(write_study(folder / "s", lines, steps=0))


def sentences(found: StudyData) -> list[str]:
    (setting,) = found.settings
    return answer(found, setting)


def test_one_is_faster_than_all_others(tmp_path: Path) -> None:
    found = study(
        tmp_path,
        {
            ("jax", "bare", 1): 0.010,
            ("tensorflow", "bare", 1): 0.012,
            ("torch", "bare", 1): 0.020,
        },
    )
    (sentence,) = sentences(found)
    assert sentence == (
        "On 1 device jax bare is fastest (10.00 ms/step): 1.20x [1.18, 1.22] faster than "
        "tensorflow bare (n = 6 runs each, p < 0.001) and 2.00x [1.96, 2.04] faster than torch "
        "bare (n = 6 runs each, p < 0.001)."
    )
    row = glance(found, found.settings[0])
    assert row.choice == "jax bare on 1 device (10.00 ms/step)"
    assert row.sure == (
        "1.20x [1.18, 1.22] (n = 6 runs each, p < 0.001) over tensorflow bare on 1 device"
    )
    assert row.scaling == "not measured"


def test_a_tie_is_called_one_and_the_rest_is_not(tmp_path: Path) -> None:
    found = study(
        tmp_path,
        {
            ("jax", "bare", 1): 0.0100,
            ("tensorflow", "bare", 1): 0.0101,
            ("torch", "bare", 1): 0.020,
        },
    )
    (sentence,) = sentences(found)
    assert sentence.startswith(
        "On 1 device no single fastest is shown: between jax bare (10.00 ms/step) and tensorflow "
        "bare (ratio 1.010x [0.992, 1.028], n = 6 runs each, p = "
    )
    assert ") no difference is shown. jax bare is 2.00x [1.96, 2.04] faster than" in sentence
    row = glance(found, found.settings[0])
    assert row.choice == "jax bare on 1 device (10.00 ms/step) or tensorflow bare on 1 device"
    assert row.sure.startswith("no difference shown between them; 2.00x [1.96, 2.04]")


def test_who_scales_and_who_does_not(tmp_path: Path) -> None:
    found = study(
        tmp_path,
        {
            ("jax", "bare", 1): 0.010,
            ("jax", "pjit", 2): 0.005,
            ("tensorflow", "bare", 1): 0.010,
            ("tensorflow", "mirrored", 2): 0.0125,
            ("torch", "bare", 1): 0.010,
            ("torch", "ddp", 2): 0.0101,
        },
    )
    text = sentences(found)
    assert (
        "Faster on more devices than bare on one: jax pjit on 2 devices 2.00x [1.96, 2.04] "
        "(100 % efficiency)." in text
    )
    assert (
        "Slower on more devices than bare on one: tensorflow mirrored on 2 devices 0.80x "
        "[0.79, 0.81] (40 % efficiency)." in text
    )
    assert any(
        s.startswith("No difference shown from bare on one device: torch ddp on 2 devices 0.99")
        for s in text
    )
    assert (
        glance(found, found.settings[0]).scaling == "yes: jax pjit on 2 devices 2.00x [1.96, 2.04]"
    )
    assert not any(s.startswith("More than ideal") for s in text)


def test_more_than_ideal_is_not_believed(tmp_path: Path) -> None:
    found = study(tmp_path, {("jax", "bare", 1): 0.010, ("jax", "pjit", 2): 0.004})
    assert any(s.startswith("More than ideal: jax pjit on 2 devices") for s in sentences(found))


def test_one_run_is_measured_and_nothing_more(tmp_path: Path) -> None:
    seconds = {("jax", "bare", 1): 0.010, ("torch", "bare", 1): 0.020, ("torch", "ddp", 2): 0.012}
    found = study(tmp_path, seconds, runs=1)
    text = sentences(found)
    assert text[0] == (
        "On 1 device there is no verdict (one run of a cell; 3 are needed). Measured, without an "
        "interval: jax bare 9.80 ms/step and torch bare 19.60 ms/step."
    )
    row = glance(found, found.settings[0])
    assert row.choice == "jax bare on 1 device was fastest (9.80 ms/step)"
    assert row.sure.startswith("no verdict: one run of a cell")
    assert row.scaling.startswith("no verdict; highest speedup")


def test_disturbed_runs_are_told_beside_the_verdict(tmp_path: Path) -> None:
    seconds = {("jax", "bare", 1): 0.010, ("torch", "bare", 1): 0.020}
    (sentence,) = sentences(study(tmp_path, seconds, disturbed=True))
    assert sentence.endswith("12 of these 12 runs were disturbed by other programs.")


def test_who_has_no_result_is_named(tmp_path: Path) -> None:
    lines = [
        make_line(make_cell("jax", "bare", 1), 0, 0.01, sequence=0),
        make_line(
            make_cell("torch", "bare", 1), 0, 0.01, sequence=1, status="failed", error="broke"
        ),
    ]
    text = sentences(load_study(write_study(tmp_path / "s", lines, steps=0)))
    assert text == [
        "On 1 device only jax bare was measured (10.00 ms/step): there is nothing to compare.",
        "Not compared, for want of a result: torch.",
    ]
