import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.config.cell import Cell
from isoscale.common.config.errors import ConfigError, FolderError
from isoscale.common.config.records import SCHEMA_VERSION
from isoscale.common.disk.json_files import write_json
from isoscale.common.study.store import Store, set_aside
from tests.common.report.fake_study import make_cell, make_line, read_line

RECORD = make_cell("torch", "ddp", 2)
CELL = Cell.from_record(RECORD)


def line(run: int, status: str = "ok", **more: Any) -> dict[str, Any]:
    return make_line(RECORD, run, 0.01, sequence=run, status=status, **more)


def test_a_retried_run_replaces_its_line(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add(read_line(line(0, "failed")))
    store.add(read_line(line(1)))
    assert not store.is_ok(CELL, 0)
    store.add(read_line(line(0)))
    again = Store(tmp_path)
    again.load()
    assert again.is_ok(CELL, 0)
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 2
    assert not again.is_ok(dataclasses.replace(CELL, devices=1), 0)


def _write_forever(folder: Path) -> None:
    store = Store(folder)
    for run in range(10_000):
        store.add(read_line(line(run, error="x" * 2_000_000)))


def test_a_kill_at_any_moment_leaves_whole_lines(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for attempt in range(10):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        writer = context.Process(target=_write_forever, args=(folder,))
        writer.start()
        while not (folder / "results.jsonl").exists():
            time.sleep(0.001)
        time.sleep(0.013 * attempt)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        lines = (folder / "results.jsonl").read_text().splitlines()
        assert [json.loads(text)["run"] for text in lines] == list(range(len(lines)))


@pytest.mark.parametrize(
    "foreign",
    [
        '{"torn": ',
        "[]",
        '{"cell": {}, "run": 1, "status": "ok"}',
        json.dumps(line(1, examples_per_second=None)),
        json.dumps(line(1) | {"step_seconds": {}}),
        json.dumps(line(1, status="great")),
        json.dumps(line(1, examples_per_second=float("inf"))),
        json.dumps(line(1, compile_seconds="fast")),
        json.dumps(line(1, eval={"accuracy": "good"})),
        json.dumps(line(1, eval=[1])),
        json.dumps(line(1, latency_seconds={"median": 0.0})),
        json.dumps(line(1, compile_seconds=-0.5)),
        json.dumps(line(1, wall_seconds=-3600)),
        json.dumps(line(1, startup_seconds={"import_seconds": -86400.0})),
        json.dumps(line(1, status="failed", measured_seconds=-1.0)),
        json.dumps(line(1) | {"run": "one"}),
        json.dumps(line(1) | {"cell": {**RECORD, "devices": 0}}),
        json.dumps(line(1) | {"cell": {**RECORD, "overrides": "none"}}),
    ],
)
def test_a_damaged_line_is_named_and_set_aside(tmp_path: Path, foreign: str) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(f"{json.dumps(line(0))}\n{foreign}\n{json.dumps(line(2))}\n")
    store = Store(tmp_path)
    store.load()
    assert [found.run for found in store.lines()] == [0, 2]
    (note,) = store.notes
    assert note.startswith("results.jsonl:2 is not a result line (")
    store.add(read_line(line(3)))
    assert (tmp_path / "results.damaged.jsonl").read_text() == f"{foreign}\n"
    again = Store(tmp_path)
    again.load()
    assert [found.run for found in again.lines()] == [0, 2, 3]
    assert not again.notes


def _written(folder: Path, runs: int) -> Store:
    """Returns a store with a line and a run folder for each run."""
    store = Store(folder)
    for run in range(runs):
        found = read_line(line(run))
        store.add(found)
        run_dir = folder / "cells" / CELL.id / f"run_{run}"
        run_dir.mkdir(parents=True)
        write_json(run_dir / "result.json", found.result.to_record())
    return store


@pytest.mark.parametrize("place", [0, 40, 200, -70, -20, -2])
def test_one_changed_byte_is_found_and_the_run_is_read_from_its_folder(
    place: int, tmp_path: Path
) -> None:
    _written(tmp_path, 3)
    path = tmp_path / "results.jsonl"
    first, second, third = path.read_bytes().splitlines(keepends=True)
    changed = bytearray(second)
    changed[place] ^= 1
    path.write_bytes(first + changed + third)
    store = Store(tmp_path)
    store.load()
    assert sorted(found.run for found in store.lines()) == [0, 1, 2]
    assert store.is_ok(CELL, 1)
    assert store.notes[0].startswith("results.jsonl:2 is not a result line")
    assert store.notes[1] == f"run 1 of cell {CELL.id} was read from its run folder"
    assert path.read_bytes() == first + changed + third, "reading a study changed it"


def test_a_file_without_its_end_keeps_the_other_lines(tmp_path: Path) -> None:
    _written(tmp_path, 3)
    path = tmp_path / "results.jsonl"
    content = path.read_bytes()
    for cut in (1, 2, 100):
        path.write_bytes(content[:-cut])
        store = Store(tmp_path)
        store.load()
        assert {found.run for found in store.lines()} == {0, 1, 2}
        assert "the end of the line is missing" in store.notes[0]


def test_several_lines_of_a_run_are_named(tmp_path: Path) -> None:
    lines = [json.dumps(line(run, loss_first=float(n))) for n, run in enumerate((0, 1, 0))]
    (tmp_path / "results.jsonl").write_text("\n".join(lines) + "\n")
    store = Store(tmp_path)
    store.load()
    assert store.notes == [
        f"results.jsonl: run 0 of cell {CELL.id} has 2 lines; the last one counts"
    ]
    assert {found.run: found.result.loss_first for found in store.lines()} == {0: 2.0, 1: 1.0}


def test_lines_of_an_earlier_isoscale_have_no_checksum_and_stay_as_they_are(tmp_path: Path) -> None:
    path, legacy = tmp_path / "results.jsonl", json.dumps(line(0)) + "\n"
    path.write_text(legacy)
    store = Store(tmp_path)
    store.load()
    store.add(read_line(line(1)))
    assert not store.notes
    assert path.read_text().startswith(legacy)
    assert path.read_text().count("line_sha256") == 1


def test_lines_before_schema_version_4_call_the_throughput_items_per_second(tmp_path: Path) -> None:
    old = {**line(0), "schema_version": 3}
    old["items_per_second"] = old.pop("examples_per_second")
    both = {**old, "run": 1, "examples_per_second": 1.0}
    path, text = tmp_path / "results.jsonl", json.dumps(old) + "\n"
    path.write_text(text + json.dumps(both) + "\n")
    store = Store(tmp_path)
    store.load()
    (found,) = store.lines()
    assert found.result.examples_per_second == old["items_per_second"]
    assert "items_per_second" not in found.to_record()
    (note,) = store.notes
    assert "items_per_second: TrainingResult lacks this field" in note
    store.write()
    assert path.read_text() == text  # an old line stays as it is


def test_lines_of_a_later_isoscale_are_refused(tmp_path: Path) -> None:
    later = json.dumps({**line(0), "schema_version": SCHEMA_VERSION + 1})
    (tmp_path / "results.jsonl").write_text(later + "\n")
    with pytest.raises(ConfigError, match=r"schema_version is \d; this isoscale reads 1 to"):
        Store(tmp_path).load()


@pytest.mark.parametrize("name", ["results.jsonl", "cells"])
def test_a_link_out_of_the_study_is_refused(name: str, tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    (study / name).symlink_to(tmp_path)
    with pytest.raises(FolderError, match=f"{name} is a link that leads out of the study"):
        Store(study).load()


def test_a_run_folder_of_another_cell_is_not_used(tmp_path: Path) -> None:
    _written(tmp_path, 1)
    folder = tmp_path / "cells" / CELL.id
    shutil.copytree(folder, tmp_path / "cells/other")
    (folder / "run_1").mkdir()
    (folder / "run_1/result.json").write_text('{"status": "ok"}')
    (folder / "run_2").symlink_to(tmp_path.parent)
    (tmp_path.parent / "result.json").write_text("{}")
    (tmp_path / "results.jsonl").unlink()
    store = Store(tmp_path)
    store.read_run_folders()
    (tmp_path.parent / "result.json").unlink()
    assert [found.run for found in store.lines()] == [0]
    assert len(store.notes) == 4
    text = " ".join(store.notes)
    assert "run_1/result.json is not used: cell is missing" in text
    assert "run_2/result.json is not used: a link leads out of the study" in text
    assert f"its cell is {CELL.id}, not other" in text


def test_no_attempt_is_deleted(tmp_path: Path) -> None:
    run_dir = tmp_path / "run_0"
    for attempt in range(3):
        set_aside(run_dir)
        run_dir.mkdir()
        (run_dir / "log.txt").write_text(str(attempt))
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["run_0", "run_0.attempt_1", "run_0.attempt_2"]
    assert (tmp_path / "run_0.attempt_1" / "log.txt").read_text() == "0"
