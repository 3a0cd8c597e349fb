"""Why processes end, in the words of their supervisor; and when the watchdog kills them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from isoscale.common.processes import heartbeat, launch, supervise
from isoscale.common.processes.heartbeat import Heartbeat, path_for
from isoscale.common.processes.supervise import ProcessOutcome, Supervision, describe_exit
from tests.common.processes.workers import limits, start, wait_until


def outcome_of(
    processes: list[subprocess.Popen], folder: Path, *, watchdog: float = 60, **more
) -> ProcessOutcome:
    return supervise.supervise(processes, run_dir=folder, limits=limits(watchdog), **more)


def beats(folder: Path, rank: int = 0) -> str:
    """Returns code that makes ``beat`` a rank's heartbeat."""
    return (
        "import os, signal, sys, time; from pathlib import Path; "
        "from isoscale.common.processes.heartbeat import Heartbeat, path_for, remove; "
        f"folder = Path({str(folder)!r}); beat = Heartbeat(path_for(folder, {rank})); "
    )


def test_success(tmp_path: Path) -> None:
    outcome = outcome_of([start("pass")], tmp_path)
    assert (outcome.ok, outcome.exit_code, outcome.error) == (True, 0, None)


def test_one_failing_rank_ends_the_others_within_five_seconds(tmp_path: Path) -> None:
    ranks = [start("import time; time.sleep(600)"), start("import no_such_module")]
    outcome = outcome_of(ranks, tmp_path)
    assert outcome.error == "rank 1 exited with code 1 in 'starting'"
    assert outcome.seconds < 5 + supervise._PEERS_SECONDS - 1  # the import takes its time, too
    assert all(rank.poll() is not None for rank in ranks)


def test_the_rank_that_was_killed_is_the_cause_and_the_others_are_consequences(
    tmp_path: Path,
) -> None:
    """Rank 0 fails within milliseconds of the kill, as gloo does, and leaves first."""
    killed = "beat.beat('step 7'); time.sleep(600)"
    lost = (
        "beat.beat('step 8'); file = folder / 'killed'\n"
        "while not file.exists(): time.sleep(0.001)\n"
        "beat.fail('RuntimeError: Connection closed by peer'); os._exit(1)"
    )
    ranks = [start(beats(tmp_path, 0) + lost), start(beats(tmp_path, 1) + killed)]
    assert wait_until(lambda: len(heartbeat.read_beats(tmp_path)) == 2)
    supervision = Supervision(ranks, run_dir=tmp_path, limits=limits(60))
    assert supervision.poll() is None
    ranks[1].kill()
    (tmp_path / "killed").touch()
    try:
        assert wait_until(supervision.poll)
        outcome = supervision.poll()
    finally:
        launch.end(ranks)
    assert outcome
    assert outcome.exit_code == -signal.SIGKILL
    assert outcome.error == (
        "rank 1 was killed by SIGKILL (out of memory?) in 'step 7'; as a consequence: rank 0 "
        "failed in 'step 8': RuntimeError: Connection closed by peer"
    )


def test_the_rank_that_failed_first_is_the_cause_although_it_leaves_last(tmp_path: Path) -> None:
    first = "beat.beat('step 3'); beat.fail('ValueError: the cause'); time.sleep(1); os._exit(1)"
    later = (
        "other = path_for(folder, 1)\n"
        "while 'cause' not in (other.read_text() if other.exists() else ''): time.sleep(0.01)\n"
        "beat.beat('step 3'); beat.fail('RuntimeError: lost a peer'); os._exit(1)"
    )
    ranks = [start(beats(tmp_path, 0) + later), start(beats(tmp_path, 1) + first)]
    outcome = outcome_of(ranks, tmp_path)
    assert outcome.error == (
        "rank 1 failed in 'step 3': ValueError: the cause; as a consequence: rank 0 failed in "
        "'step 3': RuntimeError: lost a peer"
    )
    assert outcome.explain(tmp_path / "log", otherwise="") == outcome.error


