"""Every view of results says which isoscale measured them."""

from pathlib import Path
from typing import Any

import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New
from tensorboard.plugins.hparams import metadata, plugin_data_pb2

from isoscale.common.machine.own_version import own_version
from isoscale.common.parity.documents import RelayDocument
from isoscale.common.report.board.event_files import write_event_files
from isoscale.common.report.parity import relay_page
from isoscale.common.report.study.data import StudyData, load_study
from isoscale.common.report.study.write import write_report
from isoscale.common.study.store import Store
from tests.common.parity.test_documents import read
from tests.common.report.fake_study import make_cell, make_line, write_study

OLD, NEW = "0.0.9 (commit 0123456789ab)", "0.1.0 (commit ba9876543210 modified)"


def make_study(folder: Path, *programs: str | None) -> StudyData:
    """Returns a study with one run per program; None: a record without this field."""
    cell = make_cell("torch", "bare", 1)
    lines: list[dict[str, Any]] = [
        make_line(cell, run, 0.01, sequence=run) | ({"isoscale": text} if text else {})
        for run, text in enumerate(programs)
    ]
    write_study(folder, lines)
    return load_study(Store(folder))


def condition(study: StudyData) -> str:
    return dict(study.conditions().facts)["isoscale"]


@pytest.mark.parametrize(
    "programs, expected, mixed",
    [
        ([own_version()], own_version(), False),
        ([OLD], f"measured by {OLD}; report by {own_version()}", False),
        ([None, None], f"measured by unknown; report by {own_version()}", False),
        ([OLD, NEW, OLD], f"measured by {OLD}, {NEW}; report by {own_version()}", True),
        ([None, NEW], f"measured by unknown, {NEW}; report by {own_version()}", True),
    ],
)
def test_the_conditions_name_it(
    tmp_path: Path, programs: list[str | None], expected: str, mixed: bool
) -> None:
    study = make_study(tmp_path / "s", *programs)
    assert condition(study) == expected
    warned = any("different versions of isoscale" in w for w in study.conditions().warnings)
    assert warned == mixed


def test_the_report_and_the_table_name_it(tmp_path: Path) -> None:
    write_report(make_study(tmp_path / "s", OLD))
    for name in ("report.html", "report.md", "results.csv"):
        assert OLD in (tmp_path / "s" / name).read_text().replace("&#40;", "("), name


def events(path: Path) -> list[Event]:
    reader, found = PyRecordReader_New(str(path)), []
    for _ in range(2000):
        try:
            reader.GetNext()
        except Exception:
            return found
        found.append(Event.FromString(reader.record()))
    raise AssertionError(path)


def test_every_event_file_names_it(tmp_path: Path) -> None:
    folder = write_event_files(make_study(tmp_path / "s", OLD), plots=None)
    files = list(folder.rglob("events.out.*"))
    parts = {path.relative_to(folder).parts[0].split(".")[0] for path in files}
    assert parts == {"events", "report", "runs", "scaling"}
    for path in files:
        assert events(path)[0].source_metadata.writer == f"isoscale {own_version()}", path
    (run,) = folder.glob("runs/*/run_0/events.out.*")
    start = events(run)[2].summary.value[0].metadata.plugin_data.content
    session = plugin_data_pb2.HParamsPluginData.FromString(start).session_start_info
    assert session.hparams["isoscale"].string_value == OLD
    (root,) = folder.glob("events.out.*")
    content = events(root)[2].summary.value[0].metadata.plugin_data.content
    assert metadata.parse_experiment_plugin_data(content).hparam_infos[-1].name == "isoscale"


def test_documents_of_parity_and_relay_name_it() -> None:
    document = RelayDocument.from_json(read("relay.json") | {"isoscale": OLD})
    assert document.to_json()["isoscale"] == OLD
    assert relay_page.sentences(document)[-1].endswith(f"isoscale {OLD}.")
    older = RelayDocument.from_json(read("relay.json"))
    assert relay_page.sentences(older)[-1].endswith("isoscale unknown.")
