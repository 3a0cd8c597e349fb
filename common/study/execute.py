"""The execution of a study: the planned runs, the missing runs, and how a run is started."""

import contextlib
import dataclasses
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from isoscale.common.config.errors import ConfigError, FolderError
from isoscale.common.config.run_config import LARGEST_SEED, RunConfig
from isoscale.common.disk.folders import leads_outside
from isoscale.common.disk.writing import about_disk, reason, writing
from isoscale.common.machine.own_version import own_version
from isoscale.common.machine.private import Private, prefix_of
from isoscale.common.measure.result import RESULT, RunIdentity, RunOutcome, Status, read_record
from isoscale.common.measure.training_result import TrainingResult
from isoscale.common.processes import heartbeat, launch
from isoscale.common.processes.limits import Limits
from isoscale.common.processes.supervise import ProcessOutcome, supervise
from isoscale.common.registry import environments, extra, lookup
from isoscale.common.registry.interpreters import Program
from isoscale.common.study import plan
from isoscale.common.study.records import MOST_RUNS, ResultLine, read_result
from isoscale.common.study.sharing import share
from isoscale.common.study.store import Store, set_aside

_SAID = "isoscale: "
"""A line of a log that begins like this was printed by isoscale."""
_PROBE_BYTES = 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudySession:
    """The plan of one call of ``compare``: cells, and the number of runs of each cell.

    Attributes:
      flags: flags of the call.
      cells: cells of its grid.
      rounds: runs per cell: ``--runs``, or the number of rounds begun within the time budget.
    """

    flags: list[str]
    cells: list[RunConfig]
    rounds: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Attempt:
    """One execution of a run.

    Attributes:
      result: the run's result, also of a failed or skipped run.
      wall_seconds, exit_warning: as in ``ResultLine``.
    """

    result: TrainingResult
    wall_seconds: float | None = None
    exit_warning: str | None = None


