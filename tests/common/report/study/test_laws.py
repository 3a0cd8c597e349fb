"""The laws of scaling in a report: the table, the dashed ends of curves, the method."""

import html
import re
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.analysis.series_laws import TOO_FEW_COUNTS
from isoscale.common.report.study.contents import make_contents
from isoscale.common.report.study.data import StudyData, load_study
from isoscale.common.report.study.tables.laws import COLUMNS, METHOD
from isoscale.common.report.study.write import write_report
from tests.common.analysis.test_series_laws import BARE, amdahl, curve, lines_of
from tests.common.report.fake_study import grid_lines, write_study
from tests.common.report.page import Page

COUNTS = (1, 2, 4, 8)


def study(folder: Path, lines: list[dict[str, Any]]) -> StudyData:
    return load_study(write_study(folder / "s", lines, steps=0))


def test_the_report_has_the_table_in_both_formats(tmp_path: Path) -> None:
    found = study(tmp_path, lines_of([BARE, *curve(amdahl(0.1))]))
    page = Page(write_report(found).read_text(encoding="utf-8")).text
    markdown = (found.folder / "report.md").read_text(encoding="utf-8")
    (section,) = make_contents(found, most_drawn=0).sections
    (row,) = section.laws
    assert row[:2] == ["torch ddp", "1, 2, 4, 8"]
    assert re.fullmatch(r"2: 0\.\d+ \[-?0\.\d+, 0\.\d+\]; 4: .*; 8: 0\.\d+ \[.*\]", row[2])
    assert re.fullmatch(r"Amdahl: serial fraction 0\.[01]\d+ \[0\.\d+, 0\.1\d+\]", row[3])
    assert re.fullmatch(
        r"Amdahl p = 0\.\d+, off by at most 0\.\d %; USL p = 0\.\d+, off by at most 0\.\d %", row[4]
    )
    for text in (page, html.unescape(markdown.replace("\\", ""))):
        assert all(entry in text for entry in (*COLUMNS, *row))
        assert METHOD in text
    assert "no figure of runs is estimated" in page


def test_two_counts_have_fractions_and_no_law(tmp_path: Path) -> None:
    found = study(tmp_path, grid_lines(seconds=lambda cell: 0.01 / cell["devices"] ** 0.5))
    (section,) = make_contents(found, most_drawn=0).sections
    assert [row[0] for row in section.laws] == [
        *("jax pjit", "jax pmap", "tensorflow mirrored", "torch ddp"),
    ]
    for row in section.laws:
        assert row[3:] == [TOO_FEW_COUNTS, "-"]
        assert re.fullmatch(r"2: 0\.\d+ \[0\.\d+, 0\.\d+\]", row[2])


def test_fractions_against_bare_are_marked(tmp_path: Path) -> None:
    found = study(tmp_path, lines_of([BARE, *curve(amdahl(0.1), (2, 4))]))
    (section,) = make_contents(found, most_drawn=0).sections
    assert section.laws[0][2].endswith("] (against bare)")
    alone = study(tmp_path / "alone", lines_of(curve(amdahl(0.1), (2, 4))))
    assert make_contents(alone, most_drawn=0).sections[0].laws[0][2] == "not measured on one device"


def test_one_device_has_neither_table_nor_method(tmp_path: Path) -> None:
    found = study(tmp_path, grid_lines(devices=(1,)))
    contents = make_contents(found, most_drawn=0)
    assert contents.sections[0].laws == []
    assert METHOD not in contents.method
    write_report(found)
    assert "Karp-Flatt" not in (found.folder / "report.html").read_text(encoding="utf-8")


def test_usl_has_its_peak(tmp_path: Path) -> None:
    def seconds(n: int) -> float:
        return 0.010 * (1 + 0.05 * (n - 1) + 0.05 * n * (n - 1)) / n

    found = study(tmp_path, lines_of([BARE, *curve(seconds)]))
    law = make_contents(found, most_drawn=0).sections[0].laws[0][3]
    # sqrt(0.95 / 0.05) = 4.36
    expected = r"USL: contention .*, coherence .*; peak at 4\.\d devices \[4\.\d, 4\.\d\]"
    assert re.fullmatch(expected, law)


def test_no_law_fits(tmp_path: Path) -> None:
    seconds = {1: 0.010, 2: 0.004, 4: 0.007, 8: 0.001}
    found = study(tmp_path, lines_of([BARE, *curve(lambda n: seconds[n])]))
    (section,) = make_contents(found, most_drawn=1).sections
    assert section.laws[0][3] == "no law fits"
    assert "Amdahl p < 0.001, off by at most" in section.laws[0][4]
    (plot,) = (p for p in section.plots if p.slug.endswith("speedup"))
    assert "estimated" not in plot.caption + plot.render_svg()


def test_the_speedup_is_continued_to_twice_the_range(tmp_path: Path) -> None:
    found = study(tmp_path, lines_of([BARE, *curve(amdahl(0.1))]))
    (section,) = make_contents(found, most_drawn=1).sections
    (plot,) = (p for p in section.plots if p.slug.endswith("speedup"))
    assert "Dashed: estimated, by the law of scaling, up to 2 times the devices" in plot.caption
    axes = plot.draw("").axes[0]
    (dashed,) = [
        line
        for line in axes.lines
        if line.is_dashed()
        and max(line.get_xdata()) == 16  # type: ignore[arg-type]
        and min(line.get_xdata()) == 8  # type: ignore[arg-type]
    ]
    # Bare takes 8 ms, and ddp on 16 devices 10 ms x (0.1 + 0.9 / 16).
    assert dashed.get_ydata()[-1] == pytest.approx(8 / 1.5625, rel=0.03)  # type: ignore[index]
    assert max(float(max(line.get_xdata())) for line in axes.lines) == 16  # type: ignore[arg-type]
    svg = plot.render_svg()
    assert "estimated (laws)" in svg
    (title,) = re.findall(r"<title>(torch ddp, 16: [^<]*)</title>", svg)
    assert re.fullmatch(
        r"torch ddp, 16: estimated by Amdahl, speedup 5\.\d\d; against itself on one device "
        r"6\.\d\d \[\d\.\d\d, \d\.\d\d\]",
        title,
    )
