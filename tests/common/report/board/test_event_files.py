import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.errors import OutOfRangeError
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

from isoscale.common.analysis.factors import CAUSES
from isoscale.common.config.cell import Cell
from isoscale.common.config.errors import ConfigError, FolderError
from isoscale.common.measure.scenarios.training import SCENARIO
from isoscale.common.report.board.event_files import (
    join_event_files,
    most_points,
    plain_name,
    write_event_files,
)
from isoscale.common.report.board.values import DIFF, seconds_of
from isoscale.common.report.study.data import StudyData, load_study
from isoscale.common.study.store import Store
from tests.architecture.test_imports import FRAMEWORKS, check_not_loaded
from tests.common.analysis.test_factors import STRONG, lines_of
from tests.common.report.fake_study import grid_lines, make_cell, make_line, write_study

PNG = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x02\x08\x00\x00\x00\x00"
    b"\x00\x00\x00\x00\x00"
)


def lines_of_a_study() -> list[dict[str, Any]]:
    """A study: six runs of one model, one run of another; one failed, diverged and skipped run."""
    lines = grid_lines(runs=6, seconds=lambda cell: 0.01 / cell["devices"] ** 0.5, noise=0.05)
    lines += grid_lines(models=("gpt_tiny",), runs=1)
    ddp = make_cell("torch", "ddp", 2)
    nothing = dict.fromkeys(("step_seconds", "latency_seconds", "examples_per_second", "loss_last"))
    for run, status in ((6, "failed"), (7, "diverged"), (8, "skipped")):
        lines.append(make_line(ddp, run, 0.01, sequence=0, status=status, error="x"))
        if status != "diverged":
            lines[-1] |= nothing
        if status == "skipped":
            lines[-1] |= {"run_dir": None, "started": None, "wall_seconds": None}
    for sequence, line in enumerate(lines):
        line["sequence"] = sequence
    return lines


def make_study(folder: Path, lines: list[dict[str, Any]] | None = None) -> StudyData:
    write_study(folder, lines_of_a_study() if lines is None else lines)
    return load_study(Store(folder))


@pytest.fixture
def study(tmp_path: Path) -> StudyData:
    return make_study(tmp_path / "study")


def read(folder: Path) -> list[Event]:
    """Returns the events of a folder's only event file, and checks the checksums."""
    (path,) = folder.glob("*tfevents*")
    reader, events = PyRecordReader_New(str(path)), []
    while True:
        try:
            reader.GetNext()
        except OutOfRangeError:
            return events
        events.append(Event.FromString(reader.record()))


def values(folder: Path) -> Iterator[tuple[Event, Any]]:
    for event in read(folder):
        for value in event.summary.value:
            yield event, value


def curve(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, value.simple_value) for event, value in values(folder) if value.tag == tag]


def plugin_data(folder: Path, tag: str) -> plugin_data_pb2.HParamsPluginData:
    (found,) = (value for _, value in values(folder) if value.tag == tag)
    content = found.metadata.plugin_data.content
    return plugin_data_pb2.HParamsPluginData.FromString(content)


def layout(folder: Path) -> dict[str, list[Any]]:
    (found,) = (v for _, v in values(folder) if v.tag == "custom_scalars__config__")
    charts = Layout.FromString(found.tensor.string_val[0])
    return {category.title: list(category.chart) for category in charts.category}


def run_folder(folder: Path, cell: dict[str, Any], run: int) -> Path:
    return folder / "runs" / Cell.from_record(cell).id / f"run_{run}"


