"""A study that an earlier version measured can still be opened, reported and resumed.

``old_study.tar.xz`` holds the study (``old_study/``: 54 runs of 18 cells in two lanes, measured
before records had a schema version) and the files that the measuring code wrote from the study
(``written_by_old_code/``: the report without its drawings, the CSV file and the verdicts). Since
then the words of a report have changed, the tables of cells got the column ``COMPUTED``, the
answer got the matrix, each setting got the table of laws and recommendations, and two kinds of
plots are no longer drawn (``GONE``).
"""

import csv
import dataclasses
import json
import platform
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.analysis.series_laws import TOO_FEW_COUNTS
from isoscale.common.commands import compare
from isoscale.common.registry import build_config
from isoscale.common.report.study.data import StudyData, load_study
from isoscale.common.report.study.write import write_report
from isoscale.common.study.store import Store
from isoscale.frameworks.torch_runner import tweaks as torch_tweaks
from tests.common.report.structure import PageStructure, Structure, read_page, read_structure

ARCHIVE = Path(__file__).with_name("old_study.tar.xz")
MEASURED, WRITTEN = "old_study", "written_by_old_code"
COMPUTED = "GFLOP/s, computed"
GONE = re.compile(r"plots/\S+_(?:throughput|efficiency)\.(?:png|svg)")
"""Today one plot shows speedup and efficiency; throughput is time per step upside down."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the study, today's report in the study, and the files of the old code."""
    found = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(found, filter="data")
    write_report(load_study(Store(found / MEASURED)))
    return found


@pytest.fixture(scope="module")
def study(folder: Path) -> StudyData:
    return load_study(Store(folder / MEASURED))


# The old code corrected two sections of a report separately. Today all tests of a report are
# corrected together: each p is larger, and one rung of the ladder is no longer shown to be faster.
_P = re.compile(r"corrected p (?:(?:=|&lt;|<) )?[\d.]+")
_FLIPPED = re.compile(r"(1\.45x \[1\.21, 1\.74\](?: \| |</td>\s*<td>|, ))faster")


def read(folder: Path, name: str) -> str:
    """Returns a file without p, and with the outcome that one comparison has today."""
    text = _P.sub("corrected p", (folder / name).read_text(encoding="utf-8"))
    return _FLIPPED.sub(r"\1no difference shown", text)


def test_the_csv_file_is_the_same_byte_for_byte(folder: Path) -> None:
    """Except for two new last columns: isoscale, which is empty, as nobody knows which measured;
    and the time per step from which ratios are made, which is the median."""
    found, expected = (read(folder, f"{part}/results.csv") for part in (MEASURED, WRITTEN))
    first, *rows = expected.splitlines()
    header, *lines = found.splitlines()
    assert header == f"{first},isoscale,step_seconds_judged"
    place = first.split(",").index("step_seconds_median")
    medians = [row[place] for row in csv.reader(rows)]
    assert lines == [f"{row},,{median}" for row, median in zip(rows, medians, strict=True)]


def without_program(text: str) -> str:
    """Returns a report without the condition that earlier versions did not write."""
    kept = [line for line in text.splitlines(True) if "measured by unknown; report by" not in line]
    assert len(kept) == len(text.splitlines()) - 1
    return "".join(kept)


def without_computed(text: str, *, row: str, cell: str) -> str:
    """Returns a report without the column that earlier versions did not write; it must be there.

    Args:
      text: HTML or Markdown.
      row, cell: patterns of a table's row, and of a cell in it.
    """
    place: list[int] = []

    def shortened(match: re.Match[str]) -> str:
        cells = list(re.finditer(cell, match[0]))
        names = [found[1] for found in cells]
        if COMPUTED in names:
            place[:] = [names.index(COMPUTED), len(names)]
        if not place or len(cells) != place[1]:
            return match[0]
        gone = cells[place[0]]
        return match[0][: gone.start()] + match[0][gone.end() :]

    found = re.sub(row, shortened, text)
    assert COMPUTED in text
    assert COMPUTED not in found
    return found


def without_matrix(text: str, pattern: str) -> str:
    """Returns a report without the matrix, which earlier versions did not write."""
    found, count = re.subn(pattern, "\n", text, flags=re.DOTALL)
    assert count == 1
    return found


