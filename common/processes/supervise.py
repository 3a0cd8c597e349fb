"""Watches over the processes of a run: why they end, and whether they make progress."""

import contextlib
import dataclasses
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from isoscale.common.config.counts import counted
from isoscale.common.processes import heartbeat, launch
from isoscale.common.processes.frame import interrupted_by
from isoscale.common.processes.heartbeat import Beat
from isoscale.common.processes.limits import Limits
from isoscale.common.processes.log_lines import telling_line

POLL_SECONDS = 0.1
_LEAVE_SECONDS = 10.0
"""How long processes may continue after the result is complete."""
_PEERS_SECONDS = 3.0
"""How long the other ranks may continue after one failed: in this time they report their errors."""
_STACK_SECONDS = 1.0
"""How long the watchdog waits for the stacks of ranks that hang."""
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_MOST_CONSEQUENCES = 3
_LONGEST_CONSEQUENCE = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessOutcome:
    """How a group of processes ended.

    Attributes:
      ok: whether every process exited with code 0.
      exit_code: exit code of the process that failed first, otherwise 0; negative for a signal.
      error: one line for messages; None if ``ok``.
      seconds: time from start to end.
      told: whether ``error`` says why: the process reported it, or the watchdog found it.
    """

    ok: bool
    exit_code: int
    error: str | None
    seconds: float
    told: bool = False

    def explain(self, log: Path, *, otherwise: str) -> str:
        """Returns the error; if no process said why, with the last telling line of their log.

        Args:
          log: log of the processes.
          otherwise: text to use if ``error`` is None.
        """
        error = self.error or otherwise
        # A process that is killed from outside says nothing about it.
        said = None if self.told or -self.exit_code in _FROM_OUTSIDE else telling_line(log)
        return f"{error}; last line of its log: {said}" if said else error


@dataclasses.dataclass(frozen=True, kw_only=True)
class _End:
    """The end of a process.

    Attributes:
      code: its exit code; negative for a signal.
      after, by: it ended between these two readings of the monotonic clock, in seconds.
    """

    code: int
    after: float
    by: float


