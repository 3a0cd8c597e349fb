"""What limits several devices, and recommendations: sentences, table, plot and export."""

import html
import json
import re
from pathlib import Path

import pytest

from isoscale.common.analysis.factors import factors_of
from isoscale.common.analysis.scaling import summarize_cells
from isoscale.common.analysis.settings import split_into_settings
from isoscale.common.report.study.answers.limits import limit_sentence
from isoscale.common.report.study.contents import Section, make_contents
from isoscale.common.report.study.data import load_study
from isoscale.common.report.study.tables.factors import COLUMNS, METHOD
from isoscale.common.report.study.write import write_report
from tests.common.analysis.test_factors import STRONG, WEAK, cells_of, factors_from, lines_of
from tests.common.report.fake_study import (
    make_cell,
    make_line,
    read_lines,
    turns_lines,
    write_study,
)
from tests.common.report.page import Page

QUIET = {"runs": 5, "noise": 0.002}


def section_of(folder: Path, seconds: dict[str, float], **kind: float) -> Section:
    study = load_study(write_study(folder / "s", lines_of(seconds, **(kind or QUIET)), steps=0))
    (section,) = make_contents(study, most_drawn=1).sections
    return section


def sentence_of(seconds: dict[str, float], **kind: float) -> str:
    (found,) = factors_from(lines_of(seconds, **(kind or QUIET)))
    return limit_sentence(found)


def test_the_report_says_what_limits_and_shows_every_factor(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "s", lines_of(STRONG, **QUIET), steps=0))
    page = Page(write_report(study).read_text(encoding="utf-8")).text
    markdown = (study.folder / "report.md").read_text(encoding="utf-8")
    (section,) = make_contents(study, most_drawn=0).sections
    (row,) = section.factors
    assert row[0] == "torch ddp on 2 devices"
    assert row[1].startswith("42 % [")
    assert [text.split(" ")[0] for text in row[2:6]] == ["0.91", "0.83", "0.92", "0.60"]
    assert row[6:7] == ["42 %"]
    assert row[7].startswith("1.50 [1.")
    for text in (page, html.unescape(markdown.replace("\\", ""))):
        for entry in (*COLUMNS, *row, *section.limits, *section.advice, METHOD):
            assert entry in text
    assert (study.folder / "plots" / f"{study.settings[0].slug}_factors.svg").is_file()
    cells = [line[0] for line in section.rows]
    assert "torch ddp, 2 of 2 devices independent" in cells


def test_the_largest_loss_is_named_with_the_others_behind_it() -> None:
    said = sentence_of(STRONG)
    assert said.startswith("torch ddp on 2 devices reaches 42 % [")
    assert (
        "of 2 times bare on 1 device. The largest loss is communication and waiting (0.60 [" in said
    )
    assert ", then smaller batch (0.83 [" in said
    assert re.search(r"R = compute / exposed communication = 1\.50 \[1\.\d+, 1\.\d+\]\.$", said)


def test_losses_that_cannot_be_told_apart_are_said_to_be_open() -> None:
    said = sentence_of({**STRONG, "several": 0.0072 / 0.835}, runs=5, noise=0.01)
    assert "which of the first two is larger is open" in said


def test_gains_and_no_losses_are_said() -> None:
    gain = sentence_of({**STRONG, "share": 0.004, "together": 0.004, "several": 0.004})
    assert "Gained by smaller batch 1." in gain
    even = dict.fromkeys(("bare", "one"), 0.010) | dict.fromkeys(
        ("share", "together", "several"), 0.005
    )
    assert "No factor is shown to lose anything." in sentence_of(even, runs=5, noise=0.02)


def test_factors_of_runs_that_must_not_be_compared_are_unknown() -> None:
    lines = lines_of(STRONG, **QUIET)
    for line in lines:
        if line["cell"].get("independent") == 2:
            line["disturbed"] = True
    (found,) = factors_from(lines)
    said = limit_sentence(found)
    assert "Its factors are unknown: all runs of a cell were disturbed from outside." in said


def test_too_few_runs_give_factors_without_intervals() -> None:
    said = sentence_of(STRONG, runs=2, noise=0.0)
    assert "for these processes only (a limit needs 3 groups or runs)" in said
    assert "wrapper 0.91, smaller batch 0.83" in said


