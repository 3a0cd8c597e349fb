"""Tuned cells that are the same configuration as stock: every view says so, and tests nothing."""

import csv
import html
import io
import json
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.report.board.event_files import FOLDER, write_event_files
from isoscale.common.report.board.hparams import experiment_of
from isoscale.common.report.board.scaling import scaling_events
from isoscale.common.report.study.answers.lanes import sentences
from isoscale.common.report.study.answers.setting import answer
from isoscale.common.report.study.data import StudyData, load_study
from isoscale.common.report.study.drift import drift
from isoscale.common.report.study.exports import cells_csv, verdicts_record
from isoscale.common.report.study.plots.waterfall import waterfall_plots
from isoscale.common.report.study.problems import problems
from isoscale.common.report.study.tables.lanes import rows
from isoscale.common.report.study.tables.printed import print_in_short, print_lanes
from isoscale.common.report.study.write import write_report
from tests.common.analysis.test_shared import NONE
from tests.common.analysis.test_waterfall import SECONDS, TWEAKS
from tests.common.report.fake_study import ladder_lines, without_copies, write_study
from tests.common.report.page import Page

SAME = "same configuration: tuned adds no tweak"
GOLD = [["gold", "no gold here"]]
STOCK, TUNED = (f"mlp_medium, global batch 64, float32, tuning {x}" for x in ("stock", "tuned"))


def study(folder: Path, tweaks: dict = TWEAKS, *, steps: int = 0, **changes: Any) -> StudyData:
    """Returns a study in which the tuned lane of frameworks without tweaks is that of stock."""
    lines, shared = without_copies(ladder_lines(tweaks, SECONDS), **changes)
    return load_study(write_study(folder / "s", lines, steps=steps, shared=shared))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> StudyData:
    found = study(tmp_path_factory.mktemp("w"), steps=20)
    write_report(found)
    return found


def lane_verdicts(found: StudyData) -> list[dict[str, Any]]:
    return [v for v in verdicts_record(found)["verdicts"] if v["question"] == "tuned against stock"]


def test_the_table_says_same_configuration_instead_of_a_ratio(written: StudyData) -> None:
    (lanes,) = written.lanes
    table = {tuple(row[:2]): row[2:] for row in rows(lanes)}
    stock = table["tensorflow bare", "stock"]
    assert table["tensorflow bare", "tuned = stock: same configuration"] == [
        *stock[:2], "-", SAME, "",
    ]  # fmt: skip
    assert not any("no difference shown" in row[3] for row in table.values() if row[2] == "-")


def test_the_sentences_say_same_configuration(written: StudyData) -> None:
    found = sentences(written.lanes[0])
    assert (
        "On 1 device, same configuration in stock and tuned: tensorflow bare (tuned adds no tweak)."
    ) in found
    (gains,) = (text for text in found if "all tweaks together" in text)
    assert "tensorflow" not in gains
    assert any("% of the gap remains in the tuned lane" in text for text in found)
    (said,) = (text for text in answer(written, written.settings[1]) if "runs of stock" in text)
    assert said == (
        "The same configuration as stock, with the runs of stock: tensorflow bare on 1 device "
        "(tuned adds no tweak)."
    )
    assert not any("runs of stock" in text for text in answer(written, written.settings[0]))


def test_a_gap_between_the_same_configurations_is_told_once(tmp_path: Path) -> None:
    found = study(tmp_path, {"jax": {}, "tensorflow": {}, "torch": {"t": 0.9}})
    said = sentences(found.lanes[0])
    assert said[1] == (
        "On 1 device, tuned: the comparison of tensorflow bare with jax bare is that of stock, "
        "because each is the same configuration in both lanes."
    )
    assert not any("of the gap remains" in text or "% of the stock gap" in text for text in said)
    assert "torch bare 1.11x" in said[-1]


def test_the_reason_of_a_left_out_tweak_is_told(tmp_path: Path) -> None:
    found = study(tmp_path, left_out=GOLD)
    reason = "gold is left out (no gold here)"
    assert [row[5] for row in rows(found.lanes[0]) if row[1].startswith("tuned = ")] == [
        f"same configuration: {reason}"
    ]
    assert f"tensorflow bare ({reason})" in " ".join(sentences(found.lanes[0]))
    assert (
        "Left out of the tuned lane: tensorflow gold: no gold here." in found.conditions().warnings
    )
    assert [v["reason_without_verdict"] for v in lane_verdicts(found)[1:]] == [reason]


