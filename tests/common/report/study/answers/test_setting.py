"""The sentences about a setting agree with its verdicts, word for word."""

from pathlib import Path
from typing import Any

import pytest

from isoscale.common.report.study.answers.headline import headline
from isoscale.common.report.study.answers.setting import Glance, answer, glance
from isoscale.common.report.study.data import StudyData, load_study
from tests.common.report.fake_study import make_cell, make_line, write_study

# Factors of six runs with a geometric mean of 1. All cells use the same factors: ratios are exact.
SPREAD = (0.98, 0.99, 1.0, 1.0, 1 / 0.99, 1 / 0.98)
Cell = tuple[str, str, int]


def study(
    folder: Path, seconds: dict[Cell, float], *, runs: dict[str, int] | int = 6, **changes: Any
) -> StudyData:
    """Returns a study; ``runs`` can be a number, or framework -> number."""
    lines = []
    for cell, value in seconds.items():
        for run in range(runs if isinstance(runs, int) else runs[cell[0]]):
            line = make_line(make_cell(*cell), run, value * SPREAD[run], sequence=len(lines))
            lines.append({**line, **changes})
    return load_study(write_study(folder / "s", lines, steps=0))


def sentences(found: StudyData) -> list[str]:
    (setting,) = found.settings
    return answer(found, setting)


def glanced(found: StudyData) -> Glance:
    (setting,) = found.settings
    return glance(found, setting)


def test_one_thing_is_not_counted_in_the_plural(tmp_path: Path) -> None:
    two = {("jax", "bare", 1): 0.010, ("torch", "bare", 1): 0.012}
    found = study(tmp_path / "two", two)
    assert headline(found, None)[0] == "The only comparison of two cells shows a difference."
    (winner,) = headline(found, None)[1:]
    assert "for 1 of 1 setting, each" in winner
    equal = {**two, ("torch", "bare", 1): 0.010, ("torch", "ddp", 2): 0.020}
    assert headline(study(tmp_path / "three", equal), None)[0] == (
        "Of 2 comparisons of two cells, 1 shows a difference and 1 shows none."
    )
    one = glanced(study(tmp_path / "one", {("jax", "bare", 1): 0.010}, runs=1, disturbed=True))
    assert one.sure.endswith("note: the only run was disturbed by other programs")


def test_the_fastest_cell_is_named_with_its_ratio_to_each_other_cell(tmp_path: Path) -> None:
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
        "On 1 device jax bare (10.00 ms/step, 6400 examples/s) is fastest: 1.20x [1.18, 1.22] "
        "faster than tensorflow bare (n = 6 runs each, corrected p < 0.001) and 2.00x [1.96, 2.04] "
        "faster than torch bare (n = 6 runs each, corrected p < 0.001)."
    )
    row = glanced(found)
    assert row.choice == "jax bare on 1 device (10.00 ms/step, 6400 examples/s)"
    assert row.sure == (
        "1.20x [1.18, 1.22] (n = 6 runs each, corrected p < 0.001) over tensorflow bare on 1 device"
    )
    assert row.scaling == "not measured"


def test_cells_without_a_shown_difference_are_named_as_a_tie(tmp_path: Path) -> None:
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
        "On 1 device no single fastest cell is shown: no difference is shown between jax bare "
        "(10.00 ms/step, 6400 examples/s) and tensorflow bare (ratio 1.010x [0.992, 1.029], n = 6 "
        "runs each, corrected p = "
    )
    assert "). jax bare is 2.00x [1.96, 2.04] faster than" in sentence
    row = glanced(found)
    assert row.choice.endswith("examples/s) or tensorflow bare on 1 device")
    assert row.sure.startswith("no difference shown between them; 2.00x [1.96, 2.04]")


def test_a_tie_between_strategies_of_one_framework_is_reported(tmp_path: Path) -> None:
    found = study(
        tmp_path,
        {
            ("jax", "bare", 1): 0.0100,
            ("jax", "pjit", 1): 0.0101,
            ("jax", "pmap", 1): 0.0150,
            ("torch", "bare", 1): 0.020,
        },
    )
    (sentence,) = sentences(found)
    assert sentence.startswith(
        "On 1 device jax bare (10.00 ms/step, 6400 examples/s; within its framework, no difference "
        "from jax pjit is shown) is fastest: 2.00x"
    )


def test_cells_are_grouped_by_whether_more_devices_help(tmp_path: Path) -> None:
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
        "Faster on more devices than bare on one device: jax pjit on 2 devices 2.00x [1.96, 2.04] "
        "(100 % efficiency)." in text
    )
    assert (
        "Slower on more devices than bare on one device: tensorflow mirrored on 2 devices 0.80x "
        "[0.79, 0.81] (40 % efficiency)." in text
    )
    assert any(
        s.startswith("No difference from bare on one device is shown: torch ddp on 2 devices 0.99")
        for s in text
    )
    yes, no, even = glanced(found).scaling.split("; ")
    assert yes == "yes: jax pjit on 2 devices 2.00x [1.96, 2.04]"
    assert no == "no, slower: tensorflow mirrored on 2 devices 0.80x [0.79, 0.81]"
    assert even.startswith("not shown: torch ddp on 2 devices 0.99")
    assert not any(s.startswith("More than ideal") for s in text)


