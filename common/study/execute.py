"""The execution of a study: the planned runs, the missing runs, and their order."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from isoscale.common.config.run_config import LARGEST_SEED, RunConfig
from isoscale.common.processes.limits import Limits
from isoscale.common.registry.interpreters import Program
from isoscale.common.study import plan
from isoscale.common.study.pace import FIRST_GROUPS, Pace, Times
from isoscale.common.study.records import MOST_RUNS
from isoscale.common.study.runs import Runs
from isoscale.common.study.sharing import share
from isoscale.common.study.store import Store

if TYPE_CHECKING:
    from isoscale.common.study.progress import StudyProgress  # needs rich

Divide = Callable[[int, float, float, float], Pace | None]
"""(groups that have run, seconds left, seconds of a group besides its rounds, seconds of a round)
-> how the rest of the time is divided; None: it is not."""


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
        rounds: int = 0,
        scaling: str = "strong",
        pace: Pace | None = None,
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
          rounds: rounds of a group of runs that take turns; 0: runs follow each other.
          scaling: cells of one setting form a group; with ``weak`` these share the batch of a
            device.
          pace: how the study divides its time, if it has planned that already.
        """
        self.rounds = rounds
        self._pace = pace
        self._times = Times()
        self._next_rounds: int | None = None
        self._seed = seed
        self._store = store
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
        keys = [plan.group_key(record, scaling=scaling) for record in self._records]
        self._groups = [keys.index(key) for key in keys]
        self._execution = Runs(
            self._cells,
            store,
            programs,
            seed=seed,
            limits=limits,
            environment=environment,
        )

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

    def _pending_groups(self, *, begun: Sequence[int] = ()) -> Iterator[tuple[int, list[int]]]:
        """Yields (run, cells) of every group with a planned run without success.

        The whole group is repeated: its rounds belong together. But a run that succeeded is not
        repeated if it took turns with cells that this call does not run: their rounds would lose
        their pairs. Neither is it if the others only wait for a framework that is not installed.

        Args:
          begun: as for ``pending``.
        """
        done: set[tuple[int, int]] = set()
        for run, first in self.pending(begun=begun):
            if (run, self._groups[first]) in done:
                continue
            done.add((run, self._groups[first]))
            group = [
                index
                for index in range(len(self._cells))
                if self._groups[index] == self._groups[first] and run < self._runs[index]
            ]
            records = [self._records[index] for index in group]
            missing = [i for i in group if not self._store.is_ok(self._records[i], run)]
            here = [index for index in missing if self._execution.can_run(index)]
            whole = bool(here) and not self._store.others_in_group(records, run)
            yield run, group if whole else missing

    def run(
        self,
        *,
        budget_seconds: float | None,
        on_round: Callable[[int], None],
        needed: Callable[[], int] | None = None,
        divide: Divide | None = None,
    ) -> None:
        """Executes the missing runs, then further complete rounds within a time budget.

        Args:
          budget_seconds: time budget; None: no further rounds.
          on_round: called before each further round, with the number of rounds, this round counted.
          needed: called once, after the planned runs: the number of rounds after which the study
            ends; None: the budget alone decides.
          divide: called when three groups have run, and after each further one until it returns
            how the rest of the time is divided between groups and rounds. None: all groups have
            the same rounds.
        """
        from isoscale.common.study.progress import StudyProgress  # late: only this needs rich

        began = time.monotonic()
        durations = self._store.durations(self._records)
        begun: list[int] = []
        most: int | None = None
        with StudyProgress(cells=self._records) as progress:
            while True:
                # A further round does not repeat the failed runs of earlier rounds: its budget is
                # for one run per cell.
                if self.rounds:
                    durations += self._run_groups(progress, begun)
                else:
                    durations += self._run_singly(progress, begun)
                rounds = max(self._runs) + 1
                most = needed() if needed is not None and most is None else most
                left = None if budget_seconds is None else budget_seconds + began - time.monotonic()
                if divide is not None and self._pace is None and left is not None:
                    self._pace = self._divided(divide, left)
                    most = self._pace.first_groups + self._pace.groups if self._pace else most
                if self._pace is not None and left is not None:
                    self._next_rounds = self._pace.rounds_within(
                        left, self._times.of_groups(self._groups)
                    )
                if (
                    budget_seconds is None
                    or self._next_rounds == 0
                    or (most is not None and rounds > most)
                    or rounds > MOST_RUNS
                    or self._seed + rounds - 1 > LARGEST_SEED
                    or (
                        self._next_rounds is None
                        and not plan.another_round_fits(
                            used_seconds=time.monotonic() - began,
                            run_seconds=durations,
                            cells=len(self._cells),
                            budget_seconds=budget_seconds,
                        )
                    )
                ):
                    return
                begun, self._runs = self._runs, [rounds] * len(self._cells)
                on_round(rounds)

    def _divided(self, divide: Divide, left: float) -> Pace | None:
        """Returns how the rest of the time is divided; None: not enough is known yet.

        Args:
          divide: as for ``run``.
          left: seconds of the budget that are left.
        """
        times = self._times.of_groups(self._groups)
        if max(self._runs) < FIRST_GROUPS or times is None:
            return None
        return divide(max(self._runs), left, *times)

    def _rounds_of(self, run: int) -> int:
        """Returns the number of rounds of the groups with a number."""
        if self._pace is None or run < self._pace.first_groups:
            return self.rounds
        last = run == max(self._runs) - 1
        return self._next_rounds if last and self._next_rounds else self._pace.rounds

    def _run_singly(self, progress: "StudyProgress", begun: Sequence[int]) -> list[float]:
        """Executes the pending runs one after the other; returns their durations in seconds."""
        missing, durations = sum(self.missing(begun=begun)), []
        for position, (run, index) in enumerate(self.pending(begun=begun)):
            progress.plan(missing - position)
            progress.start_run(self._records[index], run, self._execution.run_dir(index, run))
            line = self._execution.execute(index, run)
            self._store.add(line)
            durations += [line.wall_seconds] if line.wall_seconds else []
            progress.finish_run(line)
        return durations

    def _run_groups(self, progress: "StudyProgress", begun: Sequence[int]) -> list[float]:
        """Executes the pending groups; returns a run's share of their durations, in seconds."""
        durations = []
        for run, indices in self._pending_groups(begun=begun):
            progress.plan(sum(self.missing(begun=begun)))
            progress.start_group([self._records[index] for index in indices], run)
            began = time.monotonic()
            ends: list[float] = []

            def end_round(
                done: int, planned: int, ends: list[float] = ends, began: float = began
            ) -> None:
                ends.append(time.monotonic() - began)
                progress.say_round(done, planned)

            for line in self._execution.execute_group(
                indices, run, rounds=self._rounds_of(run), on_round=end_round
            ):
                self._store.add(line)
                share = (time.monotonic() - began) / len(indices)
                durations += [share] if line.wall_seconds else []
                progress.finish_run(line, seconds=share)
            self._times.add(self._groups[indices[0]], seconds=time.monotonic() - began, ends=ends)
        return durations

    def cells(self) -> Iterator[tuple[RunConfig, int]]:
        """Yields every cell with the number of its planned runs without success."""
        yield from zip(self._cells, self.missing(), strict=True)
