"""The whole report: reads a study from disk and writes the files for the reader."""

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from isoscale.common.config.errors import ConfigError
from isoscale.common.measure.conditions import LOAD_UNKNOWN
from isoscale.common.report.drawing.files import FORMATS
from isoscale.common.report.drawing.style import COLORS
from isoscale.common.report.study.data import StudyData, load_study
from isoscale.common.report.study.method import method
from isoscale.common.report.study.tables.printed import print_comparison
from isoscale.common.report.study.write import write_report
from isoscale.common.report.words import RATE_AND_TIME
from tests.common.report.fake_study import grid_lines, make_cell, make_line, write_study
from tests.common.report.page import Page

KINDS = ("step_time", "speedup", "latency", "loss", "memory", "compile_time")
GPUS = {"gpus": [{"name": "A GPU"}] * 2}
SECONDS = {"jax": 0.012, "tensorflow": 0.010, "torch": 0.0101}


def seconds(cell: dict[str, Any]) -> float:
    gain = 1.6 if cell["framework"] != "tensorflow" else 0.8
    return SECONDS[cell["framework"]] / (gain if cell["devices"] == 2 else 1)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyData:
    """A study with six runs of two models, and one problem of each kind."""
    lines = grid_lines(models=("mlp_medium", "gpt_tiny"), seconds=seconds)
    count = len(lines)
    for line in lines:
        line["loss_first"] *= 1 + 1e-7 * (line["cell"]["framework"] == "jax")
    lines[5] |= {"disturbed": True, "outside_load_share": 0.4}
    lines[6] |= {"exit_warning": "was done but did not leave"}
    lines[7]["examples_per_second"] /= 3
    extra = [
        ("failed", "ddp", "ValueError: <b>broke</b> | [x](http://evil) =cmd()"),
        ("diverged", "ddp", "loss is not finite at step 3"),
        ("skipped", "ddp", "torch is not installed"),
    ]
    for offset, (status, strategy, error) in enumerate(extra):
        cell = make_cell("torch", strategy, 2)
        line = make_line(cell, 6 + offset, 0.01, sequence=count + offset)
        empty = dict.fromkeys(("step_seconds", "examples_per_second", "loss_last", "run_dir"))
        lines.append({**line, **empty, "status": status, "error": error})
    lines.append(make_line(make_cell("torch", "ddp", 4), 0, 0.02, sequence=count + 3))
    found = load_study(write_study(tmp_path_factory.mktemp("s") / "study", lines))
    write_report(found)
    return found


def read(study: StudyData, name: str) -> str:
    return (study.folder / name).read_text(encoding="utf-8")


def test_the_report_starts_with_the_answer(study: StudyData) -> None:
    text = Page(read(study, "report.html")).text
    answer = text[: text.index("Conditions Machine")]
    # On one device, tensorflow is 1 % faster than torch, with 1 % noise, and 20 % faster than jax.
    assert "On 1 device" in answer
    assert re.search(
        r"1\.\d\dx \[1\.\d\d, 1\.\d\d\] faster than jax \w+ \(n = 6 pairs of runs", answer
    )
    assert re.search(
        r"On 2 devices torch ddp \(\d\.\d+ ms/step, \d+ examples/s\) is fastest", answer
    )
    assert re.search(r"Slower on more devices than bare on one device: tensorflow mirrored", answer)
    assert re.search(
        r"Faster on more devices than bare on one device: jax pjit on 2 devices 1\.6", answer
    )
    assert "comparisons" in answer


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_failures_disturbances_and_outliers_are_reported(study: StudyData, name: str) -> None:
    text = read(study, name)
    text = Page(text).text if name.endswith("html") else text
    for said in (
        "Failed: 1",
        "Diverged: 1",
        "loss is not finite at step 3",
        "Skipped: 1",
        "torch is not installed",
        "on the run's cores, other programs together used more than 10 % of one core's time: 1",
        "run 0: 40 %",
        "did not leave",
        "Oversubscribed",
        "torch ddp on 4 devices",
        "Outliers",
        "1 outlier",
    ):
        assert said in text, said


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_the_report_has_manifest_method_and_every_run(study: StudyData, name: str) -> None:
    text = read(study, name)
    text = Page(text).text if name.endswith("html") else text
    for said in ("Test CPU, 2 cores", "16.0 GiB", "1.2.3", "adamw", "torch eager", "pinned"):
        assert said in text, said
    assert "Two process models are compared" in text
    assert "Welch" in text
    assert "Drift over the study" in text
    assert "first losses differ by at most 1.0e-07 of their size" in text
    assert (
        "Steps of a run: 1 compile step, 5 warm-up steps, 15 measured steps in windows of 5" in text
    )
    assert "highest (no TF32)" in text
    runs = text[text.rindex("All runs") :]
    cells = {f"{line.cell.framework} {line.cell.strategy}" for line in study.lines}
    assert sum(runs.count(f"{cell} on ") for cell in cells) == len(study.lines)