def test_the_events_of_a_run_have_its_losses_and_times(study: StudyData) -> None:
    cell = make_cell("torch", "ddp", 2)
    (line,) = (e for e in study.lines if e.cell == Cell.from_record(cell) and e.run == 3)
    result = dataclasses.replace(line.result, startup_seconds={"import_seconds": 2.0})
    study.lines[study.lines.index(line)] = dataclasses.replace(line, result=result)
    steps = study.folder / str(line.result.run_dir) / "steps.jsonl"
    records = [json.loads(text) for text in steps.read_text().splitlines()]
    records[4]["loss"] = None  # was not finite
    records[5]["auxiliary"] = 0.25
    steps.write_text("".join(json.dumps(record) + "\n" for record in records))
    folder = run_folder(write_event_files(study, plots=None), cell, 3)
    loss = curve(folder, "loss")
    assert [step for step, _ in loss] == [0, 1, 2, 3, *range(5, 20)]
    assert loss[-1][1] == pytest.approx(5.25 * 0.9**19)
    assert curve(folder, "loss_parts/auxiliary") == [(5, 0.25)]
    # The fake windows: 5 steps each, throughput at steps 0 and 10, latency at 5 and 15.
    milliseconds = 1e3 * line.result.median_step_seconds
    assert curve(folder, "window/throughput_ms_per_step") == [
        (0, pytest.approx(milliseconds)),
        (10, pytest.approx(milliseconds)),
    ]
    assert [step for step, _ in curve(folder, "window/latency_ms_per_step")] == [5, 15]
    assert curve(folder, "run/step_ms") == [(0, pytest.approx(milliseconds))]
    start = seconds_of(line.result.started)
    times = [e.wall_time - start for e, value in values(folder) if value.tag == "loss"]
    # Training starts after the import; the last of 20 steps ends 20 steps later.
    assert times[0] == pytest.approx(2 + milliseconds / 1e3, abs=1e-5)
    assert times[-1] == pytest.approx(2 + 20 * milliseconds / 1e3, abs=1e-5)


def test_runs_of_a_cell_are_one_session_group(study: StudyData, tmp_path: Path) -> None:
    folder = write_event_files(study, plots=None)
    other = make_study(tmp_path / "elsewhere" / "study")
    other_folder = write_event_files(other, plots=None)

    def session(place: Path, cell: dict[str, Any], run: int) -> Any:
        return plugin_data(
            run_folder(place, cell, run), "_hparams_/session_start_info"
        ).session_start_info

    ddp, pjit = make_cell("torch", "ddp", 2), make_cell("jax", "pjit", 2)
    groups = {session(folder, ddp, run).group_name for run in range(9)}
    assert len(groups) == 1
    assert session(folder, pjit, 0).group_name not in groups
    assert session(other_folder, ddp, 0).group_name not in groups
    found = session(folder, ddp, 0).hparams
    assert found["devices"].number_value == 2
    assert found["learning_rate"].number_value == 0.001
    assert found["framework"].string_value == "torch"
    assert found["optimizer"].string_value == "adamw"
    assert found["sizes"].string_value == "preset"
    assert found["study"].string_value == "study"
    assert found["oversubscribed"].WhichOneof("kind") == "bool_value"
    experiment = plugin_data(folder, "_hparams_/experiment").experiment
    assert {info.name for info in experiment.hparam_infos} == set(found)
    assert {info.name for info in experiment.hparam_infos if info.differs} == {
        "model",
        "framework",
        "strategy",
        "devices",
        "compile_mode",
    }


def test_every_run_has_a_status_and_only_successful_runs_have_metrics(study: StudyData) -> None:
    folder = write_event_files(study, plots=None)
    cell = make_cell("torch", "ddp", 2)
    expected = {
        5: api_pb2.STATUS_SUCCESS,
        6: api_pb2.STATUS_FAILURE,
        7: api_pb2.STATUS_FAILURE,
        8: api_pb2.STATUS_UNKNOWN,
    }
    for run, status in expected.items():
        place = run_folder(folder, cell, run)
        end = plugin_data(place, "_hparams_/session_end_info").session_end_info
        assert end.status == status
        metrics = {value.tag for _, value in values(place) if value.tag.startswith("run/")}
        assert bool(metrics) == (run == 5), run
        if run == 5:
            missing = {metric.tag for metric in SCENARIO.metrics} - metrics
            assert missing <= {"run/accuracy_percent", "run/tokens_per_second"}  # no data held out


