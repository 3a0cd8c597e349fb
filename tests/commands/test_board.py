"""Tests ``isoscale board``: its command line, and TensorBoard's answers at its REST endpoints."""

import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from isoscale.common.commands.board import links, run_filter
from isoscale.common.config.cell import Cell
from isoscale.common.config.errors import ConfigError
from isoscale.common.config.flags import split_words
from isoscale.common.processes.ports import free_port
from isoscale.common.report.board.values import DIFF
from isoscale.common.study.find import find_study
from tests.architecture.test_imports import FRAMEWORKS, check_not_loaded
from tests.commands.board_process import Board, running_board, wait_for
from tests.common.report.board.test_event_files import PNG, lines_of_a_study
from tests.common.report.fake_study import grid_lines, make_cell, make_line, write_study


def test_study_names_are_separated_from_flags() -> None:
    argv = ["a", "--port=1", "b", "--", "--c"]
    assert split_words(argv) == (["a", "b", "--c"], ["--port=1"])


def test_a_study_is_found_by_name_or_path(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path / "out" / "old", [], steps=0)
    write_study(tmp_path / "out" / "new", [], steps=0)
    os.utime(tmp_path / "out" / "old" / "results.jsonl", (1, 1))
    assert find_study("old", "out").folder == Path("out/old")
    assert find_study("out/old", "nowhere").folder == Path("out/old")
    assert find_study(str(tmp_path / "out" / "old"), "out").folder == tmp_path / "out" / "old"
    assert find_study(None, "out").folder == Path("out/new")
    for text in ("ol", "", "../old", "x" * 5000, "old\0", "out"):
        with pytest.raises(ConfigError, match="unknown study"):
            find_study(text, "out")


BAD = [
    (["od"], "unknown study 'od': did you mean 'old'? Known: broken, old"),
    (["old", "../etc"], "unknown study '../etc'"),
    (["broken"], "study.json was not written by isoscale"),
    (["--out_dir=empty"], "no study in empty; create one with 'isoscale compare'"),
    (["old", "--port=x"], "--port=x: must be a whole number, 0 to 65535"),
    (["old", "--port=65536"], "--port=65536: must be a whole number, 0 to 65535"),
    (["old", "--port=TAKEN"], "is in use; choose another port, or 0 for a free one"),
    (["old", "--host=203.0.113.7", "--port=0"], "--host=203.0.113.7 is not an address"),
    (["old", "--host=203.0.113.7"], "--host=203.0.113.7 is not an address of this machine"),
    (["old", "--prot=1"], "unknown flag '--prot': did you mean '--port', "),
]


@pytest.mark.parametrize("arguments, message", BAD, ids=lambda value: str(value)[:40])
def test_bad_input(arguments: list[str], message: str, run_program, tmp_path: Path) -> None:
    write_study(tmp_path / "runs/out/old", [], steps=0)
    (tmp_path / "runs/out/broken").mkdir()
    (tmp_path / "runs/out/broken/study.json").write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        words = [word.replace("TAKEN", port) for word in arguments]
        answer = run_program("isoscale.common.commands.main", "board", *words)
    assert answer.returncode == 2, answer.stdout + answer.stderr
    assert message in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
    assert answer.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_bad_input_loads_no_heavy_package(tmp_path: Path) -> None:
    code = """
import sys
from isoscale.common.commands import main
assert main.main(["board", "nothing"]) == 2
"""
    check_not_loaded(FRAMEWORKS | {"scipy", "tensorboard"}, after=code, folder=tmp_path)


def test_links_turn_smoothing_off_and_go_through_the_page_that_shows_all_points() -> None:
    for name, link in links("http://x", several=True).items():
        assert link.startswith("http://x/data/plugin/isoscale/open?smoothing=0")
        # The older pages ignore the query.
        assert ("_smoothingWeight=0&" in link) == (name in ("scaling", "report", "figures"))


