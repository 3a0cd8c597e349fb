import io
import os
import re
from pathlib import Path

import pytest
from rich.console import Console

from isoscale.common.config.cell import Cell
from isoscale.common.processes.heartbeat import Heartbeat, path_for
from isoscale.common.study.progress import QUIET_SECONDS, StudyProgress
from isoscale.common.study.records import ResultLine
from tests.common.report.fake_study import make_cell, make_line, read_line

RECORD = make_cell("torch", "ddp", 4, model="m", oversubscribed=True)
CELL = Cell.from_record(RECORD)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def line(run: int, status: str = "ok", error: str | None = None) -> ResultLine:
    return read_line(
        make_line(RECORD, run, 0.25, sequence=run, status=status, error=error, disturbed=True)
    )


def start(*, terminal: bool) -> tuple[StudyProgress, io.StringIO, Clock]:
    output, clock = io.StringIO(), Clock()
    console = Console(file=output, force_terminal=terminal, width=120)
    return StudyProgress(console=console, clock=clock), output, clock


def test_without_a_terminal_few_plain_lines_are_printed(tmp_path: Path) -> None:
    progress, output, clock = start(terminal=False)
    with progress:
        progress.plan(6)
        for run in range(3):
            progress.start_run(CELL, run, tmp_path)
            clock.now += 1
            progress.finish_run(line(run))
        assert output.getvalue() == ""  # QUIET_SECONDS have not passed
        progress.start_run(CELL, 3, tmp_path)
        clock.now += QUIET_SECONDS
        progress.finish_run(line(3))
        (tmp_path / "log.txt").touch()
        progress.start_run(CELL, 4, tmp_path)
        progress.finish_run(line(4, "failed", "broke [bold]"))
    first, second, last = output.getvalue().splitlines()
    # Four runs took 33 s, and two remain.
    assert first == (
        "[4/6, ETA 0:16] m torch ddp devices=4 run 3: 250.000 ms/step, 256 examples/s, "
        "oversubscribed, disturbed"
    )
    # Immediately, and without markup.
    log = os.path.relpath(tmp_path / "log.txt")
    assert second.endswith(f"failed: broke [bold] (log: {log})")
    assert last == "5 runs in 0:33, 1 not ok"
    assert "\x1b" not in output.getvalue()


def test_on_a_terminal_running_and_finished_runs_are_shown(tmp_path: Path) -> None:
    progress, output, clock = start(terminal=True)
    Heartbeat(path_for(tmp_path, 0)).beat("throughput, step 40")
    with progress:
        progress.plan(3)
        progress.start_run(CELL, 0, tmp_path)
        clock.now += 30
        progress.finish_run(line(0))
        progress.start_run(CELL, 1, tmp_path)
        text = output.getvalue()
    # Each part has its own line, the bar too.
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).split("1 of 3 runs done")[-1].splitlines()
    assert [line.strip()[:6] for line in plain[1:4]] == ["━" * 6, "now  m", "m torc"]
    for said in (
        "1 of 3 runs done",
        "ETA 1:00",
        "now  m torch ddp devices=4, run 1: throughput, step 40",
        "250.000 ms/step",
    ):
        assert said in text
    assert "\x1b[" in text


def test_skipped_runs_are_printed_once_and_do_not_count_in_the_eta(tmp_path: Path) -> None:
    progress, output, clock = start(terminal=False)
    skipped = line(0, "skipped", "torch is not installed")
    with progress:
        progress.plan(60)
        for _ in range(40):
            progress.start_run(CELL, 0, tmp_path)
            progress.finish_run(skipped)
        progress.start_run(CELL, 1, tmp_path)
        clock.now += 30
        progress.finish_run(line(1))
    said, ran, _ = output.getvalue().splitlines()
    assert said == (
        "[1/60, ETA unknown] m torch ddp devices=4 run 0: skipped: torch is not installed"
    )
    assert ran.startswith("[41/60, ETA 9:30]")


def test_one_run_is_not_in_the_plural(tmp_path: Path) -> None:
    progress, output, _ = start(terminal=False)
    with progress:
        progress.plan(1)
        progress.start_run(CELL, 0, tmp_path)
        progress.finish_run(line(0))
    assert output.getvalue() == "1 run in 0:00, 0 not ok\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_plan_without_runs_prints_no_summary(terminal: bool) -> None:
    progress, output, _ = start(terminal=terminal)
    with progress:
        progress.plan(0)
    assert "runs in" not in output.getvalue()


def shown_names(tmp_path: Path, changes: list[dict]) -> list[str]:
    """Returns the name of each cell while its run is shown as running."""
    cells = [Cell.from_record(make_cell("torch", "ddp", 2, model="m", **c)) for c in changes]
    names = []
    for cell in cells:
        output = io.StringIO()
        console = Console(file=output, force_terminal=True, width=120)
        with StudyProgress(cells=cells, console=console) as progress:
            progress.start_run(cell, 0, tmp_path)
        (name,) = set(re.findall(r"now  (m torch .*?), run 0", output.getvalue()))
        names.append(name)
    return names


@pytest.mark.parametrize(
    "changes, said",
    [
        ([{}], [""]),
        ([{"dtype": "float32"}, {"dtype": "bfloat16"}], [" float32", " bfloat16"]),
        ([{"global_batch_size": 8}, {"global_batch_size": 64}], [" batch=8", " batch=64"]),
        (
            [{}, {"tuning": "ladder", "tweaks": ["a"]}, {"tuning": "tuned", "tweaks": ["a", "b"]}],
            [" stock", " ladder +a", " tuned +a +b"],
        ),
        (
            [{"dtype": "bfloat16"}, {"global_batch_size": 8, "tuning": "tuned"}],
            [" batch=64 bfloat16 stock", " batch=8 float32 tuned"],
        ),
    ],
)
def test_a_run_is_named_by_what_tells_its_cell_from_others(
    tmp_path: Path, changes: list[dict], said: list[str]
) -> None:
    assert shown_names(tmp_path, changes) == [f"m torch ddp devices=2{text}" for text in said]


def test_a_batch_that_grows_with_the_devices_is_not_named(tmp_path: Path) -> None:
    cells = [
        Cell.from_record(make_cell("torch", "ddp", n, global_batch_size=8 * n)) for n in (1, 2)
    ]
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=120)
    with StudyProgress(cells=cells, console=console) as progress:
        progress.start_run(cells[0], 0, tmp_path)
    assert "batch=" not in output.getvalue()


@pytest.mark.parametrize("width", [80, 100, 200])
def test_the_live_view_cuts_no_name_and_no_figure(tmp_path: Path, width: int) -> None:
    records = [make_cell("torch", "ddp", 2, tweaks=[t]) for t in ("keep-memory", "b")]
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=width)
    with StudyProgress(cells=map(Cell.from_record, records), console=console) as progress:
        progress.plan(2)
        progress.finish_run(read_line(make_line(records[0], 0, 0.25, sequence=0)))
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.getvalue())
    words = " ".join(plain.split())
    assert "+keep-memory" in words
    assert "250.000" in words
    assert "…" not in words
    assert max(map(len, plain.splitlines())) <= width