def test_the_page_loads_no_other_files(study: StudyData) -> None:
    page = Page(read(study, "report.html"))
    assert page.loads == []
    assert page.tags.count("script") == 1
    assert not re.search(r"url\((?!#)|@import", read(study, "report.html"))
    assert len(page.ids) == len(set(page.ids)), "two drawings have the same id"
    assert page.tags.count("svg") == 1 + 2 * len(KINDS)  # the overview, and those of each model


def test_every_plot_is_written_as_svg_png_and_pdf(study: StudyData) -> None:
    folder = study.folder / "plots"
    names = {path.name for path in folder.iterdir()}
    for kind in KINDS:
        for model in ("mlp_medium", "gpt_tiny"):
            stem = f"{model}_global_batch_64_float32_{kind}"
            assert {f"{stem}.{suffix}" for suffix in FORMATS} <= names
            root = ElementTree.fromstring((folder / f"{stem}.svg").read_text())
            assert root.tag == "{http://www.w3.org/2000/svg}svg"
            with Image.open(folder / f"{stem}.png") as image:
                colors = {color for _, color in image.convert("RGB").getcolors(1 << 20) or []}
            # If a framework is drawn, some pixels have exactly its colour.
            for name in COLORS[:3]:
                assert tuple(bytes.fromhex(name[1:])) in colors, f"{stem}: no {name}"
    assert not any("accuracy" in name for name in names)  # no data set with labels held out
    page = read(study, "report.html")
    for name in names - {".drawn"}:
        assert f'<a href="plots/{name}">{name[-3:].upper()}</a>' in page
    text = read(study, "report.md")
    links = re.findall(r"\]\((plots/[^)]+)\)", text)
    assert len(links) == 1 + 2 * len(KINDS)
    assert all((study.folder / link).exists() for link in links)


def test_equal_loss_curves_lie_on_each_other(study: StudyData) -> None:
    """The fake losses are equal, so all paths must have the same points."""
    path = study.folder / "plots/gpt_tiny_global_batch_64_float32_loss.svg"
    paths = re.findall(r'<path d="(M [^"]+)"[^>]*?clip-path', path.read_text(), re.DOTALL)
    curves = [" ".join(p.split()) for p in paths if p.count("L") > 10]
    assert len(curves) == 11
    assert len(set(curves)) == 1


def test_text_from_outside_is_escaped(study: StudyData) -> None:
    page = read(study, "report.html")
    assert "<b>broke</b>" not in page
    assert "&lt;b&gt;broke&lt;/b&gt;" in page
    markdown = read(study, "report.md")
    assert "<b>" not in markdown
    assert "[x](http" not in markdown
    assert "&lt;b&gt;broke&lt;/b&gt; \\| [x]\\(http://evil)" in markdown


def test_the_csv_has_every_run_with_units(study: StudyData) -> None:
    rows = list(csv.DictReader(io.StringIO(read(study, "results.csv"))))
    assert len(rows) == len(study.lines)
    for row, line in zip(rows, study.lines, strict=True):
        assert row["status"] == line.result.status
        assert row["framework"] == line.cell.framework
        if line.ok:
            assert float(row["step_seconds_median"]) == line.result.median_step_seconds
            assert float(row["examples_per_second"]) == line.result.speed
        else:
            assert row["step_seconds_median"] == ""


def test_one_run_has_no_interval_and_no_verdict(tmp_path: Path) -> None:
    lines = grid_lines(runs=1, seconds=lambda cell: 0.01 / cell["devices"])
    found = load_study(write_study(tmp_path / "one", lines))
    write_report(found)
    text = Page(read(found, "report.html")).text
    assert "One run of each cell: the report has no intervals and no verdicts" in text
    assert "there is no verdict: a verdict needs 3 runs of each cell" in text
    body = text[: text.index("Conditions Machine")]
    assert not re.search(r"\d \[\d", body)  # no interval
    for word in ("is fastest", "faster than", "no difference is shown"):
        assert word not in body


@pytest.mark.parametrize("platform, machine, said", [
    ("cpu", {}, True), ("cpu", GPUS, True), ("gpu", GPUS, False),
])  # fmt: skip
def test_the_platform_of_the_runs_decides_what_the_method_says_about_cpus(
    platform: str, machine: dict[str, Any], said: bool, tmp_path: Path
) -> None:
    """Not the GPUs of the machine: runs on CPUs may not use them."""
    lines = grid_lines(runs=1, devices=(1,), platform=platform, oversubscribed=False)
    store = write_study(tmp_path / "s", lines, steps=0)
    record = json.loads((store.folder / "study.json").read_text())
    record["sessions"][0]["machine"] |= machine
    (store.folder / "study.json").write_text(json.dumps(record))
    paragraphs = method(load_study(store), None)
    assert any("CPU devices of one machine share" in text for text in paragraphs) is said


def test_different_first_losses_raise_an_alarm(tmp_path: Path) -> None:
    lines = grid_lines(runs=1)
    lines[0]["loss_first"] *= 1.001
    found = load_study(write_study(tmp_path / "apart", lines, steps=0))
    write_report(found)
    assert "do not compute the same thing" in read(found, "report.html")


