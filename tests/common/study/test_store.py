import dataclasses
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.config.cell import Cell
from isoscale.common.config.errors import ConfigError
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
        json.dumps(line(1, items_per_second=None)),
        json.dumps(line(1) | {"step_seconds": {}}),
        json.dumps(line(1, status="great")),
        json.dumps(line(1, items_per_second=float("inf"))),
        json.dumps(line(1, compile_seconds="fast")),
        json.dumps(line(1, eval={"accuracy": "good"})),
        json.dumps(line(1, eval=[1])),
        json.dumps(line(1, latency_seconds={"median": 0.0})),
        json.dumps(line(1) | {"run": "one"}),
        json.dumps(line(1) | {"cell": {**RECORD, "devices": 0}}),
        json.dumps(line(1) | {"cell": {**RECORD, "overrides": "none"}}),
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, foreign: str) -> None:
    (tmp_path / "results.jsonl").write_text(f"{json.dumps(line(0))}\n{foreign}\n")
    with pytest.raises(ConfigError, match=r"results.jsonl:2 is not a result line"):
        Store(tmp_path).load()


def test_no_attempt_is_deleted(tmp_path: Path) -> None:
    run_dir = tmp_path / "run_0"
    for attempt in range(3):
        set_aside(run_dir)
        run_dir.mkdir()
        (run_dir / "log.txt").write_text(str(attempt))
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["run_0", "run_0.attempt_1", "run_0.attempt_2"]
    assert (tmp_path / "run_0.attempt_1" / "log.txt").read_text() == "0"