def test_scaling_curves_have_the_intervals_of_the_analysis(study: StudyData) -> None:
    folder = write_event_files(study, plots=None)
    (setting,) = (s for s in study.settings if s.title.startswith("mlp_medium,"))
    stem = setting.title
    for series, cells in setting.series.items():
        place = folder / "scaling" / series
        assert curve(place, f"{stem}/speedup") == [
            (cell.cell.devices, pytest.approx(cell.speedup.value)) for cell in cells
        ]
        bounded = [cell for cell in cells if cell.speedup.low is not None]
        assert bool(bounded) != series.endswith("bare")
        for tag, figure in (
            ("speedup_with_interval", lambda cell: cell.speedup.value),
            ("speedup_low", lambda cell: cell.speedup.low),
            ("speedup_high", lambda cell: cell.speedup.high),
            ("efficiency_percent_low", lambda cell: 100 * cell.efficiency.low),
        ):
            assert curve(place, f"{stem}/{tag}") == [
                (cell.cell.devices, pytest.approx(figure(cell))) for cell in bounded
            ]
        assert curve(place, f"{stem}/examples_per_second_high") == [
            (cell.cell.devices, pytest.approx(cell.examples_per_second.high)) for cell in cells
        ]
    charts = layout(folder)[stem]
    assert all("95 % interval" in chart.title for chart in charts)
    assert all("NO interval" not in chart.title for chart in charts)
    drawn = {s.value for chart in charts for s in chart.margin.series}
    assert drawn == {
        f"{stem}/{name}_with_interval"
        for name in ("speedup", "efficiency_percent", "examples_per_second")
    }


def test_factors_of_efficiency_have_curves_and_charts(tmp_path: Path) -> None:
    lines = lines_of(STRONG, runs=5, noise=0.002)
    study = load_study(write_study(tmp_path / "s", lines, steps=0))
    folder = write_event_files(study, plots=None)
    (setting,) = study.settings
    (found,) = study.factors[setting.title]
    for cause in CAUSES:
        ratio, tag = found.find(cause), f"{setting.title}/factor_{cause.replace(' ', '_')}"
        place = folder / "scaling" / "torch ddp"
        assert curve(place, tag) == [(2, pytest.approx(ratio.value))]
        assert curve(place, f"{tag}_low") == [(2, pytest.approx(ratio.low))]
    titles = [chart.title for chart in layout(folder)[setting.title]]
    assert [cause for cause in CAUSES if any(cause in title for title in titles)] == list(CAUSES)


def test_charts_of_single_runs_have_no_interval_and_a_note_in_the_title(study: StudyData) -> None:
    folder = write_event_files(study, plots=None)
    (setting,) = (s for s in study.settings if s.title.startswith("gpt_tiny,"))
    for series in setting.series:
        for _, value in values(folder / "scaling" / series):
            if value.tag.startswith(setting.title):
                assert not value.tag.endswith(("_low", "_high", "_with_interval"))
    charts = layout(folder)[setting.title]
    assert [len(chart.margin.series) for chart in charts] == [0, 0, 0]
    assert [len(chart.multiline.tag) for chart in charts] == [1, 1, 1]
    assert all("NO interval in" in chart.title for chart in charts)


def test_cells_without_an_interval_are_in_a_separate_chart(tmp_path: Path) -> None:
    lines = grid_lines(runs=6)
    two = make_cell("torch", "ddp", 2)
    lines = [line for line in lines if line["cell"] != two or line["run"] == 0]
    study = make_study(tmp_path / "study", lines)
    folder = write_event_files(study, plots=None)
    ((title, charts),) = layout(folder).items()
    titles = [chart.title for chart in charts if "speedup (" in chart.title]
    assert len(titles) == 2
    assert "only the 7 cells with an interval" in titles[0]
    assert "NO interval in 1 of 8 cells" in titles[1]
    place = folder / "scaling" / "torch ddp"
    assert [step for step, _ in curve(place, f"{title}/speedup")] == [1, 2]
    for tag in ("speedup_with_interval", "speedup_low", "speedup_high"):
        assert [step for step, _ in curve(place, f"{title}/{tag}")] == [1]


