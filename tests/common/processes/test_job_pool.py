"""Tests of the job pool with real processes; the jobs count and need no framework."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.config.errors import ConfigError
from isoscale.common.processes import job_pool
from isoscale.common.processes.job_pool import FAILED, OUTPUTS, JobPool, Launch
from tests.common.processes.counting_jobs import CountJob, CountLine
from tests.common.processes.workers import limits
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _tests_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the tests on the path: ``-P`` removes the working folder from the workers' path."""
    path = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))


def make_pool(folder: Path, *named: tuple[str, str, str], **changes: Any) -> JobPool[CountLine]:
    """Returns a pool; ``named`` contains (name, group, ``does``) of each job."""
    jobs = [
        CountJob(
            name=name, team=team, number=index, does=does, folder=str(folder / ".work" / OUTPUTS)
        )
        for index, (name, team, does) in enumerate(named)
    ]
    options = {
        "work": folder / ".work",
        "launch_of": lambda some: Launch(
            python=sys.executable, environment={**os.environ, "COUNTING": some[0].team}, ranks=None
        ),
        "pythons": {"any": sys.executable},
        "code": {"isoscale": "1", "torch": "2.13.0"},
    }
    return JobPool(jobs, CountLine, **(options | changes))


def run(pool: JobPool[CountLine], **changes: Any) -> tuple[dict[str, CountLine], int]:
    """Returns (name -> results, number of results from an earlier session)."""
    options = {"resume": False, "processes": 2, "limits": limits(60), "title": "counting"}
    lines, kept = pool.run(**(options | changes), name=lambda key: str(key[0]))
    return {str(line.job[0]): line for line in lines}, kept


def test_jobs_of_a_group_share_a_process(tmp_path: Path) -> None:
    pool = make_pool(tmp_path, ("a", "x", "work"), ("b", "y", "work"), ("c", "x", "work"))
    lines, kept = run(pool)
    assert kept == 0
    assert {name: line.count for name, line in lines.items()} == {"a": 1, "b": 2, "c": 3}
    assert lines["a"].pid == lines["c"].pid != lines["b"].pid
    assert lines["a"].variable == "x 2 jobs"
    assert lines["b"].variable == "y 1 jobs"
    assert all(line.error is None and line.seconds is not None for line in lines.values())
    assert lines["b"].log == str(tmp_path / ".work/y-0/log.txt")


def test_all_ranks_run_each_job_and_only_rank_0_reports(tmp_path: Path) -> None:
    """Each rank has its own heartbeat file; rank 0 alone writes a result line."""
    launch = Launch(python=sys.executable, environment={**os.environ, "COUNTING": ""}, ranks=2)
    pool = make_pool(tmp_path, ("a", "x", "fail"), launch_of=lambda some: launch)
    lines, _ = run(pool)
    assert len(lines) == 1
    beats = {path.name for path in (tmp_path / ".work/x-0").glob("heartbeat.*")}
    assert beats == {f"heartbeat.{rank}{end}" for rank in (0, 1) for end in ("", ".stack")}


@pytest.mark.parametrize("end", ["crash", "raise", "hang"])
def test_a_failed_process_is_restarted_for_its_remaining_jobs(end: str, tmp_path: Path) -> None:
    pool = make_pool(tmp_path, ("a", "x", "work"), ("b", "x", end), ("c", "x", "work"))
    lines, _ = run(pool, limits=limits(3 if end == "hang" else 60))
    if end == "crash":
        assert lines["b"].error == (
            "exited with code 7 in 'counting b'; last line of its log: out of luck"
        )
    elif end == "raise":
        assert lines["b"].error == "failed in 'counting b': ValueError: the first line"
    else:
        expected = "killed by the watchdog: no progress for 3 s in 'counting b', at counting_jobs"
        assert lines["b"].error.startswith(expected)
    assert lines["b"].seconds is None
    assert (tmp_path / ".work" / OUTPUTS / "b" / FAILED).exists()
    assert lines["a"].pid != lines["c"].pid
    assert lines["c"].variable == "x 1 jobs"
    assert lines["c"].error is None


