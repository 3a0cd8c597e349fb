"""A study with strong and weak scaling, from its lines to its report."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.analysis.between_studies import match
from isoscale.common.analysis.scaling import scalings_of
from isoscale.common.config.cell import Cell
from isoscale.common.report.board.scaling import scaling_events
from isoscale.common.report.study.contents import make_contents
from isoscale.common.report.study.data import StudyData, load_study
from isoscale.common.report.study.diff import diff_of_studies
from isoscale.common.report.study.exports import cells_csv, verdicts_record
from isoscale.common.report.study.tables.printed import print_comparison
from isoscale.common.report.study.write import write_report
from tests.common.report.fake_study import (
    ladder_lines,
    make_cell,
    make_line,
    turns_lines,
    write_study,
)

STRONG = "mlp_medium, strong scaling, global batch 64, float32"
WEAK = "mlp_medium, weak scaling, batch per device 64, float32"
NOISE = {"process": 0.003, "window": 0.01}


def at(strategy: str, devices: int, batch: int, **changes: Any) -> dict[str, Any]:
    framework = {"pjit": "jax", "bare": "torch", "ddp": "torch"}[strategy]
    more = {"framework": framework, "global_batch_size": batch, "oversubscribed": False, **changes}
    return make_cell(more.pop("framework"), strategy, devices, **more)


def placed(*cells: tuple[str, int, int]) -> dict[tuple[str, int, int], str]:
    """Returns (strategy, devices, batch) -> the scalings of the cell."""
    found = scalings_of([Cell.from_record(at(*cell)) for cell in cells])
    return {
        (cell.strategy, cell.devices, cell.global_batch_size): "+".join(names)
        for cell, names in found.items()
    }


def test_a_cell_belongs_to_the_settings_that_have_its_base() -> None:
    one = [("bare", 1, 64), ("ddp", 1, 64)]
    assert placed(*one, ("ddp", 2, 64), ("ddp", 2, 128)) == {
        **dict.fromkeys(one, "strong+weak"),
        ("ddp", 2, 64): "strong",
        ("ddp", 2, 128): "weak",
    }
    # One device alone, and what has no partner at all, is strong.
    assert placed(*one) == dict.fromkeys(one, "strong")
    assert placed(("ddp", 4, 64), ("ddp", 2, 1024)) == {
        ("ddp", 4, 64): "strong",
        ("ddp", 2, 1024): "strong",
    }


def test_a_cell_of_a_sweep_over_batches_may_belong_to_both() -> None:
    one, many = (64, 128), [(2, 64), (2, 128), (2, 256), (4, 64), (4, 128), (4, 256), (4, 512)]
    found = placed(*(("ddp", 1, b) for b in one), *(("ddp", n, b) for n, b in many))
    assert {(n, b): found["ddp", n, b] for n, b in many} == {
        (2, 64): "strong",
        (2, 128): "strong+weak",
        (2, 256): "weak",  # 256 on 4 devices is there by chance: no cell on one device has it
        (4, 64): "strong",
        (4, 128): "strong",
        (4, 256): "weak",
        (4, 512): "weak",
    }


def test_without_one_device_another_count_decides() -> None:
    assert placed(("ddp", 2, 64), ("ddp", 4, 64), ("ddp", 2, 128), ("ddp", 4, 256)) == {
        ("ddp", 2, 64): "strong",
        ("ddp", 4, 64): "strong",
        ("ddp", 2, 128): "weak",
        ("ddp", 4, 256): "weak",
    }


def times() -> list[tuple[dict[str, Any], float]]:
    """Cells with their time per step: torch is 1.25x slower than JAX on one device."""
    return [
        (at("bare", 1, 64, framework="jax"), 0.0080),
        (at("bare", 1, 64), 0.0100),
        (at("pjit", 1, 64), 0.0080),
        (at("ddp", 1, 64), 0.0100),
        (at("pjit", 2, 64), 0.0050),
        (at("ddp", 2, 64), 0.0062),
        (at("pjit", 2, 128), 0.0090),
        (at("ddp", 2, 128), 0.0115),
    ]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyData:
    folder = tmp_path_factory.mktemp("both") / "s"
    lines = turns_lines(times(), **NOISE)
    return load_study(write_study(folder, lines, steps=0, scaling="strong,weak"))


def test_each_setting_has_one_scaling_which_its_title_names(study: StudyData) -> None:
    assert [(s.title, s.scaling) for s in study.settings] == [(STRONG, "strong"), (WEAK, "weak")]
    strong, weak = study.settings
    batches = {
        s.title: {(c.cell.devices, c.cell.global_batch_size) for _, c in s.cells}
        for s in study.settings
    }
    assert batches == {STRONG: {(1, 64), (2, 64)}, WEAK: {(1, 64), (2, 128)}}
    assert len(study.summaries) == len(study.measured) == 8
    assert len(strong.cells) == len(weak.cells) == 6


def test_speedups_have_the_base_of_their_setting(study: StudyData) -> None:
    speedups = {
        setting.scaling: {
            name: cell.speedup.value
            for name, cell in setting.cells
            if cell.speedup and cell.cell.devices == 2
        }
        for setting in study.settings
    }
    assert speedups["strong"]["jax pjit on 2 devices"] == pytest.approx(8 / 5, rel=0.02)
    assert speedups["weak"]["jax pjit on 2 devices"] == pytest.approx(2 * 8 / 9, rel=0.02)
    assert speedups["weak"]["torch ddp on 2 devices"] == pytest.approx(2 * 10 / 11.5, rel=0.02)


def test_a_cell_of_both_has_the_base_of_each(tmp_path: Path) -> None:
    """128 on 2 devices: strong against 128 on one device, weak against 64."""
    cells = [
        *((at("bare", 1, b), s) for b, s in ((64, 0.010), (128, 0.016))),
        *((at("ddp", 2, b), s) for b, s in ((64, 0.007), (128, 0.010), (256, 0.018))),
    ]
    lines = turns_lines(cells, **NOISE)
    found = load_study(write_study(tmp_path / "s", lines, steps=0, scaling="strong,weak"))
    rows = [row for row in csv.DictReader(io.StringIO(cells_csv(found))) if row["devices"] == "2"]
    twice = {r["scaling"]: r for r in rows if r["global_batch_size"] == "128"}
    assert set(twice) == {"strong", "weak"}
    assert float(twice["strong"]["speedup"]) == pytest.approx(1.6, rel=0.02)
    assert float(twice["weak"]["speedup"]) == pytest.approx(2.0, rel=0.02)
    assert twice["strong"]["base_cell_id"] != twice["weak"]["base_cell_id"]
    assert twice["strong"]["setting"] != twice["weak"]["setting"]
    assert len(rows) == 4
    # Where a cell has one name only, it is that of its first setting.
    assert found.names()[Cell.from_record(at("ddp", 2, 128))][1] == twice["weak"]["setting"]


def test_a_pair_in_two_settings_is_one_test(study: StudyData, tmp_path: Path) -> None:
    asked = [
        frozenset((v["subject_cell_id"], v["other_cell_id"]))
        for v in verdicts_record(study)["verdicts"]
    ]
    assert len(asked) > len(set(asked))  # one device: the same pair in both settings

    def tests(name: str, scaling: str, batches: set[tuple[int, int]]) -> tuple[int, int]:
        lines = [
            line
            for line in turns_lines(times(), **NOISE)
            if (line["cell"]["devices"], line["cell"]["global_batch_size"]) in batches
        ]
        found = load_study(write_study(tmp_path / name, lines, steps=0, scaling=scaling))
        return found.tests, found.planned

    one = tests("one", "strong", {(1, 64)})
    strong = tests("strong", "strong", {(1, 64), (2, 64)})
    weak = tests("weak", "weak", {(1, 64), (2, 128)})
    assert (study.tests, study.planned) == tuple(
        s + w - o for s, w, o in zip(strong, weak, one, strict=True)
    )
    answers: dict[frozenset[str], set[str]] = {}
    for verdict in verdicts_record(study)["verdicts"]:
        pair = frozenset((verdict["subject_cell_id"], verdict["other_cell_id"]))
        found = {k: v for k, v in verdict.items() if k != "setting"}
        if verdict["question"] == "at equal devices":
            answers.setdefault(pair, set()).add(json.dumps(found))
    assert all(len(texts) == 1 for texts in answers.values())


def test_no_law_mixes_the_scalings(tmp_path: Path) -> None:
    counts = (1, 2, 4, 8)
    strong = [(at("ddp", n, 64), 0.010 * (0.1 + 0.9 / n)) for n in counts]
    weak = [(at("ddp", n, 64 * n), 0.010 * n / (n - 0.05 * (n - 1))) for n in counts[1:]]
    lines = turns_lines([*strong, *weak], process=0.002)
    found = load_study(write_study(tmp_path / "s", lines, steps=0, scaling="strong,weak"))
    laws = {title: [fit.law.name for fit in entry.fits] for title, (entry,) in found.laws.items()}
    assert laws == {STRONG: ["Amdahl", "USL"], WEAK: ["Gustafson", "USL"]}
    amdahl, gustafson = (found.laws[title][0].fits[0] for title in (STRONG, WEAK))
    assert amdahl.parameters["serial fraction"].value == pytest.approx(0.1, abs=0.02)
    assert gustafson.parameters["serial share"].value == pytest.approx(0.05, abs=0.02)


def test_the_report_keeps_them_apart(study: StudyData, capsys: pytest.CaptureFixture[str]) -> None:
    contents = make_contents(study, most_drawn=9)
    assert [s.short for s in contents.sections] == [
        "mlp_medium, strong scaling, global batch 64",
        "mlp_medium, weak scaling, batch per device 64",
    ]
    plots = [plot.slug for section in contents.sections for plot in section.plots]
    assert len(plots) == len(set(plots))
    assert contents.counts.startswith("8 cells in 2 settings")
    conditions = dict(study.conditions().facts)["Scaling"]
    assert conditions == (
        "strong: the global batch stays the same on more devices; "
        "weak: the batch per device stays the same on more devices"
    )
    base = "the same global batch (strong) or at the batch of one device (weak)"
    assert any(base in paragraph for paragraph in contents.method)
    shown = [cell for setting in study.settings for _, cell in setting.cells]
    print_comparison(shown, scaling=study.scaling, machines=study.machines)
    printed = " ".join(capsys.readouterr().out.split())
    assert "speedup: strong or weak scaling, throughput / throughput" in printed
    assert base in printed
    assert "strong scaling, global batch 64" in printed
    page = write_report(study)
    assert page.exists()


def test_the_curves_of_tensorboard_have_the_title_of_their_setting(study: StudyData) -> None:
    tags: dict[str, set[int]] = {}
    for event in scaling_events(study)["jax pjit"]:
        for value in event.summary.value:
            tags.setdefault(value.tag, set()).add(event.step)
    speedups = sorted(tag for tag in tags if tag.endswith("/speedup"))
    assert len(speedups) == 2
    assert "strong scaling" in speedups[0]
    assert "weak scaling" in speedups[1]
    assert all(tags[tag] == {1, 2} for tag in speedups)


def test_lanes_are_of_one_scaling_each(tmp_path: Path) -> None:
    tweaks, seconds = {"jax": {"fast": 0.8}, "torch": {"quick": 0.9}}, {"jax": 0.01, "torch": 0.012}
    lines = ladder_lines(tweaks, seconds)
    for devices, batch in ((2, 64), (2, 128)):
        lines += ladder_lines(
            {"torch": tweaks["torch"]}, seconds, strategy="ddp", devices=devices,
            global_batch_size=batch,
        )  # fmt: skip
    lines = [{**line, "sequence": i} for i, line in enumerate(lines)]
    found = load_study(write_study(tmp_path / "s", lines, steps=0, scaling="strong,weak"))
    counts = {
        lanes.setting.scaling: [
            (w.framework, w.devices, w.steps[0].cell.cell.global_batch_size)  # type: ignore[union-attr]
            for w in lanes.waterfalls
        ]
        for lanes in found.lanes
    }
    assert sorted(counts["strong"]) == [("jax", 1, 64), ("torch", 1, 64), ("torch", 2, 64)]
    assert sorted(counts["weak"]) == [("jax", 1, 64), ("torch", 1, 64), ("torch", 2, 128)]
    asked = {
        frozenset((v["subject_cell_id"], v["other_cell_id"]))
        for v in verdicts_record(found)["verdicts"]
    }
    assert found.tests == len(asked)


def test_diff_compares_a_cell_of_two_settings_once(study: StudyData, tmp_path: Path) -> None:
    lines = [
        make_line(cell, run, 1.2 * seconds, sequence=run)
        for cell, seconds in times()
        for run in range(3)
    ]
    strong = [line for line in lines if line["cell"]["global_batch_size"] == 64]
    for entries, scaling, cells in ((lines, "strong,weak", 8), (strong, "strong", 6)):
        other = load_study(write_study(tmp_path / scaling, entries, steps=0, scaling=scaling))
        for a, b in ((study, other), (other, study)):
            matched = match([*a.measured, *a.shared], [*b.measured, *b.shared])
            found = diff_of_studies(a, b, matched, threshold=0.05)
            assert len(found.cells) == cells
            assert sum(len(rows) for _, rows in found.view.tables) == cells


@pytest.mark.parametrize("scaling, title", [("strong", "global batch"), ("weak", "batch per")])
def test_a_study_of_one_scaling_reads_as_before(tmp_path: Path, scaling: str, title: str) -> None:
    lines = turns_lines(times()[:4], **NOISE)
    found = load_study(write_study(tmp_path / "s", lines, steps=0, scaling=scaling))
    (setting,) = found.settings
    assert setting.title.startswith(f"mlp_medium, {title}")
    assert "scaling" not in setting.title
    assert setting.scaling == scaling
    assert {row["scaling"] for row in csv.DictReader(io.StringIO(cells_csv(found)))} == {scaling}