def test_the_settings_of_the_tuned_lane_compare_frameworks(written: StudyData) -> None:
    assert [setting.title for setting in written.settings] == [STOCK, TUNED]
    frameworks = {v.other_cell.cell.framework: v for v in written.verdicts[TUNED] if v.other_cell}
    assert set(frameworks) == {"jax", "torch"}  # tensorflow is the fastest in both lanes
    for verdict in frameworks.values():
        assert verdict.subject_cell.shared is not None
        assert verdict.outcome == "faster"
    assert len(written.measured) == 2 + 1 + 2 + 2
    assert len(written.shared) == 1
    assert written.repeated == []


def test_a_setting_that_is_the_one_of_stock_is_not_repeated(tmp_path: Path, capsys: Any) -> None:
    found = study(tmp_path, NONE)
    title = "mlp_medium, global batch 64, float32"
    assert [setting.title for setting in found.settings] == [title]
    assert {cell.cell.tuning for cell in found.summaries} == {"stock"}
    assert len(found.repeated) == len(found.shared) == 3
    assert found.tests == 3
    print_in_short(found)
    text = " ".join(capsys.readouterr().out.split())
    assert (
        "3 of 3 tuned cells are the same configuration as stock (tuned adds no tweak). The "
        "configuration was run once: its runs count in both lanes, and no test compares it with "
        "itself."
    ) in text
    assert f"The tuned lane has no tables of its own for {title}: they would repeat" in text
    assert dict(found.conditions().facts)["Tuning"] == "stock; tuned: same configuration as stock"
    write_report(found)
    page = (found.folder / "report.md").read_text()
    assert "Of 2 comparisons of two cells, 2 show a difference" in page
    assert "3 cells in 1 setting, 18 runs" in page


def test_pairs_of_both_lanes_are_counted_once(tmp_path: Path) -> None:
    """tensorflow against jax is one comparison; torch differs between the lanes."""
    found = study(tmp_path, {"jax": {}, "tensorflow": {}, "torch": {"t": 0.9}})
    assert sum(map(len, found.verdicts.values())) == 4
    write_report(found)
    assert "Of 3 comparisons of two cells" in (found.folder / "report.md").read_text()


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_the_report_says_same_configuration(written: StudyData, name: str) -> None:
    text = (written.folder / name).read_text()
    text = Page(text).text if name.endswith("html") else html.unescape(text)
    assert SAME in text
    assert "1 of 3 tuned cells is the same configuration as stock (tuned adds no tweak)." in text
    assert "tuned: jax pages, dense, nothing; tensorflow none, same configuration as stock" in text
    assert "7 cells in 2 settings" not in text  # two of the seven are between the lanes
    assert "5 cells in 2 settings and 2 between stock and tuned, 42 runs: 42 ok" in text


def test_the_plots_say_same_configuration(written: StudyData) -> None:
    (plot,) = waterfall_plots(written.lanes[0], ["jax", "tensorflow", "torch"])
    svg = (written.folder / f"plots/{plot.slug}.svg").read_text()
    assert "tuned = stock: same configuration" in svg
    page = (written.folder / "report.md").read_text()
    note = "The same configuration as stock, with the runs of stock: tensorflow bare on 1 device"
    captions = [line for line in page.splitlines() if line.startswith("*") and "tuning " in line]
    assert len(captions) > 4
    assert all((note in line) == ("tuning tuned" in line) for line in captions)