def test_resume_keeps_finished_jobs_and_repeats_the_other_jobs(tmp_path: Path) -> None:
    named = [("a", "x", "work"), ("b", "x", "fail"), ("c", "x", "work"), ("d", "y", "work")]
    pool = make_pool(tmp_path, *named)
    first, _ = run(pool)
    assert first["b"].error == "no number"
    pool.finish()  # one job is not done: the session remains
    assert (tmp_path / ".work" / OUTPUTS).exists()
    (tmp_path / ".work" / OUTPUTS / "c" / "count").unlink()
    pool.check_resumable(called="it")
    again, kept = run(pool, resume=True)
    assert kept == 2
    assert again["a"] == first["a"]
    assert again["c"].pid != first["c"].pid
    assert set(again) == {"a", "b", "c", "d"}


def test_a_resumed_group_does_not_wait_for_a_group_without_a_worker(tmp_path: Path) -> None:
    """One worker at a time; the first remaining job belongs to the second group, which waits."""
    named = [("a", "x", "work"), ("b", "y", "wait for c"), ("c", "x", "work")]
    folders = [tmp_path / ".work" / OUTPUTS / name for name in "abc"]
    pool = make_pool(tmp_path, *named)
    run(pool, processes=1)
    results = tmp_path / ".work/x-0/results.jsonl"
    results.write_text(results.read_text().splitlines(keepends=True)[0])
    (tmp_path / ".work/y-0/results.jsonl").unlink()
    for folder in folders[1:]:
        (folder / "count").unlink()
    again, kept = run(pool, processes=1, resume=True, limits=limits(15))
    assert kept == 1
    assert {name: line.error for name, line in again.items()} == dict.fromkeys("abc")


def test_a_finished_session_leaves_only_logs_and_results(tmp_path: Path) -> None:
    pool = make_pool(tmp_path, ("a", "x", "work"))
    run(pool)
    assert job_pool.module_at_work(pool.work) == CountJob.__module__
    pool.finish()
    assert job_pool.module_at_work(pool.work) is None
    assert {path.name for path in pool.work.iterdir()} == {"x-0"}
    with pytest.raises(ConfigError, match="it contains no interrupted session"):
        pool.check_resumable(called="it")


@pytest.mark.parametrize(
    "name, changes, message",
    [
        (
            "a",
            {"code": {"isoscale": "2", "torch": "2.14.0"}},
            r"the code has changed since it was interrupted \(isoscale, torch\); start again",
        ),
        ("a", {"code": {"isoscale": "1", "torch": "2.14.0"}}, r"interrupted \(torch\);"),
        ("other", {}, "it was interrupted with other jobs or interpreters"),
        ("a", {"pythons": {}}, "it was interrupted with other jobs or interpreters"),
    ],
)
def test_a_session_with_other_code_or_flags_cannot_be_resumed(
    name: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    run(make_pool(tmp_path, ("a", "x", "fail")))
    with pytest.raises(ConfigError, match=message):
        make_pool(tmp_path, (name, "x", "fail"), **changes).check_resumable(called="it")


def test_ctrl_c_ends_the_workers_and_says_how_many_runs_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(tmp_path, ("a", "x", "work"), ("b", "x", "hang"))
    ended: list[Any] = []
    end = job_pool.launch.end
    monkeypatch.setattr(job_pool.launch, "end", lambda some: (ended.extend(some), end(some)))

    def interrupt(processes: Any, *, seconds: float) -> None:
        results = tmp_path / ".work/x-0/results.jsonl"
        if results.exists() and results.read_text().endswith("\n"):
            raise KeyboardInterrupt

    monkeypatch.setattr(job_pool, "wait_for_an_end", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        run(pool)
    assert len(ended) == 1
    assert all(process.poll() is not None for process in ended)
    assert caught.value.__notes__ == [
        f"1 of 2 runs are kept in {pool.work}; repeat the command with --resume to continue"
    ]