class Study:
    """One study: finds its missing runs and executes them."""

    def __init__(
        self,
        sessions: Sequence[StudySession],
        store: Store,
        programs: Mapping[str, Program],
        *,
        seed: int,
        limits: Limits,
        environment: Callable[[RunConfig], dict[str, str]],
    ):
        """Plans the runs of all sessions; a cell gets the most runs that any session plans.

        A tuned cell that is the same configuration as its stock cell is not run: ``shared`` has it.

        Args:
          sessions: sessions to run. --resume without a flag of the grid continues all sessions of
            the study.
          store: the results so far.
          programs: framework -> the command that starts a run, and its missing packages.
          seed: seed of run 0 and of the order; run n uses ``seed + n``.
          limits: longest times without progress; the run is then killed.
          environment: cell -> the whole environment of a run's process.
        """
        self._environment = environment
        self._seed = seed
        self._limits = limits
        self._store = store
        self._programs = programs
        self._runs: list[int] = []
        self._cells: list[RunConfig] = []
        index_of: dict[str, int] = {}
        cells_of, self.shared = share([s.cells for s in sessions], begun=store.begun())
        for session, cells in zip(sessions, cells_of, strict=True):
            for cell in cells:
                index = index_of.setdefault(cell.cell().id, len(self._cells))
                if index == len(self._cells):
                    self._cells.append(cell)
                    self._runs.append(0)
                self._runs[index] = max(self._runs[index], session.rounds)
        self._ids = list(index_of)
        self._records = [cell.cell() for cell in self._cells]

    def order(self, round_index: int) -> list[str]:
        """Returns the cell ids of a round, in their random order."""
        return [self._ids[i] for i in self._order(round_index)]

    def _order(self, round_index: int) -> list[int]:
        return plan.round_order(len(self._cells), seed=self._seed, round_index=round_index)

    def pending(self, *, begun: Sequence[int] = ()) -> Iterator[tuple[int, int]]:
        """Yields (run, cell index) of every planned run without success, in execution order.

        Looks at a run only when its turn comes: a plan may have a million runs.

        Args:
          begun: for each cell, the number of its first runs that are left out; empty: none are.
        """
        for run in range(min(begun, default=0), max(self._runs)):
            wanted = {
                index
                for index, record in enumerate(self._records)
                if (begun[index] if begun else 0) <= run < self._runs[index]
                and not self._store.is_ok(record, run)
            }
            if wanted:
                yield from ((run, index) for index in self._order(run) if index in wanted)

    def missing(self, *, begun: Sequence[int] = ()) -> list[int]:
        """Returns, for each cell, the number of runs that ``pending`` yields."""
        first = list(begun) or [0] * len(self._runs)
        counts = [max(0, runs - low) for low, runs in zip(first, self._runs, strict=True)]
        index_of = {record: index for index, record in enumerate(self._records)}
        for line in self._store.lines():
            index = index_of.get(line.cell)
            if index is not None and line.ok and first[index] <= line.run < self._runs[index]:
                counts[index] -= 1
        return counts

    def command(self, index: int, run: int, run_dir: Path) -> list[str]:
        """Returns the command of a run; a user can repeat it by hand with another --run_dir."""
        config = dataclasses.replace(self._cells[index], seed=self._seed + run)
        return [
            *self._programs[config.framework].command,
            *config.to_flags(),
            *self._limits.to_flags(),
            f"--run_dir={run_dir}",
        ]

    def _run_dir(self, index: int, run: int) -> Path:
        return self._store.folder.resolve() / "cells" / self._ids[index] / f"run_{run}"

    def execute(self, index: int, run: int) -> ResultLine:
        """Runs a cell once and returns its result line; a failed run also gets a result line.

        Raises:
          FolderError: the study has vanished, or a link leads out of it.
        """
        config = self._cells[index]
        run_dir = self._run_dir(index, run)
        program = self._programs[config.framework]
        if program.missing:
            skipped = self._without_figures(index, run, "skipped", program.missing_in_public)
            attempt = _Attempt(result=skipped)
        else:
            if leads_outside(self._store.folder, run_dir):
                raise FolderError(f"{run_dir} is a link that leads out of the study")
            # A run may have finished before its study was killed: its result is used.
            result = self._read(index, run_dir)
            if result is not None and result.status == "ok":
                attempt = _Attempt(result=result)
            else:
                attempt = self._start(index, run, run_dir)
            relative = run_dir.relative_to(self._store.folder.resolve())
            result = dataclasses.replace(
                attempt.result,
                cell=self._records[index],
                seed=self._seed + run,
                run_dir=str(relative),
            )
            attempt = dataclasses.replace(attempt, result=result)
        return ResultLine(
            run=run,
            sequence=self._store.next_sequence(),
            result=attempt.result,
            wall_seconds=attempt.wall_seconds,
            exit_warning=attempt.exit_warning,
        )

    def _private(self, python: str) -> Private:
        """Returns what removes paths outside the study, and secrets, from the texts of a run."""
        folders = {
            str(lookup.ROOT): "isoscale",
            prefix_of(python): "python",
            str(self._store.folder.resolve()): ".",
            str(self._store.folder.resolve().parent): "(out_dir)",
            **extra.private_folder(),
        }
        return Private(folders, environments.private_variables())

    def _read(self, index: int, run_dir: Path) -> TrainingResult | None:
        """Returns a run's result; None if it is absent or not written by isoscale."""
        record = read_record(run_dir)
        if record is None:
            return None
        try:
            return read_result(record, scenario=self._cells[index].scenario)
        except ValueError:
            return None

    def _without_figures(self, index: int, run: int, status: Status, error: str) -> TrainingResult:
        identity = RunIdentity(
            cell=self._records[index],
            seed=self._seed + run,
            started=datetime.now(UTC).isoformat(timespec="milliseconds"),
            isoscale=own_version(),
        )
        outcome = RunOutcome(status=status, error=error)
        return lookup.scenario(self._cells[index].scenario).assemble(identity, outcome)

    def _start(self, index: int, run: int, run_dir: Path) -> "_Attempt":
        command = self.command(index, run, run_dir)
        log = run_dir / "log.txt"
        # Without paths outside the study: a study is often published.
        private = self._private(command[0])
        shown = [Path(command[0]).name, *map(private.clean, command[1:])]
        failure = self._without_figures(index, run, "failed", "")
        self._store.check_exists()  # a study that was removed must not come back as a new one
        try:
            with writing(run_dir):
                private.clean_file(log)  # of an attempt whose study was killed
                set_aside(run_dir)
                run_dir.mkdir(parents=True)
                log.write_text(f"$ {shlex.join(shown)}\n", encoding="utf-8")
            variables = {**self._environment(self._cells[index]), "PYTHONUNBUFFERED": "1"}
            process = launch.start(command, environment=variables, log=log)
        except (OSError, ConfigError) as problem:
            error = about_disk(problem) or str(problem)
            # The disk is full, the interpreter was removed since its check, or a tweak's library
            # cannot be built. The other runs of the study may still succeed.
            return _Attempt(result=dataclasses.replace(failure, error=private.clean(error)))
        # A program with several ranks watches over them itself, with the same limits: it knows more
        # about them than this process. A second limit here could kill it before it has said so.
        alone = self._cells[index].processes == 1
        outcome = supervise(
            [process],
            run_dir=run_dir,
            limits=self._limits if alone else self._limits.later(),
            result=run_dir / RESULT if alone else None,
        )
        self._store.check_exists()
        refused = _refusal(outcome, log)
        private.clean_file(log)
        with contextlib.suppress(OSError):  # a file that stays does no harm
            heartbeat.remove(run_dir)
        result = self._read(index, run_dir)
        if result is not None:
            # A complete result remains valid; exit_warning notes a failure after it was written.
            warning = private.clean(outcome.error) if outcome.error else None
            return _Attempt(result=result, wall_seconds=outcome.seconds, exit_warning=warning)
        error = refused or outcome.explain(log, otherwise="wrote no result")
        failed = dataclasses.replace(failure, error=private.clean(error))
        return _Attempt(result=failed, wall_seconds=outcome.seconds)

    def run(self, *, budget_seconds: float | None, on_round: Callable[[int], None]) -> None:
        """Executes the missing runs, then further complete rounds within a time budget.

        Args:
          budget_seconds: time budget; None: no further rounds.
          on_round: called before each further round, with the number of rounds, this round counted.
        """
        from isoscale.common.study.progress import StudyProgress  # late: only this needs rich

        began = time.monotonic()
        durations = self._store.durations(self._records)
        begun: list[int] = []
        with StudyProgress(cells=self._records) as progress:
            while True:
                # A further round does not repeat the failed runs of earlier rounds: its budget is
                # for one run per cell.
                missing = sum(self.missing(begun=begun))
                for position, (run, index) in enumerate(self.pending(begun=begun)):
                    progress.plan(missing - position)
                    progress.start_run(self._records[index], run, self._run_dir(index, run))
                    line = self.execute(index, run)
                    self._store.add(line)
                    durations += [line.wall_seconds] if line.wall_seconds else []
                    progress.finish_run(line)
                rounds = max(self._runs) + 1
                if (
                    budget_seconds is None
                    or rounds > MOST_RUNS
                    or self._seed + rounds - 1 > LARGEST_SEED
                    or not plan.another_round_fits(
                        used_seconds=time.monotonic() - began,
                        run_seconds=durations,
                        cells=len(self._cells),
                        budget_seconds=budget_seconds,
                    )
                ):
                    return
                begun, self._runs = self._runs, [rounds] * len(self._cells)
                on_round(rounds)

    def cells(self) -> Iterator[tuple[RunConfig, int]]:
        """Yields every cell with the number of its planned runs without success."""
        yield from zip(self._cells, self.missing(), strict=True)


def _refusal(outcome: ProcessOutcome, log: Path) -> str | None:
    """Returns why a run could not write its files; None if it failed for another reason.

    A program that ends with FolderError's exit code has said why in its log, unless the log lies on
    the same full disk.
    """
    if not log.parent.is_dir():
        return f"{log.parent} has vanished: it was removed while the run used it"
    if outcome.exit_code != FolderError.exit_code:
        return None
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 20_000))
        lines = file.read().decode(errors="replace").splitlines()
        said = [line for line in lines if line.startswith(_SAID)]
        if said:
            return said[-1].removeprefix(_SAID)
    try:
        with tempfile.TemporaryFile(dir=log.parent, buffering=0) as file:
            file.write(bytes(_PROBE_BYTES))
    except OSError as error:
        return f"cannot write {log.parent}: {reason(error)}"
    return None