def test_a_speedup_above_the_ideal_is_reported(tmp_path: Path) -> None:
    seconds = {("jax", "bare", 1): 0.010, ("jax", "pjit", 2): 0.004}
    text = sentences(study(tmp_path / "six", seconds))
    assert any(s.startswith("More than ideal: jax pjit on 2 devices") for s in text)
    text = sentences(study(tmp_path / "one", seconds, runs=1))
    assert not any(s.startswith("More than ideal") for s in text)  # one run gives no verdict


def test_one_run_of_each_cell_gives_no_verdict(tmp_path: Path) -> None:
    seconds = {
        ("jax", "bare", 1): 0.010,
        ("jax", "pjit", 1): 0.011,
        ("torch", "bare", 1): 0.020,
        ("torch", "ddp", 2): 0.012,
    }
    found = study(tmp_path, seconds, runs=1)
    assert sentences(found)[0] == (
        "On 1 device there is no verdict: a verdict needs 3 runs of each cell. Measured, without "
        "an interval: jax bare 9.800 ms/step, 6531 examples/s (one run) and torch bare 19.60 "
        "ms/step, 3265 examples/s (one run)."
    )
    row = glanced(found)
    assert (
        row.choice
        == "jax bare on 1 device (9.800 ms/step, 6531 examples/s) had the highest throughput"
    )
    assert row.sure.startswith("no verdict: a cell has one run only; ")
    assert row.scaling.startswith("no verdict; highest speedup")


def test_a_framework_with_one_run_does_not_prevent_other_verdicts(tmp_path: Path) -> None:
    seconds = {
        ("jax", "bare", 1): 0.010,
        ("tensorflow", "bare", 1): 0.005,
        ("torch", "bare", 1): 0.020,
    }
    found = study(tmp_path, seconds, runs={"jax": 6, "tensorflow": 1, "torch": 6})
    (sentence,) = sentences(found)
    assert "jax bare (10.00 ms/step, 6400 examples/s) is fastest: 2.00x" in sentence
    assert sentence.endswith(
        " Too few runs for a verdict on tensorflow bare (one run, 4.900 ms/step, 13061 examples/s)."
    )
    assert glanced(found).sure.endswith("no verdict on tensorflow bare on 1 device (one run)")


def test_the_opening_table_names_the_smallest_number_of_runs(tmp_path: Path) -> None:
    seconds = {("jax", "bare", 1): 0.010, ("torch", "bare", 1): 0.020}
    found = study(tmp_path, seconds, runs={"jax": 6, "torch": 2})
    assert glanced(found).sure.startswith("no verdict: a cell has 2 runs only; ")


def test_strategies_are_compared_if_one_framework_alone_has_two_devices(tmp_path: Path) -> None:
    seconds = {
        ("jax", "bare", 1): 0.010,
        ("jax", "pjit", 2): 0.006,
        ("jax", "pmap", 2): 0.008,
        ("torch", "bare", 1): 0.020,
    }
    text = sentences(study(tmp_path, seconds))
    assert text[1].startswith("On 2 devices jax pjit (6.000 ms/step, 10667 examples/s) is fastest")


def test_disturbed_runs_are_reported_with_the_verdict(tmp_path: Path) -> None:
    seconds = {("jax", "bare", 1): 0.010, ("torch", "bare", 1): 0.020}
    found = study(tmp_path, seconds, disturbed=True)
    (sentence,) = sentences(found)
    assert sentence.endswith("But 12 of these 12 runs were disturbed by other programs.")
    assert "disturbed" in glanced(found).sure


def test_partly_successful_cells_are_reported_with_the_verdict(tmp_path: Path) -> None:
    seconds = {("jax", "bare", 1): 0.010, ("torch", "bare", 1): 0.020}
    found = study(tmp_path, seconds)
    lines = [line.to_record() for line in found.lines]
    for line in lines[:3]:
        line |= {"status": "diverged", "error": "loss is not finite"}
    found = load_study(write_study(tmp_path / "some", lines, steps=0))
    expected = "only 3 of the 6 runs of jax bare on 1 device were successful: 3 diverged"
    assert expected in sentences(found)[0]
    assert expected in glanced(found).sure


def test_medians_in_the_opposite_order_are_reported(tmp_path: Path) -> None:
    """One very slow run changes a geometric mean, but not a median."""
    seconds = {("jax", "bare", 1): 0.010, ("torch", "bare", 1): 0.011}
    lines = [line.to_record() for line in study(tmp_path, seconds).lines]
    lines[0]["examples_per_second"] /= 3
    found = load_study(write_study(tmp_path / "slow", lines, steps=0))
    (sentence,) = sentences(found)
    assert "between torch bare (11.00 ms/step" in sentence
    assert "; but the other cell has the higher median" in sentence