class Supervision:
    """Supervises processes. ``poll`` returns their outcome; call ``launch.end`` afterwards."""

    def __init__(
        self,
        processes: Sequence[subprocess.Popen],
        *,
        run_dir: Path,
        limits: Limits,
        result: Path | None = None,
    ):
        """Starts the supervision.

        Args:
          processes: the ranks of one run, or its single process.
          run_dir: folder of the heartbeats.
          limits: longest times without a heartbeat.
          result: file that the run writes last; afterwards the processes have 10 seconds to exit.
        """
        self._processes = processes
        self._run_dir = run_dir
        self._limits = limits
        self._result = result
        self.began = self._polled = time.monotonic()
        self._ends: dict[int, _End] = {}
        # Rank -> its heartbeat, and when the supervisor first saw it. A worker may remove its file
        # before it exits.
        self._beats: dict[int, tuple[Beat, float]] = {}
        self._finished: float | None = None

    def poll(self) -> ProcessOutcome | None:
        """Returns the outcome; None while the processes run and make progress."""
        now = time.monotonic()
        for rank, process in enumerate(self._processes):
            if rank not in self._ends and (code := process.poll()) is not None:
                self._ends[rank] = _End(code=code, after=self._polled, by=now)
        self._polled = now
        for rank, beat in heartbeat.read_beats(self._run_dir).items():
            if rank >= len(self._processes) > 1:
                continue  # of an earlier run with more ranks
            known = self._beats.get(rank)
            if known is None or known[0] != beat:
                # A failure is news, but no progress.
                since = known[1] if known and beat.error else now
                self._beats[rank] = beat, since
        left = len(self._ends) == len(self._processes)
        failed = [rank for rank, end in self._ends.items() if end.code]
        if left and not failed:
            return self._outcome(0, None)
        if failed:
            first = min(self._ends[rank].by for rank in failed)
            return self._failure(failed) if left or now - first > _PEERS_SECONDS else None
        if self._result is not None and self._result.exists():
            self._finished = self._finished or now
            if now - self._finished > _LEAVE_SECONDS:
                error = f"did not exit within {_LEAVE_SECONDS:g} s after its result; killed"
                return self._outcome(-signal.SIGKILL, error)
        if not self._run_dir.is_dir():  # the heartbeats of its processes go into removed files
            return self._outcome(-signal.SIGKILL, vanished(self._run_dir), told=True)
        allowed, deadline = self._deadline()
        if now > deadline:
            error = f"killed by the watchdog: no progress for {allowed:.4g} s{self._who_hangs()}"
            return self._outcome(-signal.SIGKILL, error, told=True)
        return None

    def _deadline(self) -> tuple[float, float]:
        """Returns (time without a heartbeat that is allowed now, end of that time)."""
        limits = self._limits
        found = [(limits.watchdog_seconds, self.began + limits.watchdog_seconds)]
        for beat, since in self._beats.values():
            allowed = limits.compile_seconds if beat.compiles else limits.watchdog_seconds
            allowed += beat.expected_seconds
            found.append((allowed, since + allowed))
        return max(found, key=lambda entry: entry[1])

    def _failure(self, failed: Iterable[int]) -> ProcessOutcome:
        """Returns the outcome: the rank that ended first is the cause, the others followed from it.

        A signal comes from outside; at the same moment it is the cause of the exit codes. A rank
        that fails notes the moment before it leaves.
        """

        def moment(rank: int) -> float:
            end, beat = self._ends[rank], self._beat(rank)
            if beat.failed_at is not None:
                return beat.failed_at
            return end.after if end.code < 0 else end.by

        cause, *others = sorted(failed, key=moment)
        error = self._words(cause)
        said = self._beat(cause).error
        same = [rank for rank in others if said is not None and self._beat(rank).error == said]
        if same:
            error += f"; the same on rank {', '.join(map(str, sorted(same)))}"
        others = [rank for rank in others if rank not in same]
        if others:
            more = len(others) - _MOST_CONSEQUENCES
            shown = others[:_MOST_CONSEQUENCES]
            texts = [self._words(rank)[:_LONGEST_CONSEQUENCE] for rank in shown]
            texts += [f"{counted(more, 'more rank')} failed"] if more > 0 else []
            error += f"; as a consequence: {'; '.join(texts)}"
        return self._outcome(self._ends[cause].code, error, told=said is not None)

    def _beat(self, rank: int) -> Beat:
        return self._beats[rank][0] if rank in self._beats else Beat()

    def _words(self, rank: int) -> str:
        beat, code = self._beat(rank), self._ends[rank].code
        who = f"rank {rank} " if len(self._processes) > 1 else ""
        if beat.error is not None:
            return f"{who}failed in '{beat.doing}': {beat.error}"
        return f"{who}{describe_exit(code)} in '{beat.doing}'"

    def _who_hangs(self) -> str:
        """Returns the ranks whose progress is behind, with their steps, and where they hang."""
        beats = {rank: beat for rank, (beat, _) in sorted(self._beats.items())}
        if not beats:
            return " in 'starting'"
        where = self._places(beats)
        if len(beats) == 1 and len(self._processes) == 1:
            ((rank, only),) = beats.items()
            return f" in '{only.doing}'{where[rank]}"
        for rank in range(len(self._processes)):
            beats.setdefault(rank, Beat())
        least = min(beat.count for beat in beats.values())
        behind = [rank for rank, beat in beats.items() if beat.count == least]
        stopped = [rank for rank in behind if where.get(rank, "").startswith(_STOPPED)]
        if len(behind) == len(beats) and stopped:
            behind = stopped
        said = [
            f"rank {rank}{' is behind' if rank in behind and len(behind) < len(beats) else ''}, "
            f"in '{beat.doing}'{where.get(rank, '')}"
            for rank, beat in sorted(beats.items(), key=lambda entry: entry[0] not in behind)
        ]
        return ": " + "; ".join(said)

    def _places(self, beats: dict[int, Beat]) -> dict[int, str]:
        """Returns rank -> the place in its program where it hangs, in words."""
        mine = _descendants(self._processes)
        found, asked = dict.fromkeys(beats, ""), []
        for rank, beat in beats.items():
            process = mine.get(beat.pid)
            if process is None:
                continue
            if _is_stopped(process):
                found[rank] = f"{_STOPPED} by a signal"
            elif heartbeat.answers_stack_signal(self._run_dir, rank):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(heartbeat.DUMP_STACK)
                    asked.append(rank)
        until = time.monotonic() + _STACK_SECONDS
        while asked and time.monotonic() < until:
            texts = {rank: heartbeat.stack(self._run_dir, rank) for rank in asked}
            if all(text.endswith("\n") for text in texts.values()):
                break
            time.sleep(0.02)
        for rank in asked:
            if place := innermost(heartbeat.stack(self._run_dir, rank)):
                found[rank] = f", at {place}"
        return found

    def _outcome(self, exit_code: int, error: str | None, *, told: bool = False) -> ProcessOutcome:
        return ProcessOutcome(
            ok=error is None,
            exit_code=exit_code,
            error=error,
            seconds=time.monotonic() - self.began,
            told=told,
        )