def test_titles_mark_oversubscription_and_disturbed_runs(tmp_path: Path) -> None:
    lines = grid_lines(devices=(1, 2, 4))
    lines[0]["disturbed"] = True
    (title,) = layout(write_event_files(make_study(tmp_path / "s", lines), plots=None))
    assert "oversubscribed at 4 devices: overhead, not scaling" in title
    assert f"1 of {len(lines)} runs disturbed" in title


def event_paths(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*tfevents*")}


def test_event_files_that_are_up_to_date_are_not_written_again(study: StudyData) -> None:
    before = event_paths(write_event_files(study, plots=None))
    assert event_paths(write_event_files(study, plots=None)) == before
    cell = make_cell("torch", "ddp", 2)
    (line,) = (e for e in study.lines if e.cell == Cell.from_record(cell) and e.run == 0)
    path = study.folder / str(line.result.run_dir) / "steps.jsonl"
    path.write_text(path.read_text().replace('"loss": 5.25', '"loss": 6.5'))
    folder = write_event_files(study, plots=None)
    after = event_paths(folder)
    assert len(after) == len(before)
    changed = [place for place in after if before.get(place) != after[place]]
    assert changed == list(run_folder(folder, cell, 0).iterdir())
    assert curve(changed[0].parent, "loss")[0] == (0, 6.5)


def test_event_files_of_removed_runs_are_deleted(study: StudyData) -> None:
    cell = make_cell("torch", "ddp", 2)
    folder = write_event_files(study, plots=None)
    path = study.folder / "results.jsonl"
    gone = Cell.from_record(cell)
    kept = [line for line in study.lines if line.cell != gone and line.run != 1]
    path.write_text("".join(json.dumps(line.to_record()) + "\n" for line in kept))
    write_event_files(load_study(Store(study.folder)), plots=None)
    assert not (folder / "runs" / Cell.from_record(cell).id).exists()
    other = make_cell("torch", "ddp", 1)
    assert run_folder(folder, other, 0).exists()
    assert not run_folder(folder, other, 1).exists()
    assert len(list(folder.glob("*tfevents*"))) == 1


def test_paths_in_a_hostile_study_do_not_leave_its_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "steps.jsonl").write_text('{"step": 0, "loss": 7.0}\n')
    (outside / "precious").mkdir()
    hostile = make_cell("torch", "../../../x/", 1, model="../../../../outside/precious")
    lines = [
        make_line(hostile, 0, 0.01, sequence=0, run_dir="../outside"),
        make_line(hostile, 1, 0.01, sequence=1, run_dir=str(outside)),
        make_line(hostile, 2, 0.01, sequence=2, run_dir="cells/not/there"),
        {**make_line(hostile, 3, 0.01, sequence=3), "started": "yesterday"},
        {
            **make_line(
                make_cell("t\u202e", "s|<b>", 1, overrides={"n": [1, 2]}), 0, 0.01, sequence=4
            ),
            "disturbed": None,
            "compile_seconds": None,
            "run_dir": None,
        },
    ]
    folder = tmp_path / "study"
    write_study(folder, lines, steps=0)
    (folder / "tensorboard").mkdir()
    (folder / "tensorboard" / "runs").symlink_to(outside)
    study = load_study(Store(folder))
    before = {path for path in tmp_path.rglob("*") if folder not in path.parents}
    made = write_event_files(study, plots=None)
    assert {path for path in tmp_path.rglob("*") if folder not in path.parents} == before
    places = {path.parent for path in made.rglob("*tfevents*")}
    assert {path.parent.name for path in places if path.name.startswith("run_")}
    assert len([path for path in places if path.name.startswith("run_")]) == 5
    for place in places:
        assert made in (place, *place.resolve().parents)
        assert curve(place, "loss") == []


