"""Sweeps in a report: sentences, threshold table, figure, exports, terminal."""

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.report.study.answers.crossovers import METHOD, named_size, size_text
from isoscale.common.report.study.contents import SweepSection, make_contents
from isoscale.common.report.study.data import StudyData, load_study
from isoscale.common.report.study.exports import verdicts_record
from isoscale.common.report.study.tables.printed import print_in_short
from isoscale.common.report.study.write import write_report
from tests.common.analysis.test_crossover import planted, study
from tests.common.report.fake_study import make_cell, turns_lines, write_study
from tests.common.report.page import Page

BATCHES = {batch: planted(batch) for batch in (32, 64, 128, 256)}


def load(folder: Path, lines: list[dict[str, Any]]) -> StudyData:
    return load_study(write_study(folder / "s", lines, steps=0))


def section(found: StudyData, *, most_drawn: int = 0) -> SweepSection:
    (only,) = make_contents(found, most_drawn=most_drawn).sweeps
    return only


def test_a_planted_crossover_is_in_every_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = load(tmp_path, study(BATCHES))
    page = Page(write_report(found, most_drawn=1).read_text(encoding="utf-8")).text
    markdown = (found.folder / "report.md").read_text(encoding="utf-8")
    shown = section(found)
    (sentence,) = shown.sentences
    said = re.fullmatch(
        r"torch ddp on 2 devices: faster than torch bare on 1 device from a global batch of "
        r"(\d+|\d\d\.\d) on, 95 % interval \[(\d+|\d\d\.\d), (\d+)\], up to 256, the largest "
        r"measured \(4 sizes, 5 groups each\)\.",
        sentence,
    )
    assert said, sentence
    value, low, high = map(float, said.groups())
    assert 64 < low < value < high < 128
    assert low < 100 < high
    print_in_short(found)
    printed = " ".join(capsys.readouterr().out.split())
    for text in (page, html.unescape(markdown.replace("\\", "")), printed):
        assert shown.title in text
        assert sentence in text
    for text in (page, html.unescape(markdown.replace("\\", ""))):
        assert METHOD in text
        assert all(entry in text for row in [shown.columns, *shown.rows] for entry in row)
    names = {path.name for path in (found.folder / "plots").iterdir()}
    assert "sweep_Over_global_batch_mlp_medium_float32_on_2.png" in names


def test_recommendations_name_the_crossover_of_the_sweep(tmp_path: Path) -> None:
    found = load(tmp_path, study(BATCHES))
    sections = make_contents(found, most_drawn=0).sections
    assert len(sections) == len(BATCHES)
    for only in sections:
        (advice,) = only.advice
        assert re.search(
            r"Measured here: torch ddp on 2 devices is faster than torch bare on 1 device from a "
            r"global batch of [\d.]+ "
            r"\[[\d.]+, \d+\] on\.$",
            advice,
        )


def test_the_threshold_table_has_a_row_for_each_range(tmp_path: Path) -> None:
    shown = section(load(tmp_path, study(BATCHES)))
    assert [row[1] for row in shown.rows] == ["32 to 64", "64 to 128", "128 to 256"]
    answers = [row[4] for row in shown.rows]
    assert answers[0] == "does not pay"
    assert re.fullmatch(r"pays from [\d.]+ on", answers[1])
    assert answers[2] == "pays"
    for row in shown.rows:
        assert row[0] == "torch ddp on 2 devices"
        assert re.fullmatch(r"[\d.]+x \[[\d., ]+\] to [\d.]+x \[[\d., ]+\]", row[2])
        assert row[3] == "torch bare on 1 device"
        assert re.fullmatch(r"corrected p (< 0\.001|= 0\.0\d\d)", row[5])
        assert row[6:] == ["5 groups", "mlp_medium"]


def test_a_range_has_the_weaker_of_the_two_tests_at_its_ends(tmp_path: Path) -> None:
    found = load(tmp_path, study({**BATCHES, 64: (1.0, 1.015)}))
    (curve,) = found.sweeps[0].curves
    p = [point.tested.p or 0.0 for point in curve.points]
    assert 0.05 > p[1] > 0.01 > max(p[0], p[2], p[3])
    texts = [row[5] for row in section(found).rows]
    assert texts[:2] == [f"corrected p = {p[1]:.3f}"] * 2
    assert texts[2] != texts[1]


