"""A study whose runs took turns, from its lines to its answers."""

import csv
import dataclasses
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.analysis.allocation import pace, stein
from isoscale.common.analysis.correction import Tests
from isoscale.common.analysis.scaling import CellSummary, compared, summarize_cells
from isoscale.common.analysis.turns import PairedRatio
from isoscale.common.report.study.answers.headline import headline
from isoscale.common.report.study.contents import make_contents
from isoscale.common.report.study.data import StudyData, load_study
from isoscale.common.report.study.plots.per_cell import LATENCY, STEP_TIME
from isoscale.common.report.study.turns import noise_remark
from isoscale.common.report.study.write import write_report
from isoscale.common.study.store import Store
from tests.common.report.fake_study import (
    grid_lines,
    make_cell,
    make_line,
    read_lines,
    turns_lines,
    write_study,
)
from tests.common.report.page import Page

JAX, TENSORFLOW, TORCH = (make_cell(name, "bare", 1) for name in ("jax", "tensorflow", "torch"))
NOISE = {"process": 0.005, "window": 0.01}


def summaries(lines: list[dict[str, Any]]) -> list[CellSummary]:
    return summarize_cells(read_lines(lines), scaling="strong")


def ratio(lines: list[dict[str, Any]]) -> PairedRatio:
    first, other = summaries(lines)
    (found,) = compared([(first, other)])
    assert isinstance(found, PairedRatio)
    return found


def test_the_ratio_is_taken_within_rounds() -> None:
    """A drift of 30 % that all cells share changes neither the ratio nor its interval."""
    cells = [(JAX, 0.010), (TORCH, 0.012)]
    still = ratio(turns_lines(cells, **NOISE))
    moved = ratio(turns_lines(cells, **NOISE, drift=0.3))
    assert moved.value == pytest.approx(still.value)
    assert (moved.low, moved.high) == pytest.approx((still.low, still.high))
    assert still.low is not None
    assert still.high is not None
    assert still.low < 1.2 < still.high < 1.23
    assert still.n == (4, 4)
    assert still.rounds == 24


def test_under_weak_scaling_the_ratio_counts_examples_not_steps() -> None:
    one = make_cell("torch", "bare", 1, global_batch_size=32)
    two = make_cell("torch", "ddp", 2, global_batch_size=64)
    lines = turns_lines([(one, 0.010), (two, 0.010)])
    speedup = summarize_cells(read_lines(lines), scaling="weak")[1].speedup
    assert speedup is not None
    assert speedup.value == pytest.approx(2)


def test_groups_of_another_session_are_not_paired() -> None:
    """A cell that was added later has groups with the same numbers, at another time."""
    lines = turns_lines([(JAX, 0.010)]) + turns_lines([(TORCH, 0.012)], began="2026-11-25")
    (found,) = compared([tuple(summaries(lines))])  # type: ignore[list-item]
    assert not isinstance(found, PairedRatio)
    later = turns_lines([(JAX, 0.010), (TORCH, 0.012)], groups=6, began="2026-11-25")
    mixed = [line for line in lines if line["cell"]["framework"] == "torch"][:3]
    kept = [x for x in later if x["cell"]["framework"] == "jax" or x["run"] >= 3]
    assert ratio([*kept, *mixed]).n == (6, 6)  # the same groups, by their name
    for line in mixed:
        line["turns"]["group"] = "elsewhere"
    assert ratio([*kept, *mixed]).n == (3, 3)


def test_disturbed_windows_do_not_count() -> None:
    cells = [(JAX, 0.010), (TORCH, 0.012)]
    lines = turns_lines(cells, disturbed=lambda cell, group, number: number == cell)
    found = ratio(lines)
    assert found.value == pytest.approx(1.2)
    assert found.rounds == 4 * (6 - 2)


def test_runs_that_followed_each_other_are_compared_by_welch() -> None:
    lines = turns_lines([(JAX, 0.010), (TORCH, 0.012)], **NOISE)
    for line in lines:
        if line["cell"]["framework"] == "torch":
            del line["turns"]
    (found,) = compared([tuple(summaries(lines))])  # type: ignore[list-item]
    assert not isinstance(found, PairedRatio)
    assert found.n == (4, 4)


def test_rounds_that_are_all_disturbed_give_no_verdict() -> None:
    lines = turns_lines([(JAX, 0.010), (TORCH, 0.012)], disturbed=lambda *_: True)
    for line in lines:
        line["disturbed"] = True
    (found,) = compared([tuple(summaries(lines))])  # type: ignore[list-item]
    assert found.low is None
    assert found.p is None


