"""How a study executes one run, or a group of runs that take turns, and what their lines say."""

import contextlib
import dataclasses
import functools
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from isoscale.common.config.errors import ConfigError, FolderError
from isoscale.common.config.run_config import RunConfig
from isoscale.common.disk.folders import leads_outside
from isoscale.common.disk.writing import about_disk, reason, writing
from isoscale.common.machine.cores import available_cores, cores_of_devices
from isoscale.common.machine.own_version import own_version
from isoscale.common.machine.private import Private, prefix_of
from isoscale.common.measure.result import RESULT, RunIdentity, RunOutcome, Status, read_record
from isoscale.common.measure.training_result import TrainingResult
from isoscale.common.processes import heartbeat, launch
from isoscale.common.processes.limits import Limits
from isoscale.common.processes.log_lines import LOG
from isoscale.common.processes.supervise import ProcessOutcome, supervise
from isoscale.common.processes.turns import FLAG
from isoscale.common.registry import environments, extra, lookup
from isoscale.common.registry.interpreters import Program
from isoscale.common.study.group import Member, take_turns
from isoscale.common.study.records import ResultLine, read_result
from isoscale.common.study.store import Store, set_aside

_SAID = "isoscale: "
"""A line of a log that begins like this was printed by isoscale."""
_PROBE_BYTES = 2**20


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