def test_the_comparisons_are_those_of_the_verdicts(tmp_path: Path) -> None:
    """A page has one family: a size has one p, in the verdicts and in the sweep."""
    found = load(tmp_path, study(BATCHES))
    (curve,) = found.sweeps[0].curves
    for point in curve.points:
        verdicts = found.verdicts[point.member.setting.title]
        (verdict,) = (v for v in verdicts if v.question == "against bare")
        assert verdict.p == point.tested.p
        assert verdict.ratio == point.tested.ratio


def test_the_record_has_the_crossover_and_every_size(tmp_path: Path) -> None:
    record = json.loads(json.dumps(verdicts_record(load(tmp_path, study(BATCHES)))))
    (entry,) = record["crossovers"]
    assert entry["axis"] == "global batch"
    assert entry["answer"] == "from a size on"
    assert 64 < entry["crossover_low"] < entry["crossover"] < entry["crossover_high"] < 128
    assert entry["slower_up_to"] is entry["faster_from"] is entry["alarm"] is None
    assert [size["size"] for size in entry["sizes"]] == [32, 64, 128, 256]
    assert [size["pays"] for size in entry["sizes"]] == ["does not pay"] * 2 + ["pays"] * 2


def test_the_figure_has_curves_intervals_and_the_crossover(tmp_path: Path) -> None:
    (plot,) = section(load(tmp_path, study(BATCHES)), most_drawn=1).plots
    axes = plot.draw("").axes[0]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["32", "64", "128", "256"]
    assert "against bare" in plot.caption
    svg = plot.render_svg()
    assert re.search(r"torch ddp: from [\d.]+ \[[\d.]+, [\d.]+\] on", svg)
    titles = re.findall(r"<title>(torch ddp[^<]*)</title>", svg)
    assert len(titles) == 4 + 1
    assert re.fullmatch(
        r"torch ddp, global batch 32: 0\.\d\dx \[0\.\d\d, 0\.\d\d\], does not pay, 5 groups",
        titles[0],
    )


def test_a_curve_with_sizes_without_a_verdict_has_no_line(tmp_path: Path) -> None:
    lines = [
        line
        for line in study(BATCHES)
        if line["cell"]["global_batch_size"] != 64 or line["run"] < 2
    ]
    shown = section(load(tmp_path, lines), most_drawn=1)
    assert shown.sentences[0].endswith("No verdict at 64 (fewer than 3 groups or runs).")
    drawn = shown.plots[0].draw("").axes[0].lines
    assert [line.get_linestyle() for line in drawn if len(line.get_xdata()) == 4] == ["None"]  # type: ignore[arg-type]
    (hollow,) = [line for line in drawn if line.get_markerfacecolor() == "white"][:1]
    assert list(hollow.get_xdata()) == [64]  # type: ignore[arg-type]


def test_what_is_not_decided_says_what_would_decide_it(tmp_path: Path) -> None:
    """At 64 both take the same time, and processes differ by 8 %."""
    lines = []
    for batch, factor in ((32, 2.0), (64, 1.0), (128, 0.98)):
        cells = [
            (make_cell("torch", "bare", 1, global_batch_size=batch), 1e-4 * batch),
            (make_cell("torch", "ddp", 2, global_batch_size=batch), 1e-4 * batch * factor),
        ]
        lines += turns_lines(cells, process=0.08, groups=4)
    for line in lines:
        line["wall_seconds"] = 60.0
    shown = section(load(tmp_path, lines))
    (sentence,) = shown.sentences
    assert re.fullmatch(
        r"torch ddp on 2 devices: not decided from which size on it is faster than torch bare on 1 "
        r"device: slower at 32 and open at 64 and 128 \(3 sizes, 4 groups each\)\. What would "
        r"decide: at 64 more groups or runs \(estimated: .* (minutes|hours)\); at 128 more groups "
        r"or runs \(estimated: .*\); larger sizes\.",
        sentence,
    ), sentence
    assert [row[4] for row in shown.rows] == [
        "does not pay at 32, not decided at 64",
        "not decided",
    ]


def test_two_sizes_and_sizes_without_a_verdict_are_said(tmp_path: Path) -> None:
    two = section(load(tmp_path / "two", study({n: BATCHES[n] for n in (32, 256)})))
    assert two.sentences == [
        "torch ddp on 2 devices: too few sizes with a verdict against torch bare on 1 device "
        "(needs 3; has 2)."
    ]
    assert len(two.rows) == 1
    few = section(load(tmp_path / "few", study(BATCHES, groups=2)))
    (sentence,) = few.sentences
    said = "(needs 3; has 0). No verdict at 32, 64, 128 and 256 (fewer than 3 groups or runs)."
    assert said in sentence
    assert {row[4] for row in few.rows} == {"unknown"}
    assert {row[5] for row in few.rows} == {"-"}