def study(folder: Path, lines: list[dict[str, Any]]) -> StudyData:
    return load_study(write_study(folder / "s", lines, steps=0))


def answers(found: StudyData) -> dict[tuple[str, str], str]:
    (verdicts,) = found.verdicts.values()
    return {(v.subject.split()[0], v.other.split()[0]): v.answer for v in verdicts}


def test_a_pair_has_one_of_four_answers(tmp_path: Path) -> None:
    seconds = {"jax": 0.010, "tensorflow": 0.0101, "torch": 0.012}
    cells = [(make_cell(name, "bare", 1), value) for name, value in seconds.items()]
    found = answers(study(tmp_path / "a", turns_lines(cells, process=0.001, groups=6)))
    assert found["jax", "torch"] == "faster"
    assert found["jax", "tensorflow"] == "faster, but within 5 %"
    alike = [(JAX, 0.01), (TORCH, 0.01)]
    same = answers(study(tmp_path / "b", turns_lines(alike, process=0.005, groups=6)))
    assert list(same.values()) == ["the same within 5 %"]
    noisy = answers(study(tmp_path / "c", turns_lines(alike, process=0.1, groups=3)))
    assert list(noisy.values()) == ["not decided"]
    few = answers(study(tmp_path / "d", turns_lines(alike, groups=2, **NOISE)))
    assert list(few.values()) == ["no verdict"]


def test_what_is_not_decided_has_the_minutes_that_would_decide_it(tmp_path: Path) -> None:
    lines = turns_lines([(JAX, 0.01), (TORCH, 0.0098)], process=0.05, groups=4)
    for line in lines:
        line["wall_seconds"] = 60.0
    found = study(tmp_path, lines)
    (section,) = make_contents(found, most_drawn=0).sections
    ((_, _, _, answer),) = section.verdicts
    said = re.fullmatch(
        r"not decided; estimated: (\d+) to (\d+) more minutes would decide it", answer
    )
    assert said, answer
    low, high = map(int, said.groups())
    assert 1 <= low < high
    write_report(found)
    assert answer in Page((found.folder / "report.html").read_text()).text


def test_planned_comparisons_are_those_of_usual_strategies_and_of_bases(tmp_path: Path) -> None:
    cells = [
        *((make_cell(name, "bare", 1), 0.01) for name in ("jax", "tensorflow", "torch")),
        *((make_cell("jax", name, 2), 0.006) for name in ("pjit", "pmap")),
        (make_cell("tensorflow", "mirrored", 2), 0.006),
        (make_cell("torch", "ddp", 2), 0.006),
    ]
    found = study(tmp_path, turns_lines(cells, **NOISE))
    (verdicts,) = found.verdicts.values()
    for verdict in verdicts:
        strategies = {verdict.subject.split()[1], verdict.other.split()[1]}
        within = verdict.question == "within the framework"
        expected = not within and ("pmap" not in strategies or verdict.question == "against bare")
        if verdict.question == "at any devices":
            expected = False
        assert verdict.tested.planned == expected, (verdict.question, strategies)


def test_planned_pairs_count_also_if_no_section_shows_them() -> None:
    """Holm corrects for the three pairs of three frameworks, although a report shows two."""
    cells = [(JAX, 0.010), (TENSORFLOW, 0.0102), (TORCH, 0.0104)]
    first, second, third = summaries(turns_lines(cells, **NOISE))
    shown, planned = Tests(), Tests()
    for tests in (shown, planned):
        tests.plan(first, second)
        tests.plan(first, third)
    planned.plan(second, third)
    for tests in (shown, planned):
        tests.settle()
    few, many = (tests.ask(first, third).p for tests in (shown, planned))
    assert few is not None
    assert many is not None
    assert many >= few
    assert planned.count == 3


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> StudyData:
    cells = [(JAX, 0.010), (TENSORFLOW, 0.0102), (TORCH, 0.012)]
    lines = turns_lines(
        cells,
        rounds=30,
        process=0.002,
        window=0.02,
        groups=5,
        disturbed=lambda *place: place == (0, 0, 0),
    )
    lines[0]["turns"] |= {"waiting_cpu_share": 0.3}
    lines[1]["turns"] |= {"warmup_stable": False}
    found = study(tmp_path_factory.mktemp("turns"), lines)
    write_report(found)
    return found


