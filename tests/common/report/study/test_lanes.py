"""Stock and tuned: table, sentences, plots and pages agree with the analysis."""

import csv
import html
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.analysis.scaling import summarize_cells
from isoscale.common.config.cell import Cell
from isoscale.common.report.board.hparams import hparams_of
from isoscale.common.report.drawing.style import COLORS
from isoscale.common.report.study.answers.lanes import sentences
from isoscale.common.report.study.conditions import make_conditions
from isoscale.common.report.study.data import StudyData, load_study
from isoscale.common.report.study.tables.lanes import rows
from isoscale.common.report.study.tables.printed import print_lanes
from isoscale.common.report.study.write import write_report
from tests.common.analysis.test_waterfall import SECONDS, TWEAKS, failed, two, without
from tests.common.report.fake_study import (
    grid_lines,
    ladder_lines,
    make_cell,
    make_line,
    read_lines,
)
from tests.common.report.fake_study import write_study as write
from tests.common.report.page import Page


def study(folder: Path, lines: list[dict[str, Any]], **options: Any) -> StudyData:
    return load_study(write(folder / "s", lines, steps=0, **options))


def said(folder: Path, lines: list[dict[str, Any]]) -> list[str]:
    (lanes,) = study(folder, lines).lanes
    return sentences(lanes)


def test_ladder_cells_are_left_out_of_the_ordinary_report(tmp_path: Path) -> None:
    found = study(tmp_path, ladder_lines(TWEAKS, SECONDS))
    assert {cell.cell.tuning for cell in found.summaries} == {"stock", "tuned"}
    assert {cell.cell.tuning for cell in found.ladder} == {"ladder"}
    assert [setting.title for setting in found.settings] == [
        "mlp_medium, global batch 64, float32, tuning stock",
        "mlp_medium, global batch 64, float32, tuning tuned",
    ]
    assert list(found.verdicts) == list(found.losses) == [s.title for s in found.settings]
    names = [name for s in found.settings for name, _ in s.cells]
    assert names == [f"{name} bare on 1 device" for name in ("jax", "tensorflow", "torch")] * 2
    # A study without lanes has neither lanes nor ladder.
    ordinary = study(tmp_path / "o", grid_lines(runs=1))
    assert ordinary.lanes == []
    assert ordinary.ladder == []


def test_the_table_has_every_step(tmp_path: Path) -> None:
    (lanes,) = study(tmp_path, ladder_lines(TWEAKS, SECONDS)).lanes
    table = rows(lanes)
    assert [row[:2] for row in table] == [
        ["jax bare", "stock"],
        ["jax bare", "+ pages"],
        ["jax bare", "+ dense"],
        ["jax bare", "+ nothing = tuned"],
        ["jax bare", "tuned against stock"],
        ["tensorflow bare", "stock"],
        ["tensorflow bare", "tuned = stock: no tweak"],
        ["torch bare", "stock"],
        ["torch bare", "+ mkl = tuned"],
    ]
    assert table[0][2:] == ["6", "40.00 [39.20, 40.82]", "-", "-", ""]
    assert table[1][2:5] == ["6", "32.00 [31.36, 32.65]", "1.25x [1.23, 1.27]"]
    assert table[1][5] == "faster (n = 6 runs each, corrected p < 0.001)"
    assert table[3][4].startswith("1.000x [0.98")
    assert table[3][5].startswith("no difference shown (")
    assert table[4][2:5] == ["", "", "2.50x [2.45, 2.55]"]


def test_the_table_marks_missing_results_and_intervals(tmp_path: Path) -> None:
    lines = ladder_lines(TWEAKS, SECONDS, runs=2)
    lines = without(failed(lines, tweaks=["pages"]), tweaks=["pages", "dense"])
    (lanes,) = study(tmp_path, lines).lanes
    table = rows(lanes)
    assert table[0][3] == "39.40 (no interval from 2 runs)"
    assert table[1][2:6] == ["0", "no result: 2 failed", "-", "-"]
    assert table[2][2:6] == ["0", "not measured", "-", "-"]
    assert table[3][3:6] == ["15.76 (no interval from 2 runs)", "-", "-"]
    assert table[4][4:6] == ["2.50x (no interval from 2 runs)", "no verdict"]