@pytest.mark.parametrize(
    "models, strategies, expected",
    [
        (("gpt_tiny",), 40, "/run_0$"),
        (("gpt_tiny", "mlp_medium"), 40, "/gpt_tiny-.*/run_0$"),
        (("gpt_tiny",), 41, "/gpt_tiny-.*-bare-.*/run_0$"),
    ],
)
def test_the_run_filter_selects_at_most_40_runs(models, strategies, expected) -> None:
    cells = [
        f"{model}-jax-{'bare' if i == 0 else f's{i}'}-1dev-b8-float32-0"
        for model in models
        for i in range(strategies)
    ]
    assert run_filter(cells) == expected


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes two studies; one run has more points than TensorBoard keeps by default."""
    folder = tmp_path_factory.mktemp("board")
    store = write_study(folder / "one", lines_of_a_study())
    long = (
        store.folder
        / "cells"
        / Cell.from_record(make_cell("torch", "ddp", 2)).id
        / "run_0"
        / "steps.jsonl"
    )
    steps = (
        {"step": i, "phase": "throughput", "window": 0, "loss": 9 - i / 1000} for i in range(2500)
    )
    long.write_text("".join(json.dumps(step) + "\n" for step in steps))
    (folder / "one" / "plots").mkdir()
    (folder / "one" / "plots" / "speed.png").write_bytes(PNG)
    write_study(folder / "two", grid_lines(models=("moe_tiny", "mlp_medium"), runs=3))
    return folder


@pytest.fixture(scope="module")
def one(out: Path) -> Iterator[Board]:
    with running_board(out, "one", "--out_dir=.") as board:
        yield board


def scalars(board: Board, run: str, tag: str) -> list[tuple[int, float]]:
    points = board.get("plugin/scalars/scalars", run=run, tag=tag)
    return [(step, value) for _, step, value in points]


def session_groups(board: Board) -> dict[str, Any]:
    statuses = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
    body = {"startIndex": 0, "sliceSize": 1000, "allowedStatuses": statuses}
    found = board.post("plugin/hparams/session_groups", body)
    return {group["name"]: group for group in found["sessionGroups"]}


@pytest.mark.slow
def test_no_point_is_dropped(one: Board) -> None:
    run = f"runs/{Cell.from_record(make_cell('torch', 'ddp', 2)).id}/run_0"
    found = scalars(one, run, "loss")
    assert [step for step, _ in found] == list(range(2500))
    assert found[2000][1] == pytest.approx(7)


@pytest.mark.slow
def test_session_groups_have_the_mean_of_the_successful_runs(one: Board) -> None:
    groups = session_groups(one)
    cell = make_cell("torch", "ddp", 2)
    assert len(groups) == 22
    ((name, group),) = ((n, g) for n, g in groups.items() if Cell.from_record(cell).id in n)
    assert name.startswith("one/")
    lines = [line for line in lines_of_a_study() if line["cell"] == cell and line["status"] == "ok"]
    assert len(lines) == 6
    mean = statistics.fmean(1e3 * line["step_seconds"]["median"] for line in lines)
    (shown,) = (m for m in group["metricValues"] if m["name"]["tag"] == "run/step_ms")
    assert shown["value"] == pytest.approx(mean, rel=1e-6)
    statuses = {s["name"].rsplit("_", 1)[1]: s.get("status") for s in group["sessions"]}
    assert statuses["0"] == "STATUS_SUCCESS"
    assert statuses["6"] == statuses["7"] == "STATUS_FAILURE"
    assert statuses["8"] in (None, "STATUS_UNKNOWN")  # JSON leaves out the zero of an enumeration
    assert group["hparams"]["devices"] == 2
    assert group["hparams"]["oversubscribed"] is False


@pytest.mark.slow
def test_scaling_charts(one: Board) -> None:
    categories = one.get("plugin/custom_scalars/layout")["category"]
    assert [category["title"].split(",")[0] for category in categories] == [
        "mlp_medium",
        "gpt_tiny",
    ]
    (series,) = categories[0]["chart"][0]["margin"]["series"]
    run = "scaling/torch ddp"
    low, value, high = (scalars(one, run, series[name]) for name in ("lower", "value", "upper"))
    assert [step for step, _ in value] == [1, 2]
    for (_, least), (_, middle), (_, most) in zip(low, value, high, strict=True):
        assert least < middle < most
    (tag,) = categories[1]["chart"][0]["multiline"]["tag"]
    answer = one.get("plugin/custom_scalars/scalars", run=run, tag=tag)
    assert answer["regex_valid"]
    ((name, points),) = answer["tag_to_events"].items()
    assert name == "gpt_tiny, global batch 64, float32/speedup"
    assert [step for _, step, _ in points] == [1, 2]


@pytest.mark.slow
def test_manifest_and_figures(one: Board) -> None:
    (text,) = one.get("plugin/text/text", run="report", tag="manifest")
    assert "<td>Test CPU, 2 cores</td>" in text["text"]
    (image,) = one.get("plugin/images/images", run="report", tag="figures/speed", sample="0")
    assert one.get(f"plugin/images/individualImage?{image['query']}&x=") == PNG


@pytest.mark.slow
def test_no_process_has_loaded_a_framework(one: Board) -> None:
    processes = [psutil.Process(one.process.pid), *one.descendants()]
    assert len(processes) >= 2
    for process in processes:
        files = {entry.path for entry in process.memory_maps()}
        assert files
        for name in ("tensorflow", "torch", "jaxlib"):
            assert not [path for path in files if f"/{name}/" in path], process.cmdline()


@pytest.mark.slow
def test_studies_side_by_side(out: Path) -> None:
    same_name = out / "elsewhere" / "one"
    if not same_name.exists():
        write_study(same_name, grid_lines(runs=3))
    with running_board(out, "one", "two", "elsewhere/one", "--out_dir=.") as board:
        runs = board.get("runs")
        studies = {run.split("/")[0] for run in runs} - {"."}
        assert studies == {f"{out.name}-one", "two", "elsewhere-one", DIFF}
        tag = f"{DIFF}/{out.name}-one to two"
        (text,) = board.get("plugin/text/text", run=DIFF, tag=tag)
        assert "4 of 11 cells were shown to be slower by more than 5 %" in text["text"]
        assert "two/scaling/torch ddp" in runs
        assert len(session_groups(board)) == 22 + 22 + 11
        titles = [
            c["title"].split(",")[0] for c in board.get("plugin/custom_scalars/layout")["category"]
        ]
        assert titles == ["mlp_medium", "gpt_tiny", "moe_tiny"]
        experiment = board.post("plugin/hparams/experiment", {"experimentName": ""})
        infos = {info["name"]: info for info in experiment["hparamInfos"]}
        assert infos["study"]["domainDiscrete"] == ["one", "two"]
        assert infos["model"]["domainDiscrete"] == ["gpt_tiny", "mlp_medium", "moe_tiny"]


@pytest.mark.slow
def test_new_runs_of_a_running_study_appear(tmp_path: Path) -> None:
    lines = grid_lines(runs=3)
    ddp = make_cell("torch", "ddp", 4)
    more = [make_line(ddp, run, 0.001, sequence=100 + run) for run in range(3)]
    write_study(tmp_path / "study", lines)
    with running_board(tmp_path, "--out_dir=.") as board:
        assert "The newest study in .: study" in board.text
        text = "".join(json.dumps(line) + "\n" for line in lines + more)
        (tmp_path / "results").write_text(text)
        os.replace(tmp_path / "results", tmp_path / "study" / "results.jsonl")
        wait_for(lambda: f"runs/{Cell.from_record(ddp).id}/run_2" in board.get("runs"))
        tag = "mlp_medium, global batch 64, float32/speedup_low"
        found = wait_for(
            lambda: (p := scalars(board, "scaling/torch ddp", tag)) and p[-1][0] == 4 and p
        )
        assert [step for step, _ in found] == [1, 2, 4]  # each point once


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_process_remains_when_the_board_ends(how: signal.Signals, tmp_path: Path) -> None:
    write_study(tmp_path / "study", grid_lines(runs=1), steps=5)
    with running_board(tmp_path, "study", "--out_dir=.") as board:
        started = board.descendants()
        (folder,) = {Path(process.environ()["TMPDIR"]).parent for process in started}
        assert folder.name.startswith("isoscale-board-")
        board.process.send_signal(how)
        code = board.process.wait(timeout=60)
        assert code == (-signal.SIGKILL if how == signal.SIGKILL else 0)

        def gone(process: psutil.Process) -> bool:
            return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE

        wait_for(lambda: all(gone(process) for process in started))
        # After kill -9 the folder remains: no process can remove it.
        assert folder.exists() == (how == signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_tensorboard_finds_the_same_runs_without_its_data_server(
    out: Path, one: Board, tmp_path: Path
) -> None:
    """Without the data server, TensorBoard uses its own reader."""
    (tmp_path / "view").mkdir()
    for part in ("report", "runs", "scaling"):
        (tmp_path / "view" / part).symlink_to(out / "one" / "tensorboard" / part)
    port = free_port()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "isoscale.common.report.board.server",
            f"--logdir={tmp_path}",
            f"--port={port}",
            "--load_fast=false",
            "--reload_multifile=true",
        ],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stderr=subprocess.DEVNULL,
    )
    other = Board(process=process, text="", links={"scaling": f"http://127.0.0.1:{port}/"})

    def runs() -> list[str]:
        try:
            return other.get("runs")
        except OSError:
            return []

    try:
        expected = {f"view/{run}" for run in one.get("runs") if run != "."}
        wait_for(lambda: set(runs()) == expected)
    finally:
        process.kill()
        process.wait()