def test_accuracy_is_drawn_if_runs_have_an_evaluation(tmp_path: Path) -> None:
    lines = grid_lines(runs=1, dataset="digits")
    for line in lines:
        line["eval"] = {"accuracy": 0.975, "loss": 0.1, "n": 360}
    found = load_study(write_study(tmp_path / "digits", lines, steps=0))
    write_report(found)
    assert list((found.folder / "plots").glob("*_accuracy.svg"))
    assert "97.5" in Page(read(found, "report.html")).text


def test_a_study_without_successful_runs_has_a_report(tmp_path: Path) -> None:
    lines = grid_lines(runs=1)
    for line in lines:
        line |= {"status": "failed", "error": "broke", "run_dir": None}
        line |= dict.fromkeys(("step_seconds", "latency_seconds", "examples_per_second"))
    found = load_study(write_study(tmp_path / "none", lines, steps=0))
    write_report(found)
    text = Page(read(found, "report.html")).text
    assert "No run was successful" in text
    assert "nothing comparable" in text


def test_plots_of_an_earlier_report_are_removed(tmp_path: Path) -> None:
    lines = grid_lines(models=("a", "b"), runs=1)
    store = write_study(tmp_path / "two", lines, steps=0)
    write_report(load_study(store))
    mine = store.folder / "plots/holiday.png"
    mine.write_text("mine")
    write_report(load_study(store), most_drawn=1)
    for suffix in FORMATS:
        found = (store.folder / "plots").glob(f"*.{suffix}")
        names = {path.name.split("_")[0] for path in found if path != mine}
        assert names == {"a", f"overview.{suffix}"}
    assert mine.exists()
    assert "1 of 2 settings are shown without plots" in read(load_study(store), "report.html")


def test_a_symbolic_link_as_plots_folder_is_refused(tmp_path: Path) -> None:
    store = write_study(tmp_path / "s", grid_lines(runs=1), steps=0)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (store.folder / "plots").symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="is a link"):
        write_report(load_study(store))
    assert not list(elsewhere.iterdir())


def test_earlier_attempts_of_a_run_are_reported(tmp_path: Path) -> None:
    lines = grid_lines(runs=1)
    store = write_study(tmp_path / "s", lines)
    (store.folder / lines[0]["run_dir"]).with_name("run_0.attempt_1").mkdir()
    found = load_study(store)
    write_report(found)
    assert "run_0.attempt_1" in read(found, "report.html")


def test_a_report_with_a_damaged_record_lacks_only_its_loss_curve(tmp_path: Path) -> None:
    lines = grid_lines(runs=1)
    store = write_study(tmp_path / "s", lines)
    run_dir = store.folder / lines[0]["run_dir"]
    (run_dir / "steps.jsonl").write_text('{"step": 0, "lo')
    (run_dir / "config.json").write_text("{")
    found = load_study(store)
    write_report(found)
    text = read(found, "report.html")
    assert "The loss curve of jax bare, 1 is missing: its steps.jsonl is damaged." in text


def test_optional_figures_may_be_missing(tmp_path: Path, capsys) -> None:
    """A figure that an older version did not record appears as a dash."""
    lines = grid_lines(runs=3)
    optional = (
        *("latency_seconds", "compile_seconds", "loss_first", "loss_last", "peak_memory_bytes"),
        *("disturbed", "versions", "eval", "clock_reading_seconds", "sequence", "started"),
    )
    for line in lines:
        for name in optional:
            del line[name]
    found = load_study(write_study(tmp_path / "old", lines, steps=0))
    write_report(found)
    print_comparison(found.summaries, scaling="strong", machines=found.machines)
    page = Page(read(found, "report.html")).text
    assert "outside load unknown for 3" in page
    printed = " ".join(capsys.readouterr().out.split())
    assert f"outside load unknown: {LOAD_UNKNOWN}." in printed
    assert f"Outside load unknown: {LOAD_UNKNOWN}: " in page
    for text in (printed, page):  # the figures beside each other, and how they relate
        assert RATE_AND_TIME in text


@pytest.mark.parametrize("devices", [(1, 2, 4, 8, 16), (1,)])
def test_long_names_and_many_devices_are_drawn(tmp_path: Path, devices: tuple) -> None:
    lines = grid_lines(
        models=("m" * 90,), devices=devices, runs=3, compile_mode="max_autotune_" * 8
    )
    for index, line in enumerate(lines):
        line["cell"] = {**line["cell"], "tuning": "tuned_" * 10 if index % 2 else "stock"}
    found = load_study(write_study(tmp_path / "long", lines, steps=5))
    write_report(found)
    assert list((found.folder / "plots").glob("*_loss.png"))


def test_control_characters_do_not_reach_the_page(tmp_path: Path) -> None:
    lines = grid_lines(runs=1)
    lines[0] |= {"status": "failed", "error": "a\x00b\x1b[31mc"}
    found = load_study(write_study(tmp_path / "s", lines, steps=0))
    write_report(found)
    for name in ("report.html", "report.md", "results.csv", "cells.csv", "verdicts.json"):
        assert not re.search(r"[\x00-\x08\x0e-\x1f]", read(found, name)), name