class Runs:
    """Executes runs of a study's cells."""

    def __init__(
        self,
        cells: Sequence[RunConfig],
        store: Store,
        programs: Mapping[str, Program],
        *,
        seed: int,
        limits: Limits,
        environment: Callable[[RunConfig], dict[str, str]],
    ):
        """Stores the arguments.

        Args:
          cells: the cells; methods name a cell by its index.
          store: results of the study; its folder holds the run folders.
          programs: framework -> the command that starts a run, and its missing packages.
          seed: seed of run 0; run n uses ``seed + n``.
          limits: longest times without progress; the run is then killed.
          environment: cell -> the whole environment of a run's process.
        """
        self._cells = cells
        self._records = [cell.cell() for cell in cells]
        self._store = store
        self._programs = programs
        self._seed = seed
        self._limits = limits
        self._environment = environment

    def command(self, index: int, run: int, run_dir: Path) -> list[str]:
        """Returns the command of a run; a user can repeat it by hand with another --run_dir."""
        config = dataclasses.replace(self._cells[index], seed=self._seed + run)
        return [
            *self._programs[config.framework].command,
            *config.to_flags(),
            *self._limits.to_flags(),
            f"--run_dir={run_dir}",
        ]

    def run_dir(self, index: int, run: int) -> Path:
        return self._store.folder.resolve() / "cells" / self._records[index].id / f"run_{run}"

    def execute(self, index: int, run: int) -> ResultLine:
        """Runs a cell once and returns its result line; a failed run also gets a result line.

        Raises:
          FolderError: the study has vanished, or a link leads out of it.
        """
        program = self._programs[self._cells[index].framework]
        if program.missing:
            return self._line(index, run, self._skipped(index, run))
        self._check_inside(index, run)
        # A run may have finished before its study was killed: its result is used.
        attempt = self._finished(index, run) or self._start(index, run)
        return self._line(index, run, attempt)

    def _check_inside(self, index: int, run: int) -> None:
        run_dir = self.run_dir(index, run)
        if leads_outside(self._store.folder, run_dir):
            raise FolderError(f"{run_dir} is a link that leads out of the study")

    def can_run(self, index: int) -> bool:
        """Returns whether the framework of a cell is installed."""
        return self._programs[self._cells[index].framework].missing is None

    def _skipped(self, index: int, run: int) -> "_Attempt":
        program = self._programs[self._cells[index].framework]
        return _Attempt(
            result=self._without_figures(index, run, "skipped", program.missing_in_public)
        )

    def _finished(self, index: int, run: int) -> "_Attempt | None":
        """Returns the result of a run that succeeded before its study could note it."""
        result = self._read(index, self.run_dir(index, run))
        return _Attempt(result=result) if result is not None and result.status == "ok" else None

    def _line(self, index: int, run: int, attempt: "_Attempt") -> ResultLine:
        result = attempt.result
        if result.status != "skipped":
            relative = self.run_dir(index, run).relative_to(self._store.folder.resolve())
            result = dataclasses.replace(
                result,
                cell=self._records[index],
                seed=self._seed + run,
                run_dir=str(relative),
            )
        return ResultLine(
            run=run,
            sequence=self._store.next_sequence(),
            result=result,
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

    def _launch(self, index: int, run: int, run_dir: Path, *flags: str) -> subprocess.Popen:
        """Starts a run in a new folder; an earlier attempt is set aside.

        Args:
          index, run, run_dir: of the run.
          flags: for its program, besides those of its command.

        Raises:
          OSError, ConfigError: it cannot be started: the disk is full, the interpreter was removed
            since its check, or a tweak's library cannot be built.
        """
        command = self.command(index, run, run_dir)
        # Without paths outside the study: a study is often published.
        private = self._private(command[0])
        shown = [Path(command[0]).name, *map(private.clean, command[1:])]
        with writing(run_dir):
            log = run_dir / LOG
            log.write_text(f"$ {shlex.join(shown)}\n", encoding="utf-8")
        variables = {**self._environment(self._cells[index]), "PYTHONUNBUFFERED": "1"}
        return launch.start([*command, *flags], environment=variables, log=log)

    def _make_run_dir(self, index: int, run: int) -> Path:
        """Makes the folder of a run; sets an earlier attempt aside.

        Raises:
          FolderError: the disk is full, or the folder cannot be written.
        """
        run_dir = self.run_dir(index, run)
        with writing(run_dir):
            # Of an attempt whose study was killed.
            self._private(self._programs[self._cells[index].framework].command[0]).clean_file(
                run_dir / LOG
            )
            set_aside(run_dir)
            run_dir.mkdir(parents=True)
        return run_dir

    def _limits_of(self, index: int) -> Limits:
        """Returns the limits for a run.

        A program with several ranks watches over them itself, with the same limits: it knows more
        about them than this process. A second limit here could kill it before it has said so.
        """
        return self._limits if self._cells[index].processes == 1 else self._limits.later()

    def _last_file(self, index: int, run_dir: Path) -> Path | None:
        """Returns the file after which a run must end; None if another program watches over it."""
        return run_dir / RESULT if self._cells[index].processes == 1 else None

    def _cores_of(self, index: int) -> list[int]:
        """Returns the cores of a run; empty if it is not pinned to cores."""
        config = self._cells[index]
        if config.platform != "cpu":
            return []
        return cores_of_devices(
            available_cores(),
            first_device=0,
            devices=config.devices_here,
            threads_per_device=config.threads_per_device,
        )

    def _failed(self, index: int, run: int, error: str) -> "_Attempt":
        program = self._programs[self._cells[index].framework]
        clean = self._private(program.command[0]).clean
        return _Attempt(result=self._without_figures(index, run, "failed", clean(error)))

    def _start(self, index: int, run: int) -> "_Attempt":
        self._store.check_exists()  # a study that was removed must not come back as a new one
        try:
            run_dir = self._make_run_dir(index, run)
            process = self._launch(index, run, run_dir)
        except (OSError, ConfigError) as problem:
            # The other runs of the study may still succeed.
            return self._failed(index, run, about_disk(problem) or str(problem))
        outcome = supervise(
            [process],
            run_dir=run_dir,
            limits=self._limits_of(index),
            result=self._last_file(index, run_dir),
        )
        return self._conclude(index, run, run_dir, outcome)

    def _conclude(self, index: int, run: int, run_dir: Path, outcome: ProcessOutcome) -> "_Attempt":
        """Returns the result of a run whose processes have ended."""
        private = self._private(self._programs[self._cells[index].framework].command[0])
        log = run_dir / LOG
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
        failed = self._failed(index, run, error)
        return dataclasses.replace(failed, wall_seconds=outcome.seconds)

    def execute_group(
        self,
        indices: Sequence[int],
        run: int,
        *,
        rounds: int,
        on_round: Callable[[int, int], None],
    ) -> Iterator[ResultLine]:
        """Runs some cells once, in turns, and yields their result lines; add each to the store.

        Args:
          indices: the cells.
          run: number of the run, and of the group.
          rounds, on_round: as for ``take_turns``.

        Raises:
          FolderError: the study has vanished, or a link leads out of it.
        """
        for index in indices:
            self._check_inside(index, run)
        here = [index for index in indices if self.can_run(index)]
        attempts = {i: self._skipped(i, run) for i in indices if i not in here}
        finished = {index: self._finished(index, run) for index in here}
        if here and not all(finished.values()):
            finished = {}
            for index, attempt in self._in_turns(
                here, run, rounds=rounds, on_round=on_round
            ).items():
                attempts[index] = attempt
        attempts |= {index: attempt for index, attempt in finished.items() if attempt}
        for index, attempt in attempts.items():
            yield self._line(index, run, attempt)

    def _in_turns(
        self,
        indices: Sequence[int],
        run: int,
        *,
        rounds: int,
        on_round: Callable[[int, int], None],
    ) -> "dict[int, _Attempt]":
        # Members of a group differ by the order in which they were started: each group draws anew.
        random = np.random.default_rng((self._seed, run, min(indices)))
        order = [indices[i] for i in random.permutation(len(indices))]
        attempts: dict[int, _Attempt] = {}
        members: dict[int, Member] = {}
        self._store.check_exists()
        try:
            for index in order:
                try:
                    run_dir = self._make_run_dir(index, run)
                    members[index] = Member(
                        functools.partial(self._launch, index, run, run_dir, f"--{FLAG}"),
                        run_dir=run_dir,
                        limits=self._limits_of(index),
                        result=self._last_file(index, run_dir),
                        cores=self._cores_of(index),
                    )
                except (OSError, ConfigError) as problem:
                    attempts[index] = self._failed(index, run, about_disk(problem) or str(problem))
            began = datetime.now(UTC).isoformat(timespec="milliseconds")
            take_turns(
                list(members.values()),
                name=f"{run} {began}",
                rounds=rounds,
                random=random,
                on_round=on_round,
            )
        finally:
            for member in members.values():
                member.end()
        for index, member in members.items():
            assert member.outcome is not None
            attempts[index] = self._conclude(index, run, member.run_dir, member.outcome)
        return attempts


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