def test_the_report_says_how_turns_were_taken(written: StudyData) -> None:
    text = Page((written.folder / "report.html").read_text()).text
    for said in (
        "The runs of a setting took turns",
        "corrected together by Holm (1979)",
        "The margin of this report is 5 %",
        "5 groups, 450 windows of",
        "1 disturbed",
        "Noise of each cell, as standard deviations of one window and between processes",
        "used more than 2 % of a core, and may have slowed the others: jax bare (30 %)",
        "still falling at the end of warm-up in 1 run: mlp_medium tensorflow bare",
        "n = 5 groups with 149 rounds",
        "faster, but within 5 %",
    ):
        assert said in text, said


def test_the_steps_of_a_run_are_those_of_its_configuration(tmp_path: Path) -> None:
    lines = turns_lines([(JAX, 0.010), (TORCH, 0.012)])
    store = write_study(tmp_path / "s", lines)
    for path in store.folder.glob("cells/*/run_*/config.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "min_seconds": 0.3}))
    (section,) = make_contents(load_study(store), most_drawn=0).sections
    (said,) = [remark for remark in section.remarks if remark.startswith("Steps of a run")]
    assert "warm-up until the step time is stable, and windows of at least 0.3 s; at most 2" in said


def test_exports_have_the_four_answers(written: StudyData) -> None:
    found = json.loads((written.folder / "verdicts.json").read_text())["verdicts"]
    answers = {entry["answer"] for entry in found}
    assert "faster, but within 5 %" in answers
    assert all(entry["planned"] for entry in found)
    assert all(entry["p_outside_margin_corrected"] is not None for entry in found)


def test_the_noise_of_the_report_is_that_of_the_windows(written: StudyData) -> None:
    (remark,) = noise_remark(written.settings[0])
    found = re.findall(r"([\d.]+) % and ([\d.]+) %", remark)
    assert len(found) == 3
    assert all(1.5 < float(within) < 3.0 for within, _ in found)  # 2 % planted
    assert all(float(between) < 1.0 for _, between in found)  # 0.2 % planted


def test_equal_steps_are_compared_in_runs_of_different_length(tmp_path: Path) -> None:
    lines = turns_lines([(JAX, 0.01), (TORCH, 0.01)])
    for line in lines:
        fast = line["cell"]["framework"] == "jax"
        line["loss_last"] = 0.1 if fast else 1.0  # jax trained more steps
        line["turns"]["losses"] = {"1": 5.0, "2": 3.0} | ({"4": 0.1} if fast else {})
    found = study(tmp_path / "a", lines)
    assert [spread.alarm for spread in found.losses.values()] == [None]
    for line in lines:
        if line["cell"]["framework"] == "jax":
            line["turns"]["losses"]["2"] = 1.0
    apart = study(tmp_path / "b", lines)
    assert "did not train alike" in str(next(iter(apart.losses.values())).alarm)


def test_a_line_of_an_earlier_version_has_no_turns() -> None:
    (line,) = read_lines([make_line(JAX, 0, 0.01, sequence=0)])
    assert line.result.turns is None
    assert math.isfinite(line.result.speed)


def with_target(store: Store, target: float, first: int) -> Store:
    path = store.folder / "study.json"
    record = {**json.loads(path.read_text()), "target_ci": target, "first_stage": first}
    path.write_text(json.dumps(record))
    return store


@pytest.mark.parametrize("groups", [4, 12])
def test_the_target_is_judged_by_steins_rule(tmp_path: Path, groups: int) -> None:
    cells = [(JAX, 0.010), (TORCH, 0.012)]
    lines = turns_lines(cells, groups=groups, process=0.02, window=0.005)
    store = write_study(tmp_path / "s", lines, steps=0)
    plain = load_study(store)
    found = load_study(with_target(store, 0.02, 4))
    (usual,), (staged,) = (next(iter(s.verdicts.values())) for s in (plain, found))
    assert staged.ratio.value == pytest.approx(usual.ratio.value)
    first = summarize_cells(
        read_lines([line for line in lines if line["run"] < 4]), scaling="strong"
    )
    (stage,) = compared([(first[0], first[1])])
    assert isinstance(stage, PairedRatio)
    assert found.groups_needed == stein(stage, 0.02).needed > 4
    assert staged.ratio.degrees == 3  # of the first stage, after 12 groups, too
    assert plain.groups_needed == 0
    (sentence,) = [text for text in headline(found, None) if "target" in text]
    assert "The target of ±2 % is not reached: the widest" in sentence or groups == 12
    assert "Stein's two-stage rule" in sentence


def test_a_target_that_is_reached_says_so(tmp_path: Path) -> None:
    lines = turns_lines([(JAX, 0.010), (TORCH, 0.012)], groups=4, process=0.001)
    found = load_study(with_target(write_study(tmp_path / "s", lines, steps=0), 0.05, 4))
    assert found.groups_needed == 4
    assert any("±5 % is reached" in text for text in headline(found, None))


def test_a_target_is_not_reached_while_a_planned_ratio_has_no_interval(tmp_path: Path) -> None:
    cells = [(JAX, 0.010), (TENSORFLOW, 0.011), (TORCH, 0.012)]
    lines = turns_lines(cells, groups=4, process=0.001, disturbed=lambda cell, *_: cell == 2)
    found = load_study(with_target(write_study(tmp_path / "s", lines, steps=0), 0.05, 4))
    said = " ".join(headline(found, None))
    assert "not reached: a planned ratio has no interval" in said
    alone = turns_lines([(JAX, 0.010)], groups=4)
    single = load_study(with_target(write_study(tmp_path / "one", alone, steps=0), 0.05, 4))
    assert "but the study has none" in " ".join(headline(single, None))


def test_tokens_belong_to_the_examples_beside_them() -> None:
    """Of a run with a disturbed window, too: its total rate is ten times too slow there."""
    lines = turns_lines([(JAX, 0.010)], disturbed=lambda cell, group, number: number == 0)
    for line in lines:
        line["tokens_per_second"] = 8 * line["examples_per_second"]
    (cell,) = summaries(lines)
    assert cell.tokens_per_second is not None
    assert cell.examples_per_second is not None
    assert cell.tokens_per_second.median == pytest.approx(8 * cell.examples_per_second.median)
    assert cell.examples_per_second.median == pytest.approx(6400)


def test_a_run_whose_rounds_were_all_disturbed_has_no_figure(tmp_path: Path) -> None:
    cells = [(JAX, 0.010), (TENSORFLOW, 0.011), (TORCH, 0.012)]

    def disturbed(cell: int, group: int, number: int) -> bool:
        return cell == 0 or (cell == 1 and group == 0)  # jax always, tensorflow in one group

    lines = turns_lines(cells, disturbed=disturbed)
    lines[1]["step_seconds"]["median"] = 0.5
    found = study(tmp_path, lines)
    jax, tensorflow, _ = found.summaries
    assert jax.step_seconds is jax.examples_per_second is jax.speedup is None
    assert tensorflow.step_seconds is not None
    assert (tensorflow.step_seconds.n, tensorflow.step_seconds.high) == (3, pytest.approx(0.011))
    (section,) = make_contents(found, most_drawn=0).sections
    places = {name: index for index, name in enumerate(section.columns)}
    rows = {row[0].split()[0]: row for row in section.rows}
    assert rows["jax"][places["time per step, ms"]] == "-"
    said = "all rounds disturbed from outside in {} of 4: not in the figures"
    assert said.format(4) in rows["jax"][places["marks"]]
    assert said.format(1) in rows["tensorflow"][places["marks"]]
    assert "Not compared, all rounds disturbed from outside: jax." in section.sentences
    assert STEP_TIME.value_of(jax.ok[0]) is LATENCY.value_of(jax.ok[0]) is None
    write_report(found)
    table = list(csv.DictReader(io.StringIO((found.folder / "results.csv").read_text())))
    judged = {(x["framework"], x["run"]): x["step_seconds_judged"] for x in table}
    assert judged["jax", "0"] == judged["tensorflow", "0"] == ""
    assert float(judged["tensorflow", "1"]) == pytest.approx(0.011)


def test_the_report_says_how_the_study_divided_its_time(tmp_path: Path) -> None:
    cells = [(JAX, 0.010), (TORCH, 0.012)]
    store = write_study(
        tmp_path / "s", turns_lines(cells, process=0.01, window=0.02, rounds=40), steps=0
    )
    parts = load_study(store).noise
    assert [0.02 < part.within**0.5 < 0.04 for part in parts] == [True]  # 2 % for each cell
    made = pace(parts, done=[10] * 4, budget=500, start_seconds=20, round_seconds=2)
    assert made is not None
    path = store.folder / "study.json"
    record = json.loads(path.read_text()) | {"pace": dataclasses.asdict(made)}
    path.write_text(json.dumps(record))
    found = make_contents(load_study(store), most_drawn=0)
    (said,) = [text for text in found.method if text.startswith("How the study divided its time")]
    assert "after 4 groups of 10 rounds" in said
    assert f"{made.groups} more groups of {made.rounds} rounds" in said


def test_runs_that_follow_each_other_have_no_noise_of_rounds(tmp_path: Path) -> None:
    assert study(tmp_path, grid_lines()).noise == []