_STOPPED = ", stopped"


def _descendants(processes: Sequence[subprocess.Popen]) -> dict[int | None, psutil.Process]:
    """Returns process number -> process, for some processes and all their descendants."""
    found: dict[int | None, psutil.Process] = {}
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            own = psutil.Process(process.pid)
            found |= {one.pid: one for one in (own, *own.children(recursive=True))}
    return found


def _is_stopped(process: psutil.Process) -> bool:
    try:
        return process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.NoSuchProcess:
        return False


def innermost(dump: str) -> str | None:
    """Returns the innermost call of a stack as ``faulthandler`` writes it; None without one."""
    found = re.search(r'File "([^"]*)", line (\d+) in (\S+)', dump)
    return f"{Path(found[1]).name}:{found[2]} in {found[3]}" if found else None


def vanished(run_dir: Path) -> str:
    """Returns the error of a run whose folder was removed while the run used it."""
    return f"{run_dir} has vanished: it was removed while the run used it"


def wait_for_an_end(processes: Iterable[subprocess.Popen], *, seconds: float) -> None:
    """Returns when one of the processes has ended, or after ``seconds``.

    A supervisor that sees each end when it happens knows which process ended first.
    """
    running = [process for process in processes if process.returncode is None]
    with contextlib.ExitStack() as stack:
        ends = select.poll()
        try:
            for process in running:
                descriptor = os.pidfd_open(process.pid)
                stack.callback(os.close, descriptor)
                ends.register(descriptor, select.POLLIN)
        except (AttributeError, OSError):  # not Linux, an old kernel, or too few descriptors
            time.sleep(seconds)
            return
        ends.poll(seconds * 1000)


def supervise(
    processes: Sequence[subprocess.Popen],
    *,
    run_dir: Path,
    limits: Limits,
    result: Path | None = None,
    forward_signals: bool = False,
) -> ProcessOutcome:
    """Waits until the processes end, fail or make no progress; kills them; returns the outcome.

    Args:
      processes, run_dir, limits, result: as in ``Supervision``.
      forward_signals: an interruption of this program goes to the processes, which may take their
        time to end in order; the next one raises. False: the first one raises.

    Raises:
      KeyboardInterrupt: this program was interrupted. The processes have ended.
    """
    told = not forward_signals
    supervision = Supervision(processes, run_dir=run_dir, limits=limits, result=result)
    try:
        while True:
            try:
                while (outcome := supervision.poll()) is None:
                    wait_for_an_end(processes, seconds=POLL_SECONDS)
                    if not told and (noted := heartbeat.signals(run_dir)):
                        # Somebody has signalled single ranks: all must stop at the same step.
                        told = True
                        others = [p for rank, p in enumerate(processes) if rank not in noted]
                        _send(signal.Signals(next(iter(noted.values()))), others)
                return outcome
            except KeyboardInterrupt as error:
                if told:
                    raise
                told = True
                _send(interrupted_by(error), processes)
    finally:
        launch.end(processes)


def _send(number: signal.Signals, processes: Iterable[subprocess.Popen]) -> None:
    for process in processes:
        process.send_signal(number)


_HINTS = {
    signal.SIGKILL: " (out of memory?)",
    signal.SIGILL: " (was a library built for another CPU?)",
    signal.SIGBUS: " (is /dev/shm or a disk full?)",
    signal.SIGXFSZ: " (a file grew beyond the limit of 'ulimit -f')",
    signal.SIGXCPU: " (beyond the limit of 'ulimit -t')",
}


def describe_exit(code: int) -> str:
    """Describes an exit code in words; negative codes are signals.

    A shell turns the signal that killed its program into the exit code 128 + number.
    """
    number = -code if code < 0 else code - 128
    try:
        found = signal.Signals(number)
    except ValueError:
        return f"exited with code {code}" if code >= 0 else f"was killed by signal {-code}"
    if code < 0:
        return f"was killed by {found.name}{_HINTS.get(found, '')}"
    return f"exited with code {code}, as after {found.name}{_HINTS.get(found, '')}"