def test_always_never_and_sizes_that_pay_for_a_while(tmp_path: Path) -> None:
    sizes = (32, 64, 128)
    always = study({batch: planted(batch, 5) for batch in sizes})
    assert re.search(
        r"always faster than torch bare on 1 device, from 32, the smallest size measured, to 128, "
        r"the largest \(3 sizes",
        section(load(tmp_path / "always", always)).sentences[0],
    )
    never = study({batch: planted(batch, 1000) for batch in sizes})
    assert (
        "never faster than torch bare on 1 device in the range measured, 32 to a global batch of "
        "128 (3 sizes" in section(load(tmp_path / "never", never)).sentences[0]
    )
    back = study({32: (1.0, 0.6), 64: (1.0, 0.6), 128: (1.0, 1.5)})
    assert (
        "faster than torch bare on 1 device at 32 and 64, but slower at 128, the largest measured: "
        "it stays faster from no size on" in section(load(tmp_path / "back", back)).sentences[0]
    )
    again = study({32: (1.0, 0.6), 64: (1.0, 1.5), 128: (1.0, 0.6)})
    assert (
        "faster at 32, too, but slower again after that"
        in section(load(tmp_path / "again", again)).sentences[0]
    )


def test_sizes_left_out_for_lack_of_a_base_are_named(tmp_path: Path) -> None:
    lines = [
        line
        for line in study(BATCHES)
        if line["cell"]["strategy"] != "bare" or line["cell"]["global_batch_size"] > 32
    ]
    (sentence,) = section(load(tmp_path, lines)).sentences
    assert sentence.endswith("Left out, without torch bare on 1 device: 32.")


def test_cells_whose_losses_differ_have_neither_crossover_nor_table(tmp_path: Path) -> None:
    lines = study(BATCHES)
    for line in lines:
        if line["cell"]["devices"] == 2:
            line["turns"]["losses"] = {"1": 9.0}
            line["loss_first"] = 9.0
    found = load(tmp_path, lines)
    shown = section(found, most_drawn=1)
    assert shown.alarm is not None
    assert shown.sentences == [shown.alarm]
    assert shown.rows == shown.plots == []
    assert verdicts_record(found)["crossovers"][0]["alarm"] == shown.alarm


def test_a_study_without_a_sweep_has_no_such_part(tmp_path: Path) -> None:
    found = load(tmp_path, study({64: BATCHES[64]}))
    contents = make_contents(found, most_drawn=1)
    assert contents.sweeps == []
    assert METHOD not in contents.method
    write_report(found)
    assert "From which size on" not in (found.folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("size", "axis", "text", "named"),
    [
        (64, "global batch", "64", "a global batch of 64"),
        (90.51, "global batch", "90.5", "a global batch of 90.5"),
        (1024, "batch per device", "1024", "a batch per device of 1024"),
        (258432, "parameters", "258K", "258K parameters"),
        (1_204_000, "parameters", "1.20M", "1.20M parameters"),
        (70e9, "parameters", "70.0G", "70.0G parameters"),
        (512, "parameters", "512", "512 parameters"),
        (128, "sequence_length", "128", "sequence_length=128"),
        (0.2514, "dropout_rate", "0.251", "dropout_rate=0.251"),
    ],
)
def test_sizes_are_short(size: float, axis: str, text: str, named: str) -> None:
    assert size_text(size, axis) == text
    assert named_size(size, axis) == named


def test_strong_and_weak_scaling_are_sweeps_of_their_own(tmp_path: Path) -> None:
    """With a batch b a device takes b, and two devices 40 more for each step.

    Strong scaling pays if b / 2 + 40 is below b; weak scaling, with 2 b, if b + 40 is below 2 b.
    """
    batches = (32, 64, 128, 256)
    cells = [
        (make_cell("torch", "bare", 1, global_batch_size=batch), 1e-4 * batch) for batch in batches
    ] + [
        (make_cell("torch", "ddp", 2, global_batch_size=batch), 1e-4 * (batch / 2 + 40))
        for batch in (*batches, 512)
    ]
    lines = turns_lines(cells, process=0.01, window=0.01, groups=5)
    found = load_study(write_study(tmp_path / "s", lines, steps=0, scaling="strong,weak"))
    strong, weak = make_contents(found, most_drawn=0).sweeps
    assert "over global batch" in strong.title.lower()
    assert "over batch per device" in weak.title.lower()
    assert re.search(r"from a global batch of (7|8)\d\.\d on", strong.sentences[0])
    assert re.search(r"from a batch per device of (3|4)\d\.\d on", weak.sentences[0])