def test_exports_name_the_stock_cell(written: StudyData) -> None:
    table = list(csv.DictReader(io.StringIO(cells_csv(written))))
    column = "same_configuration_as_cell_id"
    (shared,) = (row for row in table if row[column])
    (stock,) = (row for row in table if row["cell_id"] == shared[column])
    assert (shared["framework"], shared["tuning"], shared["tweaks"]) == ("tensorflow", "tuned", "")
    assert stock["tuning"] == "stock"
    assert shared["examples_per_second"] == stock["examples_per_second"]
    assert shared["marks"] == "same configuration as stock (tuned adds no tweak)"
    assert stock["marks"] == ""
    (jax, found) = lane_verdicts(written)
    assert jax["outcome"] == "faster"
    assert (found["subject_cell_id"], found["other_cell_id"]) == (
        shared["cell_id"],
        stock["cell_id"],
    )
    assert found["outcome"] == "same configuration"
    assert found["reason_without_verdict"] == "tuned adds no tweak"
    assert {found[name] for name in ("ratio", "ratio_low", "ratio_high", "p_corrected")} == {None}
    known = {row["cell_id"] for row in table}
    record = verdicts_record(written)
    for verdict in record["verdicts"]:
        assert {verdict["subject_cell_id"], verdict["other_cell_id"]} <= known
    assert f"all {written.tests} tests" in record["rule"]
    # Every run is in results.csv once, under the cell that it measured.
    runs = list(csv.DictReader(io.StringIO((written.folder / "results.csv").read_text())))
    assert len(runs) == 42
    assert sum(row["framework"] == "tensorflow" for row in runs) == 6


def test_cells_of_a_setting_that_is_not_repeated_are_exported(tmp_path: Path) -> None:
    found = study(tmp_path, NONE)
    table = list(csv.DictReader(io.StringIO(cells_csv(found))))
    assert [row["tuning"] for row in table] == ["stock"] * 3 + ["tuned"] * 3
    assert [row["same_configuration_as_cell_id"] for row in table[3:]] == [
        row["cell_id"] for row in table[:3]
    ]
    assert {v["outcome"] for v in lane_verdicts(found)} == {"same configuration"}


def test_tensorboard_shows_the_curve_of_stock_and_each_run_once(written: StudyData) -> None:
    write_event_files(written, plots=None)
    runs = list((written.folder / FOLDER / "runs").glob("*/run_*"))
    assert len(runs) == 42
    tags = [
        v.tag for event in scaling_events(written)["tensorflow bare"] for v in event.summary.value
    ]
    assert f"{TUNED}/examples_per_second" in tags
    (info,) = (i for i in experiment_of([written]).hparam_infos if i.name == "tweaks")
    tweaks = ["mkl", "none", "pages", "pages, dense", "pages, dense, nothing"]
    assert list(info.domain_discrete) == tweaks


def test_runs_are_counted_once(written: StudyData, tmp_path: Path) -> None:
    lines, shared = without_copies(ladder_lines(TWEAKS, SECONDS))
    for line in lines:
        line["disturbed"] = line["cell"]["framework"] == "tensorflow"
    found = load_study(write_study(tmp_path / "s", lines, steps=0, shared=shared))
    ((_, entries),) = problems(found)
    assert len(entries) == 6
    change = drift(written)
    assert change is not None
    assert change[3] == 42
    assert "But 6 of these 36 runs" not in " ".join(sentences(found.lanes[0]))
    assert "6 of these 30 runs were disturbed" in " ".join(sentences(found.lanes[0]))


@pytest.mark.parametrize("columns", ["80", "120"])
def test_explain_prints_same_configuration(
    written: StudyData, capsys: Any, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    print_lanes(written.lanes)
    text = capsys.readouterr().out
    assert "no test compares them" in " ".join(text.split())
    words = text.split()
    assert all(word in words for word in SAME.split())
    assert "…" not in text


def test_a_study_that_measured_both_is_read_as_before(tmp_path: Path) -> None:
    lines = ladder_lines(TWEAKS, SECONDS)
    _, shared = without_copies(lines)
    before = load_study(write_study(tmp_path / "a", lines, steps=0))
    after = load_study(write_study(tmp_path / "b", lines, steps=0, shared=shared))
    assert before.shared == after.shared == []
    assert rows(before.lanes[0]) == rows(after.lanes[0])
    (row,) = (
        r for r in rows(after.lanes[0]) if r[:2] == ["tensorflow bare", "tuned = stock: no tweak"]
    )
    assert row[5].startswith("no difference shown (n = 6 runs each")
    for found in (before, after):
        text = json.dumps({**verdicts_record(found), "study": "s"})
        assert text.count('"same configuration"') == 0
    assert cells_csv(before) == cells_csv(after)