def test_the_sentences_give_the_explained_share_of_the_gap(tmp_path: Path) -> None:
    found = said(tmp_path, two((0.04, 0.01), (0.02, 0.01)))
    assert found[0] == (
        "On 1 device, stock: the gap between torch bare (10.00 ms/step) and jax bare (40.00 "
        "ms/step) is 4.00x [3.93, 4.07] (n = 6 runs each, corrected p < 0.001)."
    )
    assert found[1].startswith(
        "On 1 device, tuned: the gap between torch bare (10.00 ms/step) and jax bare"
    )
    assert re.fullmatch(
        r"On 1 device 50 % of the gap remains in the tuned lane \(interval 4\d to 5\d %, from the "
        r"intervals of the two gaps\); the tweaks explain the other 50 %\.",
        found[2],
    )
    assert found[3] == (
        "On 1 device, all tweaks together against stock: torch bare 1.000x [0.982, 1.019], no "
        "difference shown; jax bare 2.00x [1.96, 2.04], faster."
    )
    assert len(found) == 4


def test_a_gap_says_where_the_times_beside_it_have_another_quotient(tmp_path: Path) -> None:
    """The ratio is of geometric means, the times are medians: one slow run tells them apart."""
    spread = (1.0, 1.0, 1.0, 1.0, 1.0, 2.0)
    lines = ladder_lines({"jax": {"a": 0.5}}, {"jax": 0.04}, spread=spread)
    lines += ladder_lines({"torch": {"b": 1.0}}, {"torch": 0.01})
    first = said(tmp_path, lines)[0]
    assert "torch bare (10.00 ms/step) and jax bare (40.00 ms/step) is 4.49x" in first
    assert "; the judged ratio, not the quotient of the two medians)" in first


def test_the_sentences_for_a_closed_gap_a_grown_gap_and_an_unchanged_gap(tmp_path: Path) -> None:
    gone = said(tmp_path / "gone", two((0.04, 0.01), (0.01, 0.01)))
    assert "On 1 device, tuned: no difference is shown between" in gone[1]
    assert "0 % of the gap remains in the tuned lane (interval 0 to" in gone[2]
    assert "the tweaks explain the other 100 %" in gone[2]
    assert gone[2].endswith("; no difference is shown in the tuned lane.")
    grown = said(tmp_path / "grown", two((0.02, 0.01), (0.02, 0.005)))
    assert (
        "the gap is larger in the tuned lane: the tuned gap is 200 % of the stock gap" in grown[2]
    )
    same = said(tmp_path / "same", two((0.02, 0.01), (0.02, 0.0099)))
    assert "no change of the gap between the lanes is shown: the tuned gap is" in same[2]


def test_without_a_gap_no_share_is_reported(tmp_path: Path) -> None:
    found = said(tmp_path, two((0.0101, 0.01), (0.02, 0.01)))
    assert found[2] == (
        "On 1 device there is no gap to explain: no difference is shown in the stock lane."
    )
    assert not any("explain " in s and "%" in s for s in found)


def test_too_few_runs_give_no_verdict_and_no_share(tmp_path: Path) -> None:
    found = said(tmp_path, two((0.04, 0.01), (0.02, 0.01), runs=2))
    assert found[0].startswith("On 1 device, stock: there is no verdict between torch bare")
    assert found[0].endswith("4.00x (n = 2 runs each, no interval).")
    assert found[2].endswith("too few runs to say which share of the gap the tweaks explain.")
    assert "faster" not in " ".join(found)


def test_a_changed_order_is_reported(tmp_path: Path) -> None:
    shown = said(tmp_path / "shown", two((0.02, 0.01), (0.005, 0.01)))
    assert (
        "On 1 device the order changes from torch, jax (stock) to jax, torch (tuned); the "
        "difference is shown in both lanes for torch against jax." in shown
    )
    even = said(tmp_path / "even", two((0.02, 0.01), (0.00999, 0.01)))
    assert any("but this change is not shown: for each pair" in sentence for sentence in even)


def test_frameworks_left_out_of_the_gap_are_named(tmp_path: Path) -> None:
    lines = ladder_lines(TWEAKS, SECONDS)
    found = said(tmp_path / "a", failed(lines, framework="jax", tuning="tuned"))
    assert found[0] == (
        "On 1 device the gap leaves out jax bare: a result in stock or in tuned is missing."
    )
    found = said(tmp_path / "b", ladder_lines({"jax": {}}, SECONDS))
    assert found == [
        "On 1 device there is no gap to explain. Frameworks with results in both lanes: jax bare.",
        "On 1 device the tuned lane has no tweaks for any framework.",
    ]


