"""Kills the processes of a study at random moments, and checks what is left after each kill.

A series strikes one study again and again: its program, the launcher of a run, a rank, a group of
processes, or all of them. Each time the study is then resumed, and struck again. An undisturbed
``--resume`` at the end must give the results of a study that nothing struck.
"""

import contextlib
import dataclasses
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from isoscale.common.study.index import read_index
from isoscale.common.study.store import RESULTS, STUDY
from tests.common.processes.workers import wait_until
from tests.faults import oracle
from tests.faults.disks import start
from tests.faults.oracle import Ended

MAIN = "isoscale.common.commands.start"

LETHAL = (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT)
ORDERLY = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
PAUSE = signal.SIGSTOP
_NUMBERS = (*LETHAL, *ORDERLY, PAUSE)
_NUMBER_WEIGHTS = (10, 1, 1, 3, 2, 2, 1)
_VICTIMS = ("program", "run", "rank", "group", "all")
_VICTIM_WEIGHTS = (5, 3, 3, 1, 1)
_LONGEST_PAUSE = 0.3
_SLOW_EVERY = 5
"""The runs of every fifth call last long."""
_AIMED = 0.25
"""Share of the blows that wait for the next result."""
_END_SECONDS = 10.0
"""How long processes may live after the program of their study has ended."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """A study to strike.

    Attributes:
      grid: flags of a new study.
      more: flags of every call.
      start_seconds: time until the first run starts.
      seconds: time of all runs without a fault; kills strike within this time.
      reports: share of the calls that write the report.
      report_seconds: how much later kills strike in these calls.
      variables: environment of the programs.
      slow: environment in which a run lasts longer than a minute; empty: there is none.
    """

    grid: Sequence[str]
    more: Sequence[str]
    start_seconds: float
    seconds: float
    reports: float = 0.0
    report_seconds: float = 0.0
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)
    slow: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blow:
    """A signal that reached a living process.

    Attributes:
      victim: as chosen, for messages.
      number: the signal.
      after: seconds since the start of the program.
      to_program: whether the program of the study got it.
      caught: whether the program handled such signals at that moment.
      run_dirs: the runs whose processes got it.
    """

    victim: str
    number: int
    after: float
    to_program: bool
    caught: bool
    run_dirs: frozenset[str]


def handles(pid: int, number: int) -> bool:
    """Returns whether a process has its own handler for a signal (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")]
    return bool(int(mask, 16) >> (number - 1) & 1)


def begins(pid: int) -> bool:
    """Returns whether Python begins: it handles Ctrl-C, and no line of isoscale has run yet."""
    return handles(pid, signal.SIGINT) and not handles(pid, signal.SIGTERM)


def freeze(pid: int) -> bool:
    """Stops a process; returns False if it ended before."""
    try:
        os.kill(pid, signal.SIGSTOP)
        found = psutil.Process(pid)
        while (status := found.status()) != psutil.STATUS_STOPPED:
            if status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                return False
            time.sleep(0.0005)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False
    return True


def _descendants(pid: int) -> list[tuple[psutil.Process, int]]:
    """Returns the living descendants of a process, each with its depth: 1 for a child."""
    found: list[tuple[psutil.Process, int]] = []
    try:
        generation = psutil.Process(pid).children()
        depth = 1
        while generation:
            found += [(one, depth) for one in generation]
            generation = [child for one in generation for child in _children(one)]
            depth += 1
    except psutil.NoSuchProcess:
        pass
    return found


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.NoSuchProcess:
        return []


def run_dir_of(process: psutil.Process) -> str | None:
    try:
        words = process.cmdline()
    except psutil.Error:
        return None
    found = [word for word in words if word.startswith("--run_dir=")]
    return found[-1].removeprefix("--run_dir=") if found else None


def strike(
    program: subprocess.Popen, chance: random.Random, *, began: float, fatal: bool = False
) -> Blow | None:
    """Sends one random signal to one random victim; returns None if no living process got it.

    A victim is frozen first: what it does at that moment, and whether it handles signals, is then
    known exactly. A fatal blow ends the program.
    """
    victim = chance.choices(_VICTIMS, _VICTIM_WEIGHTS)[0]
    number = chance.choices(_NUMBERS, _NUMBER_WEIGHTS)[0]
    if fatal:
        victim = chance.choice(["program", "program", "all"])
        number = chance.choice(LETHAL)
    pause = chance.uniform(0, _LONGEST_PAUSE)
    below = _descendants(program.pid)
    dirs = {process.pid: path for process, _ in below if (path := run_dir_of(process))}
    runs = [process.pid for process, depth in below if depth == 1 and process.pid in dirs]
    ranks = [process.pid for process, depth in below if depth > 1 and process.pid in dirs]
    pids = {
        "program": [program.pid],
        "run": runs and [chance.choice(runs)],
        "rank": (ranks or runs) and [chance.choice(ranks or runs)],
        "group": runs and [chance.choice(runs), *ranks],
        "all": chance.sample(found := [program.pid, *runs, *ranks], len(found)),
    }[victim] or [program.pid]
    frozen = [pid for pid in pids if freeze(pid)]
    if not frozen:
        return None
    after = time.monotonic() - began
    own = program.pid in frozen
    caught = own and handles(program.pid, signal.SIGTERM)
    if number == signal.SIGINT and any(begins(pid) for pid in frozen):
        number = signal.SIGKILL  # Python would print a traceback before it runs a line of isoscale
    if number == PAUSE:
        time.sleep(pause)
    else:
        _send(frozen, number)
    _send(frozen, signal.SIGCONT)
    hit = {dirs[pid] for pid in frozen if pid != program.pid}
    return Blow(
        victim=victim, number=number, after=after, to_program=own, caught=caught,
        run_dirs=frozenset(hit),
    )  # fmt: skip


def _send(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # it has died with its launcher
            os.kill(pid, number)


def _run_dirs(program: subprocess.Popen) -> list[str]:
    """Returns the run folders of the runs that a program has started."""
    found = [run_dir_of(process) for process, _ in _descendants(program.pid)]
    return [path for path in found if path]


def _wait_for_a_result(program: subprocess.Popen, study: Path) -> None:
    """Waits until a run of a study has written its result, or the program has ended."""

    def results() -> set[Path]:
        return set(study.glob("cells/*/run_*/result.json"))

    before = results()
    end = time.monotonic() + 5
    while results() <= before and program.poll() is None and time.monotonic() < end:
        time.sleep(0.001)


def struck(
    program: subprocess.Popen,
    moments: Sequence[float],
    chance: random.Random,
    *,
    aim: Path | None = None,
    fatal: bool = False,
) -> tuple[Ended, list[Blow]]:
    """Strikes a program at some moments after its start; returns how it ended, and the blows.

    Args:
      program: the program.
      moments: seconds after its start.
      chance: of all choices.
      aim: a study; some blows wait for its next result, between whose files and its line in
        ``results.jsonl`` are some milliseconds.
      fatal: each blow ends the program; the moments count from the start of a run.
    """
    if fatal:
        wait_until(lambda: program.poll() is not None or _run_dirs(program), 30)
    began = time.monotonic()
    blows: list[Blow] = []
    for moment in moments:
        try:
            program.wait(max(0.0, began + moment - time.monotonic()))
            break
        except subprocess.TimeoutExpired:
            if aim and not fatal and chance.random() < _AIMED:
                _wait_for_a_result(program, aim)
            blow = strike(program, chance, began=began, fatal=fatal)
            blows += [blow] if blow else []
    out, err = program.communicate(timeout=60)
    return Ended(code=program.returncode, out=out, err=err), blows


def check_end(found: Ended, blows: Sequence[Blow], *, said: str, is_run: bool = False) -> None:
    """Checks the exit code and the words of a struck program.

    Args:
      found: how it ended.
      blows: what struck it.
      said: all facts, for messages.
      is_run: whether the program is that of a run, which ends with the signal of its ranks.
    """
    if is_run and any(blow.run_dirs for blow in blows):  # its ranks print their own errors before
        assert found.err == "" or found.err.splitlines()[-1].startswith("isoscale: "), said
    else:
        assert "Traceback" not in found.out + found.err, said
    assert "Exception ignored" not in found.err, said
    own = [blow for blow in blows if blow.to_program and blow.number != PAUSE]
    allowed = set() if own else {0, 1}
    if is_run:
        allowed |= {1} | {128 + blow.number for blow in blows if blow.number in ORDERLY}
    for blow in own:
        in_order = blow.caught and blow.number in ORDERLY
        allowed |= {128 + blow.number if in_order else -blow.number}
    assert found.code in allowed, said
    if found.code > 1:
        name = signal.Signals(found.code - 128).name
        lines = [
            line for line in found.err.splitlines() if f"isoscale: interrupted by {name}" in line
        ]
        # A second signal can interrupt what the program shows after the first one.
        assert 1 <= len(lines) <= max(1, sum(blow.number in ORDERLY for blow in own)), said


def check_files(study: Path, *, said: str) -> None:
    """Checks that no line of the results is cut, and that no run has two lines."""
    path = study / RESULTS
    if path.exists():
        index = read_index(path.read_bytes())
        assert not index.damaged, said
        keys = [(line.cell, line.run) for line, _ in index.lines]
        assert len(set(keys)) == len(keys), said


def check_runs_that_were_hit(study: Path, blows: Sequence[Blow], *, said: str) -> None:
    """Checks that each run that a blow ended has a line whose error names the signal."""
    found = {line["run_dir"]: line for line in oracle.results(study).values()}
    hits: dict[str, list[int]] = {}
    for blow in blows:
        for path in blow.run_dirs:
            hits.setdefault(path, []).append(blow.number)
    for path, numbers in hits.items():
        line = found[str(Path(path).relative_to(study.resolve()))]
        names = {signal.Signals(number).name for number in numbers}
        assert line["status"] == "ok" or any(name in line["error"] for name in names), said


@dataclasses.dataclass(frozen=True, kw_only=True)
class Struck:
    """A finished series.

    Attributes:
      blows: number of blows.
      calls: number of calls of ``compare``.
      studies: number of studies, all completed.
    """

    blows: int
    calls: int
    studies: int


class Series:
    """Strikes studies of one folder, one after the other, each until it is complete."""

    def __init__(self, folder: Path, plan: Plan, *, control: Path, seed: int):
        """Args are the working folder of the programs, the study, its control, and the seed."""
        self._folder, self._plan, self._control = folder, plan, control
        self._seed, self._chance = seed, random.Random(seed)
        self._runs = len(oracle.results(control))
        self._calls = 0
        self._blows = 0

    def strike(self, kills: int) -> Struck:
        """Strikes until ``kills`` blows have hit; then the last study may finish undisturbed."""
        studies = 0
        while self._blows < kills:
            name, history = f"s{studies}", list[str]()
            complete = False
            while not complete and self._blows < kills:
                complete = self._call(name, self._moments(name), history)
            # Also after a complete study: the next start removes what killed processes left.
            assert self._call(name, [], history), "\n".join(history)
            study = self._study(name)
            oracle.check_no_leftovers(study)
            oracle.check_as_control(study, self._control)
            studies += 1
        return Struck(blows=self._blows, calls=self._calls, studies=studies)

    def _study(self, name: str) -> Path:
        return self._folder / "runs/out" / name

    def _moments(self, name: str) -> list[float]:
        left = 1 - len(oracle.successful(self._study(name))) / self._runs
        longest = self._plan.start_seconds + left * self._plan.seconds
        count = self._chance.choice([1, 1, 2, 3])
        # A fifth strikes during the start, which otherwise gets few blows.
        spread = longest if self._chance.random() < 0.8 else self._plan.start_seconds
        return sorted(self._chance.uniform(0, spread) for _ in range(count))

    def _call(self, name: str, moments: Sequence[float], history: list[str]) -> bool:
        """Starts or resumes a study and strikes it; returns whether it is complete."""
        study = self._study(name)
        kept, whole = oracle.successful(study), oracle.whole_runs(study)
        keys = set(oracle.results(study))
        report = self._chance.random() < self._plan.reports
        if report:
            moments = [moment + self._plan.report_seconds for moment in moments]
        # The runs of some calls last longer than orphans may live; these calls must be ended.
        slow = bool(self._plan.slow and moments) and self._calls % _SLOW_EVERY == 2
        plan = dataclasses.replace(self._plan, variables=self._plan.slow) if slow else self._plan
        if slow:
            moments = [self._chance.uniform(0, 1.5)]
        program = begin(self._folder, name, plan, report=report)
        found, hit = struck(program, moments, self._chance, aim=study, fatal=slow)
        history.append(f"seed {self._seed}, {name}: {hit} -> {found.code}: {found.err[-3000:]}")
        said = "\n".join(history)
        check_end(found, hit, said=said)
        assert wait_until(lambda: not processes_in(self._folder), _END_SECONDS), said
        check_files(study, said=said)
        oracle.check_kept(kept, study)
        oracle.check_not_repeated(whole)
        assert keys <= set(oracle.results(study)), said
        if found.code in (0, 1):
            check_runs_that_were_hit(study, hit, said=said)
        self._blows, self._calls = self._blows + len(hit), self._calls + 1
        return found.code == 0


def begin(folder: Path, name: str, plan: Plan, *, report: bool) -> subprocess.Popen:
    """Starts a study of a folder, or resumes it if it has begun."""
    begun = (folder / "runs/out" / name / STUDY).exists()
    flags = ("--resume",) if begun else plan.grid
    views = () if report else ("--noreport",)
    arguments = ("compare", f"--study={name}", *flags, *views, *plan.more)
    return start(folder, MAIN, *arguments, **plan.variables)


def processes_in(folder: Path) -> list[psutil.Process]:
    """Returns the living processes that work in a folder."""
    found = psutil.process_iter(["cwd", "status"])
    return [
        process
        for process in found
        if process.info["cwd"] == str(folder) and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def undisturbed(folder: Path, plan: Callable[[Path], Plan]) -> Path:
    """Runs a study without faults; returns its folder."""
    program = begin(folder, "control", plan(folder), report=False)
    found, _ = struck(program, [], random.Random(0))
    assert found.code == 0, found
    return folder / "runs/out/control"