def test_a_process_is_killed_if_it_does_not_exit_after_its_result(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(supervise, "_LEAVE_SECONDS", 0.5)
    result = tmp_path / "result.json"
    worker = start(f"import time; open({str(result)!r}, 'w'); time.sleep(600)")
    outcome = outcome_of([worker], tmp_path, result=result)
    assert outcome.error == "did not exit within 0.5 s after its result; killed"
    assert worker.poll() is not None


def test_the_error_names_the_signal_that_killed_a_process(tmp_path: Path) -> None:
    log = tmp_path / "log"
    outcome = outcome_of(
        [start("import os; print('no memory', flush=True); os.abort()", log)], tmp_path
    )
    assert outcome.error == "was killed by SIGABRT in 'starting'"
    assert outcome.explain(log, otherwise="").endswith("; last line of its log: no memory")


def test_the_log_of_a_process_that_was_killed_from_outside_is_not_quoted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    worker = start("import os; print('all is well', flush=True); os.kill(os.getpid(), 9)", log)
    outcome = outcome_of([worker], tmp_path)
    assert log.read_text() == "all is well\n"
    assert outcome.explain(log, otherwise="") == outcome.error


@pytest.mark.parametrize(
    "code, words",
    [
        (3, "exited with code 3"),
        (-9, "was killed by SIGKILL (out of memory?)"),
        (-4, "was killed by SIGILL (was a library built for another CPU?)"),
        (137, "exited with code 137, as after SIGKILL (out of memory?)"),
        (255, "exited with code 255"),
        (-100, "was killed by signal 100"),
    ],
)
def test_exit_codes_in_words(code: int, words: str) -> None:
    assert describe_exit(code) == words


def test_the_watchdog_kills_a_process_that_makes_no_progress(tmp_path: Path) -> None:
    deaf = start("import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)")
    outcome = outcome_of([deaf], tmp_path, watchdog=0.5)
    assert outcome.error == "killed by the watchdog: no progress for 0.5 s in 'starting'"
    assert deaf.poll() == -signal.SIGKILL


def test_the_watchdog_names_the_place_where_a_process_hangs(tmp_path: Path) -> None:
    code = "def compute(): time.sleep(600)\nbeat.beat('step 4'); compute()"
    outcome = outcome_of([start(beats(tmp_path) + "\n" + code)], tmp_path, watchdog=2)
    assert outcome.error == (
        "killed by the watchdog: no progress for 2 s in 'step 4', at <string>:2 in compute"
    )


def test_the_watchdog_ends_a_process_that_cannot_show_its_stack(tmp_path: Path) -> None:
    code = "beat.beat('step 4'); (folder / 'heartbeat.0.stack').unlink(); time.sleep(600)"
    outcome = outcome_of([start(beats(tmp_path) + code)], tmp_path, watchdog=2)
    assert outcome.error == "killed by the watchdog: no progress for 2 s in 'step 4'"


def test_the_watchdog_names_the_rank_that_is_behind_with_its_step(tmp_path: Path) -> None:
    ahead = "[beat.beat(f'step {n}') for n in range(8)]; time.sleep(600)"
    behind = "[beat.beat(f'step {n}') for n in range(6)]; time.sleep(600)"
    ranks = [start(beats(tmp_path, 0) + ahead), start(beats(tmp_path, 1) + behind)]
    outcome = outcome_of(ranks, tmp_path, watchdog=2)
    assert outcome.error == (
        "killed by the watchdog: no progress for 2 s: rank 1 is behind, in 'step 5', at "
        "<string>:1 in <module>; rank 0, in 'step 7', at <string>:1 in <module>"
    )


def test_the_watchdog_names_the_rank_that_a_signal_has_stopped(tmp_path: Path) -> None:
    code = "beat.beat('step 5'); time.sleep(600)"
    ranks = [start(beats(tmp_path, rank) + code) for rank in range(2)]
    assert wait_until(lambda: len(heartbeat.read_beats(tmp_path)) == 2)
    ranks[1].send_signal(signal.SIGSTOP)
    outcome = outcome_of(ranks, tmp_path, watchdog=2)
    assert outcome.error is not None
    assert outcome.error.startswith(
        "killed by the watchdog: no progress for 2 s: rank 1 is behind, in 'step 5', stopped by a "
        "signal; rank 0, in 'step 5'"
    )
    assert all(rank.poll() is not None for rank in ranks)


def test_a_rank_without_a_heartbeat_is_behind(tmp_path: Path) -> None:
    ranks = [
        start(beats(tmp_path, 0) + "beat.beat('step 0'); time.sleep(600)"),
        start("import time; time.sleep(600)"),
    ]
    error = outcome_of(ranks, tmp_path, watchdog=2).error
    assert error is not None
    assert ": rank 1 is behind, in 'starting'; rank 0, in 'step 0'" in error


def test_the_watchdog_does_not_kill_a_process_with_a_heartbeat(tmp_path: Path) -> None:
    code = beats(tmp_path) + "[(beat.beat('x'), time.sleep(0.1)) for _ in 'x' * 50]"
    outcome = outcome_of([start(code)], tmp_path, watchdog=3)
    assert outcome.ok
    assert outcome.seconds > 3


def test_a_heartbeat_whose_file_lies_in_the_future_is_no_progress(tmp_path: Path) -> None:
    code = "beat.beat('x'); os.utime(path_for(folder, 0), (2**31, 2**31)); time.sleep(600)"
    outcome = outcome_of([start(beats(tmp_path) + code)], tmp_path, watchdog=1)
    assert outcome.error is not None
    assert "no progress for 1 s in 'x'" in outcome.error


def test_the_watchdog_waits_for_the_expected_time_of_a_long_window(tmp_path: Path) -> None:
    code = beats(tmp_path) + "beat.beat('x', expected_seconds=600); time.sleep(4)"
    assert outcome_of([start(code)], tmp_path, watchdog=2).ok


def test_compiling_has_its_own_limit(tmp_path: Path) -> None:
    code = beats(tmp_path) + "beat.beat('compile', compiles=True); time.sleep({})"
    slow = start(code.format(4))
    assert supervise.supervise([slow], run_dir=tmp_path, limits=limits(2, 600)).ok
    heartbeat.remove(tmp_path)
    hung = start(code.format(600))
    outcome = supervise.supervise([hung], run_dir=tmp_path, limits=limits(2, 3))
    assert outcome.error is not None
    assert "no progress for 3 s in 'compile'" in outcome.error


def test_the_watchdog_does_not_kill_a_worker_that_removes_its_heartbeats(tmp_path: Path) -> None:
    """After the removal, the watchdog must not count the whole time since the start."""
    code = beats(tmp_path)
    code += "[(beat.beat('x'), time.sleep(0.1)) for _ in 'x' * 40]; remove(folder); time.sleep(1)"
    assert outcome_of([start(code)], tmp_path, watchdog=3).ok


def test_a_heartbeat_needs_no_space_after_its_first_one(tmp_path: Path) -> None:
    beat = Heartbeat(path_for(tmp_path, 0))
    beat.beat("short")
    size = path_for(tmp_path, 0).stat()
    beat.beat("\N{SNOWMAN}" * 1000)
    beat.fail("\N{SNOWMAN}" * 1000)
    after = path_for(tmp_path, 0).stat()
    assert (size.st_size, size.st_blocks, size.st_ino) == (
        after.st_size,
        after.st_blocks,
        after.st_ino,
    )
    found = heartbeat.read_beats(tmp_path)[0]
    assert (found.count, found.pid) == (2, os.getpid())
    assert found.error
    assert found.failed_at is not None
    assert abs(found.failed_at - time.monotonic()) < 60
    heartbeat.remove(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["a hard link", "a link", "a pipe"])
def test_a_heartbeat_replaces_what_stands_in_its_place(kind: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("precious")
    path = path_for(tmp_path, 0)
    for place in (path, path.with_name("heartbeat.0.stack")):
        if kind == "a hard link":
            place.hardlink_to(mine)
        elif kind == "a link":
            place.symlink_to(mine)
        else:
            os.mkfifo(place)
    Heartbeat(path).beat("step 1")
    assert mine.read_text() == "precious"
    assert heartbeat.doing(tmp_path) == "step 1"


def test_the_heartbeat_of_an_earlier_run_with_more_ranks_is_no_progress(tmp_path: Path) -> None:
    Heartbeat(path_for(tmp_path, 7)).beat("long ago", expected_seconds=600)
    ranks = [start("import time; time.sleep(600)") for _ in range(2)]
    error = outcome_of(ranks, tmp_path, watchdog=1).error
    assert error == "killed by the watchdog: no progress for 1 s in 'starting'"


def test_a_signal_that_one_rank_has_is_given_to_the_others(tmp_path: Path) -> None:
    code = (
        "signal.signal(15, lambda *_: os._exit(143)); beat.beat('x'); "
        "heartbeat.note_signal(folder, {rank}, 15) if {rank} == 1 else None; time.sleep({seconds})"
        "; os._exit(143)"
    )
    imports = "from isoscale.common.processes import heartbeat; "
    ranks = [
        start(beats(tmp_path, rank) + imports + code.format(rank=rank, seconds=seconds))
        for rank, seconds in enumerate((600, 2))
    ]
    outcome = outcome_of(ranks, tmp_path, forward_signals=True)
    assert ranks[0].returncode in (143, -15)  # it may still be starting
    assert ranks[1].returncode == 143
    assert outcome.seconds < 20


def test_a_signal_is_forwarded_once_and_ends_everything_the_second_time(tmp_path: Path) -> None:
    code = beats(tmp_path) + (
        "signal.signal(15, lambda *_: (time.sleep(1), os._exit(143))); beat.beat('x'); "
        "time.sleep(600)"
    )
    parent = (
        "import sys; from isoscale.common.processes import launch, supervise, frame; "
        "import signal; from pathlib import Path; "
        "from tests.common.processes.workers import limits, start; "
        "frame.interrupt_on(signal.SIGTERM)\n"
        f"worker = start({code!r})\n"
        f"found = supervise.supervise([worker], run_dir=Path({str(tmp_path)!r}), "
        "limits=limits(60), forward_signals=True)\n"
        "sys.exit(found.exit_code)"
    )
    for signals, expected in ((1, 143), (2, 1)):
        heartbeat.remove(tmp_path)
        with subprocess.Popen(
            [sys.executable, "-c", parent],
            stderr=subprocess.PIPE,
        ) as program:
            assert wait_until(lambda: heartbeat.doing(tmp_path) == "x")
            pid = heartbeat.read_beats(tmp_path)[0].pid
            for _ in range(signals):
                program.terminate()
                time.sleep(0.2)
            _, said = program.communicate(timeout=20)
        assert program.returncode == expected, said
        if signals == 2:
            assert b"Interrupted: SIGTERM" in said
        assert pid is not None
        assert wait_until(lambda pid=pid: not os.path.exists(f"/proc/{pid}"))