@pytest.mark.parametrize(
    "key, factor, said",
    [
        ("loss_first", 1.001, "do not compute the same thing"),
        ("loss_last", 3.0, "did not train alike"),
    ],
)
def test_cells_with_different_losses_are_not_compared(
    tmp_path: Path, key: str, factor: float, said: str
) -> None:
    seconds = {("jax", "bare", 1): 0.010, ("torch", "bare", 1): 0.020}
    lines = [line.to_record() for line in study(tmp_path, seconds).lines]
    lines[0][key] *= factor
    found = load_study(write_study(tmp_path / "apart", lines, steps=0))
    (sentence,) = sentences(found)
    assert said in sentence
    assert glanced(found).choice == "not comparable"


def test_different_batch_sizes_may_have_different_losses(tmp_path: Path) -> None:
    lines = [
        make_line(
            make_cell("torch", strategy, devices, global_batch_size=64 * devices),
            0,
            0.01,
            sequence=devices,
            loss_first=5.0 + devices,
        )
        for strategy, devices in (("bare", 1), ("ddp", 2))
    ]
    store = write_study(tmp_path / "weak", lines, steps=0, scaling="weak")
    text = sentences(load_study(store))
    assert not any("compute" in sentence for sentence in text)


def test_frameworks_without_a_result_are_named(tmp_path: Path) -> None:
    lines = [
        make_line(make_cell("jax", "bare", 1), 0, 0.01, sequence=0),
        make_line(
            make_cell("torch", "bare", 1), 0, 0.01, sequence=1, status="failed", error="broke"
        ),
    ]
    text = sentences(load_study(write_study(tmp_path / "s", lines, steps=0)))
    assert text == [
        "On 1 device only jax bare (10.00 ms/step, 6400 examples/s) was measured, so there is no "
        "comparison.",
        "Not compared, because a result is missing: torch.",
    ]


def test_a_faster_strategy_with_too_few_runs_is_mentioned(tmp_path: Path) -> None:
    seconds = {("jax", "pjit", 2): 0.01, ("jax", "pmap", 2): 0.02, ("torch", "ddp", 2): 0.03}
    lines = [
        make_line(make_cell(*cell), run, value * SPREAD[run], sequence=index * 10 + run)
        for index, (cell, value) in enumerate(seconds.items())
        for run in range(2 if "pjit" in cell else 3)
    ]
    found = load_study(write_study(tmp_path / "s", lines, steps=0))
    text = sentences(found)[0]
    assert "jax pmap" in text.split(" is fastest")[0]
    assert "Too few runs for a verdict on jax pjit (2 runs, 9.8" in text
    assert "no verdict on jax pjit on 2 devices (2 runs)" in glanced(found).sure


def test_no_framework_wins_while_a_faster_cell_of_another_has_too_few_runs(tmp_path: Path) -> None:
    seconds = {("jax", "bare", 1): 0.02, ("torch", "bare", 1): 0.03, ("torch", "ddp", 1): 0.01}

    def winner(ddp_runs: int) -> str:
        lines = [
            make_line(make_cell(*cell), run, value * SPREAD[run], sequence=index * 10 + run)
            for index, (cell, value) in enumerate(seconds.items())
            for run in range(ddp_runs if "ddp" in cell else 6)
        ]
        folder = tmp_path / str(ddp_runs)
        return " ".join(headline(load_study(write_study(folder, lines, steps=0)), None))

    assert "jax is shown to be the fastest framework" in winner(0)
    assert "is shown to be the fastest framework" not in winner(2)
    assert "torch is shown to be the fastest framework" in winner(6)


def test_one_framework_alone_is_compared_by_strategy_and_keeps_its_caveats(tmp_path: Path) -> None:
    seconds = {("torch", "bare", 1): 0.02, ("torch", "ddp", 1): 0.03, ("torch", "ddp", 2): 0.01}
    text = " ".join(sentences(study(tmp_path, seconds)))
    assert "With the best number of devices for each strategy, torch ddp" in text
    alone = study(tmp_path / "alone", {("torch", "bare", 1): 0.02}, disturbed=True)
    (text,) = sentences(alone)
    assert "there is no comparison. But 6 of these 6 runs were disturbed" in text


def test_cells_that_share_cores_are_not_called_missing(tmp_path: Path) -> None:
    lines = [
        make_line(make_cell(*cell, oversubscribed=True), run, 0.02, sequence=run)
        for cell in (("jax", "pjit", 4), ("torch", "ddp", 4))
        for run in range(3)
    ]
    found = load_study(write_study(tmp_path / "s", lines, steps=0))
    text = " ".join(sentences(found))
    assert "a result is missing" not in text
    assert "Not compared, because devices shared cores: jax and torch." in text
    assert glanced(found).choice == "nothing comparable"