def without_laws(text: str, pattern: str) -> str:
    """Returns a report without the table of laws of each lane, which earlier versions did not
    write; it must say that two device counts are too few."""
    found, count = re.subn(pattern, "", text, flags=re.DOTALL)
    assert count == 2
    assert text.count(TOO_FEW_COUNTS) == 2 * 3
    assert TOO_FEW_COUNTS not in found
    return found


def without_advice(text: str, pattern: str) -> str:
    """Returns a report without the recommendations of each lane; earlier versions wrote none."""
    found, count = re.subn(pattern, "", text, flags=re.DOTALL)
    assert count == 2
    return found


def structure(folder: Path, part: str) -> Structure:
    text = read(folder, f"{part}/report.md")
    if part == MEASURED:
        text = without_program(text)
        # 15 columns: the same number as that of the table of all runs, which comes after.
        text = without_matrix(text, r"\n\| model \| framework \|.*?\n\n")
        text = without_laws(text, r"\nLaws\n\n\| series \|.*?\n(?!\|)")
        text = without_advice(text, r"\nRecommendations\n\n(?:- [^\n]*\n)+")
        cells, runs, after = text.partition("## All runs")
        cells = without_computed(cells, row=r"(?m)^\|.*\|$", cell=r" ((?:\\\||[^|])+) \|")
        text = "".join([cells, runs, after])
    found = read_structure(text, read(folder, f"{WRITTEN}/results.csv"))  # see the test above
    return dataclasses.replace(found, plots=[p for p in found.plots if not GONE.fullmatch(p)])


def test_verdicts_figures_and_cells_are_the_same(folder: Path) -> None:
    expected = structure(folder, WRITTEN)
    assert structure(folder, MEASURED) == expected
    assert len(expected.runs) == 54
    # Fastest cells; stock and tuned; for each lane its cells and its verdicts; runs.
    assert [len(rows) for rows in expected.tables] == [2, 18, 9, 10, 9, 10, 54]
    assert len(expected.plots) == 19 - 2 * 2
    assert all((folder / MEASURED / plot).is_file() for plot in expected.plots)


def page_structure(folder: Path, part: str) -> PageStructure:
    page = read(folder, f"{part}/report.html")
    if part == MEASURED:
        page = without_matrix(without_program(page), '<table class="matrix">.*?</table>')
        page = without_laws(page, r"<h3>Laws</h3>\s*<table.*?</table>")
        page = without_advice(page, r"<h3>Recommendations</h3>\s*<ul>.*?</ul>")
        cells, runs, after = page.partition('<h2 id="runs">')
        cells = without_computed(
            cells, row=r"<tr>.*?</tr>", cell=r"<t[dh](?: [^>]*)?>(.*?)</t[dh]>"
        )
        page = "".join([cells, runs, after])
    found = read_page(page, read(folder, f"{part}/results.csv"))
    links = [p for p in found.links if not GONE.fullmatch(p)]
    if part == MEASURED:  # the old code wrote no PDF
        every, links = links, [p for p in links if not p.endswith(".pdf")]
        assert 2 * len(every) == 3 * len(links)
    return dataclasses.replace(found, links=links)


def test_the_page_has_the_same_verdicts_figures_and_plots(folder: Path) -> None:
    expected = page_structure(folder, WRITTEN)
    assert page_structure(folder, MEASURED) == expected
    # (rows, columns) as in report.md, and 17 conditions.
    sizes = [(2, 4), (18, 7), (9, 14), (10, 4), (9, 14), (10, 4), (54, 15), (17, 1)]
    assert len(expected.cells) == sum(rows * columns for rows, columns in sizes)
    # 8 sentences about lanes, 4 + 4 about settings, 18 cells without a known outside load.
    assert expected.sentences == 34
    assert len(expected.links) == 2 * (19 - 2 * 2)


@pytest.mark.parametrize(
    "old, new, same",
    [
        ("the gap is 6.17x", "a gap of 6.17x is measured", True),
        ("| comparison | ratio", "| cells compared | ratio", True),
        ("| faster |\n", "| slower |\n", False),
        ("| 0.1481 [0.08064, 0.3794] (t)", "| 0.1482 [0.08064, 0.3794] (t)", False),
        ("the gap is 6.17x", "the gap is 6.18x", False),
        ("torch 2.13.0", "torch 2.12.0", False),
        ("plots/overview.png", "plots/other.png", False),
    ],
)
def test_the_structure_depends_on_figures_and_not_on_wording(
    folder: Path, old: str, new: str, same: bool
) -> None:
    text, table = (read(folder, f"{WRITTEN}/{name}") for name in ("report.md", "results.csv"))
    assert old in text
    changed = read_structure(text.replace(old, new, 1), table)
    assert (changed == read_structure(text, table)) == same