def test_disturbed_runs_and_stray_cells_are_reported(tmp_path: Path) -> None:
    lines = two((0.04, 0.01), (0.02, 0.01))
    for line in lines[:4]:
        line["disturbed"] = True
    cell = make_cell("jax", "bare", 1, tuning="ladder", tweaks=["other"])
    lines.append(make_line(cell, 0, 0.03, sequence=len(lines)))
    found = said(tmp_path, lines)
    assert "But 4 of these 24 runs were disturbed by other programs." in found
    assert (
        "These cells are not rungs from stock to tuned and are left out: jax bare with other."
        in found
    )


def test_an_alarm_replaces_the_answer(tmp_path: Path) -> None:
    lines = ladder_lines(TWEAKS, SECONDS)
    for line in lines:
        line["loss_first"] *= 1.001 if line["cell"].get("tweaks") == ["pages"] else 1
    (sentence,) = said(tmp_path, lines)
    assert "do not compute the same thing" in sentence


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> StudyData:
    lines = ladder_lines(TWEAKS, SECONDS)
    lines += failed(ladder_lines(TWEAKS, SECONDS, model="gpt_tiny", runs=2), tweaks=["pages"])
    for sequence, line in enumerate(lines):
        line["sequence"] = sequence
    found = load_study(write(tmp_path_factory.mktemp("w") / "s", lines, steps=0))
    write_report(found)
    return found


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_the_report_contains_all_sentences_and_rows_about_lanes(
    written: StudyData, name: str
) -> None:
    text = (written.folder / name).read_text()
    # Markdown has < as &lt;.
    text = Page(text).text if name.endswith("html") else html.unescape(text)
    section = text[
        text.index("The rungs lead from stock (the installed packages, without tweaks)") :
    ]
    section = section[: section.index("Comparisons" if "html" in name else "| comparison |")]
    for lanes in written.lanes:
        for sentence in sentences(lanes):
            assert sentence in section
        for row in rows(lanes):
            for value in row:
                assert value in section
    # The model with 6 runs: jax 3 steps and the total, other frameworks 1 step, 2 x 3 pairs.
    assert "corrected for all tests of this report together" in section
    assert "no result: 2 failed" in section
    assert "Stock and tuned" in text


def test_every_run_of_the_ladder_is_in_the_report(written: StudyData) -> None:
    text = Page((written.folder / "report.html").read_text()).text
    assert "12 cells in 4 settings and 4 between stock and tuned, 64 runs" in text
    assert "jax bare ladder pages on 1 device (mlp" not in text  # the cell did not fail
    assert "jax bare ladder pages on 1 device (gpt_tiny, global batch 64, float32), run 0" in text
    runs = text[text.rindex("All runs") :]
    assert runs.count("jax bare ladder pages on 1 device") == 8


def test_the_plot_has_the_colours_of_the_frameworks(written: StudyData) -> None:
    stem = "mlp_medium_global_batch_64_float32_waterfall_1"
    svg = (written.folder / f"plots/{stem}.svg").read_text()
    assert (written.folder / f"plots/{stem}.png").exists()
    for color in COLORS[:3]:
        assert color.lower() in svg
    for label in ("jax bare: stock", "+ pages", "+ nothing", "tuned = stock: no tweak"):
        assert label in svg
    page = (written.folder / "report.html").read_text()
    title = "From stock to tuned: mlp_medium, global batch 64, float32, on 1 device"
    assert f'aria-label="{title}"' in page
    assert f"![{title}](plots/{stem}.png)" in (written.folder / "report.md").read_text()
    failed_plot = written.folder / "plots/gpt_tiny_global_batch_64_float32_waterfall_1.svg"
    assert "no result" in failed_plot.read_text()


def test_a_report_without_lanes_has_no_section_on_stock_and_tuned(tmp_path: Path) -> None:
    found = study(tmp_path, grid_lines(runs=1))
    write_report(found)
    for name in ("report.html", "report.md"):
        assert "Stock and tuned" not in (found.folder / name).read_text()