@pytest.mark.parametrize(
    "changes, expected",
    [
        # 12 ms on two devices, 10 ms on one, 7.2 ms without communication.
        (
            {},
            [
                "use 1 device; more are slower",
                "communication and waiting must fall by 42 % (estimated from the factors)",
            ],
        ),
        ({"several": 0.008}, ["use 2 devices.", "can gain at most this", "2 devices reach 1.39x"]),
        ({"several": 0.0072}, ["use 2 devices.", "Communication is not shown to cost anything"]),
        (
            {"share": 0.009, "together": 0.011, "several": 0.015},
            [
                "use 1 device",
                "No faster link can make 2 devices pay",
                "smaller batch of each device costs",
            ],
        ),
    ],
)
def test_recommendations_follow_from_verdicts_and_factors(
    changes: dict[str, float], expected: list[str], tmp_path: Path
) -> None:
    (advice,) = section_of(tmp_path, {**STRONG, **changes}).advice
    assert advice.startswith("torch: ")
    assert "Against bare on 1 device: ddp on 2 devices" in advice
    for text in expected:
        assert text in advice


def test_an_undecided_pair_is_no_recommendation_for_more_devices(tmp_path: Path) -> None:
    close = {**STRONG, "several": 0.0099}
    (advice,) = section_of(tmp_path, close, runs=5, noise=0.02).advice
    assert "use 1 device; that more are faster is not shown" in advice
    assert "A faster link would make 2 devices pay: without communication, waiting and" in advice


def test_without_verdicts_there_is_no_recommendation(tmp_path: Path) -> None:
    (advice,) = section_of(tmp_path, STRONG, runs=2, noise=0.0).advice
    assert advice.startswith("torch: no recommendation: a verdict needs 3 runs")


def test_the_export_has_the_factors(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "s", lines_of(STRONG, **QUIET), steps=0))
    write_report(study)
    (found,) = json.loads((study.folder / "verdicts.json").read_text())["factors"]
    assert [entry["names"] for entry in found["factors"]] == [
        ["wrapper"], ["smaller batch"], ["hardware"], ["communication and waiting"],
    ]  # fmt: skip
    low, high = found["efficiency_fraction_low"], found["efficiency_fraction_high"]
    assert low < found["efficiency_fraction"] < high
    assert found["fall_of_communication_needed_fraction"] == pytest.approx(2 / 4.8, rel=0.05)


def test_weak_scaling_has_no_column_value_for_the_smaller_batch() -> None:
    lines = lines_of(WEAK, scaling="weak", **QUIET)
    summaries = summarize_cells(read_lines(lines), scaling="weak")
    (setting,) = split_into_settings(summaries, scaling="weak")
    (found,) = factors_of(setting, scaling="weak")
    assert "smaller batch" not in limit_sentence(found)


def test_one_group_says_what_holds_for_its_processes_only() -> None:
    """Two groups have an interval from their rounds, but show no limit."""
    cells = cells_of("strong")
    listed = [(cells[name], value) for name, value in STRONG.items()]
    (found,) = factors_from(turns_lines(listed, groups=2, rounds=8, process=0.003, window=0.01))
    assert all(factor.ratio.low is not None for factor in found.factors)
    said = limit_sentence(found)
    assert "for these processes only" in said
    assert "largest loss" not in said


def test_more_devices_are_recommended_only_if_they_are_shown_to_add(tmp_path: Path) -> None:
    four = {**cells_of("strong")["several"], "devices": 4, "mesh": {"data": 4}, "processes": 4}
    for seconds, expected in ((0.0079, "use 2 devices."), (0.005, "use 4 devices.")):
        lines = lines_of({**STRONG, "several": 0.008}, **QUIET)
        for run in range(5):
            wobble = 1 + 0.01 * (run - 2)
            lines.append(make_line(four, run, seconds * wobble, sequence=len(lines)))
        study = load_study(write_study(tmp_path / str(seconds), lines, steps=0))
        (section,) = make_contents(study, most_drawn=0).sections
        (advice,) = section.advice
        assert expected in advice
        assert ("That 4 devices add to 2 devices is not shown" in advice) == (seconds > 0.006)


def test_conditions_do_not_take_independent_processes_for_those_of_the_strategy(
    tmp_path: Path,
) -> None:
    cells = cells_of("strong")
    for name, cell in cells.items():
        jax = {"framework": "jax", "compile_mode": "jit"}
        strategy = "bare" if name == "bare" else "pjit"
        cells[name] = {**cell, **jax, "strategy": strategy}
    cells["several"]["processes"] = 1
    lines = [make_line(cells[n], 0, v, sequence=i) for i, (n, v) in enumerate(STRONG.items())]
    study = load_study(write_study(tmp_path / "s", lines, steps=0))
    facts = dict(study.conditions().facts)
    assert facts["Processes"] == "jax pjit one for all devices"


def test_an_independent_cell_without_others_has_a_place_in_the_report(tmp_path: Path) -> None:
    line = make_line(cells_of("strong")["together"], 0, 0.007, sequence=0)
    other = make_line(make_cell("torch", "bare", 1, global_batch_size=8), 0, 0.01, sequence=1)
    study = load_study(write_study(tmp_path / "s", [line, other], steps=0))
    write_report(study)
    assert "torch ddp, 2 of 2 devices independent" in (study.folder / "cells.csv").read_text()