def test_plain_names_are_unique_and_plain() -> None:
    texts = ["a", "a b", "a/b", "a_b", "..", ".", "", "é", "x" * 300, "x" * 301, "a\nb", " "]
    names = [plain_name(text) for text in texts]
    assert len(set(names)) == len(texts)
    for name in names:
        assert name == Path(name).name
        assert name not in ("", ".", "..")
        assert len(name) < 200


def test_the_error_names_the_damaged_records(study: StudyData) -> None:
    path = study.folder / str(study.lines[0].result.run_dir) / "steps.jsonl"
    path.write_text('{"step": 0, "lo')
    with pytest.raises(ConfigError, match=r"records of .*run_0"):
        write_event_files(study, plots=None)


def test_report_has_the_conditions_and_the_figures(tmp_path: Path) -> None:
    lines = grid_lines(runs=1, dataset="a|b<script>_x_")
    study = make_study(tmp_path / "study", lines)
    plots = tmp_path / "study" / "plots"
    plots.mkdir()
    (plots / "speed.png").write_bytes(PNG)
    (plots / "broken.png").write_bytes(b"no image")
    place = write_event_files(study, plots=plots) / "report"
    found = {value.tag: value for _, value in values(place)}
    assert set(found) == {"manifest", "reading", "figures/speed"}
    text = found["manifest"].tensor.string_val[0].decode()
    (row,) = (line for line in text.splitlines() if line.startswith("| Data"))
    assert row.count("|") == 3  # the cell's own bar is no separator
    assert "<" not in row
    assert "a&#124;b&#60;script&#62;&#95;x&#95;" in row
    assert "WARNING" in text.splitlines()[3]
    assert list(found["figures/speed"].tensor.string_val) == [b"1", b"2", PNG]