def test_the_manifest_lists_tweaks_by_lane_and_framework(tmp_path: Path) -> None:
    def fact(lines: list) -> str:
        summaries = summarize_cells(read_lines(lines), scaling="strong")
        return dict(make_conditions(summaries, [], scaling="strong").facts)["Tuning"]

    lines = without(ladder_lines(TWEAKS, SECONDS), tuning="ladder")
    assert fact(lines) == "stock; tuned: jax pages, dense, nothing; tensorflow none; torch mkl"
    lines += ladder_lines({"jax": {"pages": 0.9}}, SECONDS, model="gpt_tiny")
    assert fact(lines) == (
        "stock; tuned: jax pages, dense, nothing (mlp_medium); jax pages (gpt_tiny); "
        "tensorflow none; torch mkl"
    )
    lines += ladder_lines({"jax": {}}, SECONDS, strategy="pjit")
    assert "jax none (mlp_medium pjit)" in fact(lines)
    assert "jax pages, dense, nothing (mlp_medium bare)" in fact(lines)
    assert fact(grid_lines(runs=1)) == "stock"


def test_csv_and_hparams_have_tuning_and_tweaks(written: StudyData) -> None:
    table = list(csv.DictReader(io.StringIO((written.folder / "results.csv").read_text())))
    assert {(row["tuning"], row["tweaks"]) for row in table if row["framework"] == "jax"} == {
        ("stock", ""),
        ("ladder", "pages"),
        ("ladder", "pages,dense"),
        ("tuned", "pages,dense,nothing"),
    }
    assert hparams_of(
        Cell.from_record(make_cell("jax", "bare", 1, tuning="tuned", tweaks=["a", "b"]))
    )["tweaks"] == ("a, b")
    assert hparams_of(Cell.from_record(make_cell("jax", "bare", 1)))["tweaks"] == "none"
    assert hparams_of(Cell.from_record(make_cell("jax", "bare", 1)))["tuning"] == "stock"


@pytest.mark.parametrize("columns", ["40", "80", "100", "200"])
def test_lanes_are_printed_in_full_and_fit_the_terminal(
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    columns: str,
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    found = study(tmp_path, ladder_lines(TWEAKS, SECONDS))
    print_lanes(found.lanes)
    text = capsys.readouterr().out
    assert "…" not in text
    words = text.split()
    for framework, rung, _, *values in rows(found.lanes[0]):  # at 40 columns: without runs
        assert all(word in words for value in (framework, rung, *values) for word in value.split())
    if columns != "40":
        assert max(len(line.rstrip()) for line in text.splitlines()) <= min(120, int(columns))
    said = " ".join(words)
    assert all(f"- {sentence}" in said for sentence in sentences(found.lanes[0]))
    assert "marks" not in text


def test_tweaks_left_out_of_the_tuned_lane_are_reported(tmp_path: Path) -> None:
    lines = ladder_lines(TWEAKS, SECONDS)
    store = write(tmp_path / "s", lines)
    wanting = {"tweaks_left_out": [["pages-of-gold", "needs gold"]]}
    for line in lines:
        if line["cell"]["framework"] == "jax":  # in stock cells, the entry has no meaning
            (store.folder / line["run_dir"] / "config.json").write_text(json.dumps(wanting))
    warnings = load_study(store).conditions().warnings
    assert warnings.count("Left out of the tuned lane: jax pages-of-gold: needs gold.") == 1
    assert load_study(write(tmp_path / "t", lines)).conditions().warnings == []


def test_a_pair_of_cells_has_one_p_in_all_sections_of_a_report(written: StudyData) -> None:
    """Two sections with two p for one ratio could call it shown, and not shown."""
    of_pair = {
        frozenset([v.subject_cell.cell.key, v.other_cell.cell.key]): v
        for verdicts in written.verdicts.values()
        for v in verdicts
        if v.other_cell is not None
    }
    shared = 0
    for lanes in written.lanes:
        for gap in lanes.gaps:
            for lane, found in (("stock", gap.stock), ("tuned", gap.tuned)):
                for (a, b), change in found.changes.items():
                    cells = [gap.members[name].cell(lane) for name in (a, b)]
                    verdict = of_pair.get(frozenset(cell.cell.key for cell in cells))
                    if verdict is not None:
                        shared += 1
                        assert verdict.p == change.p
                        assert verdict.outcome == change.outcome
    assert shared > 3