@pytest.mark.parametrize(
    "old, new, same",
    [
        ("the gap is 6.17x", "a gap of 6.17x is measured", True),
        ("<th>comparison</th>", "<th>cells compared</th>", True),
        ("<td>faster</td>", "<td>slower</td>", False),
        ("<td>0.1481 [0.08064, 0.3794] (t)", "<td>0.1482 [0.08064, 0.3794] (t)", False),
        ("the gap is 6.17x", "the gap is 6.18x", False),
        ("torch 2.13.0", "torch 2.12.0", False),
        ("plots/overview.png", "plots/other.png", False),
    ],
)
def test_the_structure_of_a_page_depends_on_figures_and_not_on_wording(
    folder: Path, old: str, new: str, same: bool
) -> None:
    page, table = (read(folder, f"{WRITTEN}/{name}") for name in ("report.html", "results.csv"))
    assert old in page
    assert (read_page(page.replace(old, new, 1), table) == read_page(page, table)) == same


def test_the_verdicts_are_the_same(folder: Path, study: StudyData) -> None:
    found: list[dict[str, Any]] = [
        {
            "setting": title,
            "question": verdict.question,
            "subject": verdict.subject,
            "other": verdict.other,
            "ratio": verdict.ratio.value,
            "low": verdict.ratio.low,
            "high": verdict.ratio.high,
            "n": list(verdict.ratio.n),
            "p": verdict.p,
            "outcome": verdict.outcome,
        }
        for title, verdicts in study.verdicts.items()
        for verdict in verdicts
    ]
    expected = json.loads(read(folder, f"{WRITTEN}/verdicts.json"))
    assert len(found) == len(expected) == 20
    for mine, theirs in zip(found, expected, strict=True):
        for name in ("ratio", "low", "high"):  # another processor may round differently
            assert mine.pop(name) == pytest.approx(theirs.pop(name), rel=1e-9)
        assert mine["p"] == theirs["p"] is None or mine["p"] >= theirs["p"]
        assert {**mine, "p": None} == {**theirs, "p": None}


@pytest.fixture
def same_machine(monkeypatch: pytest.MonkeyPatch, study: StudyData) -> None:
    """Makes planning use the cores and the processor of the machine that measured the study.

    Both change cells: more devices than cores are oversubscribed, and an AMD processor adds a
    tweak.
    """
    (machine,) = study.machines
    monkeypatch.setattr(build_config, "available_cores", lambda: machine["available_cores"])
    monkeypatch.setattr(platform, "machine", lambda: machine["architecture"])
    monkeypatch.setattr(torch_tweaks, "cpu_vendor", lambda: machine["cpu_vendor"])
    monkeypatch.setattr(torch_tweaks, "_preload_missing", lambda: None)


@pytest.mark.usefixtures("same_machine")
def test_planning_today_makes_the_cells_of_the_old_study(folder: Path, study: StudyData) -> None:
    old = {line.cell.id for line in study.lines}
    assert old == {path.name for path in (folder / MEASURED / "cells").iterdir()}
    request = compare.read_request([f"--study={MEASURED}", "--resume", f"--out_dir={folder}"])
    assert request is not None
    (session,) = request.sessions
    assert sorted(cell.cell().id for cell in session.cells) == sorted(old)
    assert len(old) == 18


@pytest.mark.usefixtures("same_machine")
@pytest.mark.parametrize("flags, runs", [([], 0), (["--runs=4"], 18)])
def test_resume_of_the_old_study_plans_only_new_rounds(
    folder: Path,
    capsys: pytest.CaptureFixture,
    flags: list[str],
    runs: int,
) -> None:
    arguments = [f"--study={MEASURED}", "--resume", "--dry_run", f"--out_dir={folder}"]
    assert compare.run([*arguments, *flags]) == 0
    assert f"18 cells, {runs} runs to do." in capsys.readouterr().out