def test_the_sections_of_a_written_report_are_texts(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", grid_lines(dataset="<b>", seconds=lambda _: 0.01))
    answer = "A &lt;b&gt; is fastest.\n\n![p](plots/p.png)\n\n*p.* What p shows.\n"
    setting = "## mlp &amp; co\n\n| law |\n"
    text = f"# isoscale: s\n\n## The answer\n\n{answer}\n{setting}\n## All runs\n\n| run |\n"
    (study.folder / "report.md").write_text(text)
    place = write_event_files(study, plots=None) / "report"
    found = {value.tag: value.tensor.string_val for _, value in values(place)}
    tags = ["isoscale report/01 The answer", "isoscale report/02 mlp & co"]
    assert [tag for tag in found if tag.startswith("isoscale")] == tags
    assert list(found[tags[0]]) == [b"\nA &lt;b&gt; is fastest.\n\n\n"]
    assert b"| law |" in found[tags[1]][0]


def test_neighbours_among_joined_studies_are_compared(tmp_path: Path) -> None:
    slow = grid_lines(seconds=lambda cell: 0.013 if cell["strategy"] == "ddp" else 0.01)
    studies = {
        "a": make_study(tmp_path / "a", grid_lines()),
        "b": make_study(tmp_path / "b", slow),
        "other": make_study(tmp_path / "other", grid_lines(models=("gpt_tiny",), runs=1)),
    }
    folder = tmp_path / "joined"
    folder.mkdir()
    for study in studies.values():
        write_event_files(study, plots=None)
    join_event_files(studies, folder)
    ((_, value),) = values(folder / DIFF)
    assert value.tag == "isoscale diff/a to b"
    text = value.tensor.string_val[0].decode()
    assert text.startswith("**2 of 11 cells were shown to be slower by more than 5 %: torch ddp")


def test_joined_studies_have_one_layout_and_one_experiment(
    study: StudyData, tmp_path: Path
) -> None:
    lines = grid_lines(models=("moe_tiny", "mlp_medium"), runs=3)
    other = make_study(tmp_path / "other", lines)
    folder = tmp_path / "joined"
    folder.mkdir()
    for entry in (study, other):
        write_event_files(entry, plots=None)
    join_event_files({"one": study, "two": other}, folder)
    titles = [title.split(",")[0] for title in layout(folder)]
    assert titles == ["mlp_medium", "gpt_tiny", "moe_tiny"]
    experiment = plugin_data(folder, "_hparams_/experiment").experiment
    (models,) = (i.domain_discrete for i in experiment.hparam_infos if i.name == "model")
    assert [value.string_value for value in models.values] == ["gpt_tiny", "mlp_medium", "moe_tiny"]
    for name, entry in (("one", study), ("two", other)):
        assert not list((folder / name).glob("*tfevents*"))
        for part in ("report", "runs", "scaling"):
            assert (folder / name / part).resolve() == entry.folder / "tensorboard" / part
    assert most_points(folder) > 20


def test_a_study_without_runs_can_be_shown(tmp_path: Path) -> None:
    folder = write_event_files(make_study(tmp_path / "study", []), plots=tmp_path / "none")
    assert layout(folder) == {}
    assert {value.tag for _, value in values(folder / "report")} == {"manifest", "reading"}


def test_writing_the_same_study_twice_gives_equal_files(study: StudyData) -> None:
    folder = write_event_files(study, plots=None)
    before = {path: path.read_bytes() for path in event_paths(folder)}
    for path in before:
        os.unlink(path)
    write_event_files(study, plots=None)
    assert {path: path.read_bytes() for path in event_paths(folder)} == before


def test_writing_loads_no_framework(study: StudyData, tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from isoscale.common.report.board.event_files import write_event_files
from isoscale.common.report.study.data import load_study
from isoscale.common.study.store import Store
write_event_files(load_study(Store(Path({str(study.folder)!r}))), plots=None)
"""
    check_not_loaded(FRAMEWORKS | {"tensorboardX"}, after=code, folder=tmp_path)
    assert (study.folder / "tensorboard" / "runs").is_dir()


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _emptied(content: bytes) -> bytes:
    return b""


def _flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [_cut, _emptied, _flipped])
def test_damaged_event_files_are_written_again_under_another_name(
    damage: Callable[[bytes], bytes], study: StudyData
) -> None:
    folder = write_event_files(study, plots=None)
    original = {path: path.read_bytes() for path in event_paths(folder)}
    for times in range(1, 3):
        for path in event_paths(folder):
            path.write_bytes(damage(path.read_bytes()))
        write_event_files(study, plots=None)
        now = {path: path.read_bytes() for path in event_paths(folder)}
        # A running TensorBoard does not read a file with a known name again.
        expected = {Path(f"{path}{'+' * times}"): data for path, data in original.items()}
        assert now == expected
    before = event_paths(folder)
    assert event_paths(write_event_files(study, plots=None)) == before


@pytest.mark.parametrize("kind", ["fifo", "folder", "link"])
def test_an_event_file_that_is_no_file_is_neither_read_nor_followed(
    kind: str, study: StudyData, tmp_path: Path
) -> None:
    folder = write_event_files(study, plots=None)
    path = next(iter(event_paths(folder)))
    path.unlink()
    target = tmp_path / "precious"
    target.write_text("precious")
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(target)
    if kind == "folder":
        with pytest.raises(FolderError, match=r"^cannot write .*tensorboard: is a directory$"):
            write_event_files(study, plots=None)
    else:
        write_event_files(study, plots=None)
        assert len([p for p in path.parent.iterdir() if "tfevents" in p.name]) == 1
    assert target.read_text() == "precious"
