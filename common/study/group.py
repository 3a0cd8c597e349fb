"""A group: living runs of one setting that take turns, window by window.

The runs start together. Each compiles and warms up while the others wait. Then every round has one
window of each run, in an order drawn anew. Nobody but the run whose turn it is uses a core: the
others block on a pipe (``common/processes/turns.py``).
"""

import math
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isoscale.common.machine.frequency import (
    Reading,
    frequencies,
    ratios,
    slowed,
    throttle_count,
)
from isoscale.common.measure.conditions import busy_seconds, is_disturbed
from isoscale.common.processes import heartbeat, launch
from isoscale.common.processes.limits import Limits
from isoscale.common.processes.supervise import POLL_SECONDS, ProcessOutcome, Supervision
from isoscale.common.processes.turns import END, START, WINDOW, StudyEnd

REPEATED_SHARE = 0.2
"""At most this share of the rounds is repeated at the end, in place of disturbed ones."""
MOST_ROUNDS = 400
_SHORTEST = 0.2
"""Seconds; the system counts in ticks of 10 ms, so the load of a shorter turn is unknown."""


class Member:
    """One run of a group."""

    def __init__(
        self,
        start: Callable[[], subprocess.Popen],
        *,
        run_dir: Path,
        limits: Limits,
        result: Path | None,
        cores: Sequence[int] = (),
    ):
        """Creates the pipes and starts the run.

        Args:
          start: starts the run's program, which gets ``--turns``.
          run_dir: its folder.
          limits: longest times without progress.
          result: file that the run writes last; None: its program watches over ranks.
          cores: the run's cores; empty: none are known.

        Raises:
          OSError: the pipes or the program cannot be made.
        """
        self.run_dir = run_dir
        self.outcome: ProcessOutcome | None = None
        self.cores = cores
        self._limits = limits
        self._pipes = StudyEnd(run_dir)
        try:
            self._process = start()
        except BaseException:
            self._pipes.close()
            raise
        self._supervision = Supervision(
            [self._process], run_dir=run_dir, limits=limits, result=result
        )

    @property
    def alive(self) -> bool:
        return self.outcome is None

    def poll(self) -> None:
        """Notes the outcome of a run that has ended, failed or hangs; ends its processes."""
        if self.outcome is None:
            self.outcome = self._supervision.poll()
            if self.outcome is not None:
                launch.end([self._process])

    def end(self) -> None:
        """Kills the run, if it lives, and removes its pipes."""
        launch.end([self._process])
        self._pipes.close()

    def ask(self, what: str, **facts: Any) -> None:
        try:
            self._pipes.ask(what, **facts)
        except BlockingIOError:
            self._fail("killed: it did not read what the study asked")

    def heard(self, group: Iterable["Member"]) -> dict[str, Any] | None:
        """Waits until the run says something; watches over all runs of the group meanwhile.

        Returns:
          What it said; None if it ended instead, or does not wake up.
        """
        began = time.monotonic()
        while self.alive:
            message = self._pipes.heard(seconds=POLL_SECONDS)
            if message is not None:
                return message
            for member in group:
                member.poll()
            allowed = self._limits.watchdog_seconds
            asleep = heartbeat.doing(self.run_dir).startswith("waiting")
            if asleep and time.monotonic() - began > allowed:
                self._fail(f"killed by the watchdog: did not take its turn within {allowed:g} s")
        return None

    def _fail(self, error: str) -> None:
        seconds = time.monotonic() - self._supervision.began
        launch.end([self._process])
        self.outcome = ProcessOutcome(
            ok=False, exit_code=-9, error=error, seconds=seconds, told=True
        )


class Load:
    """Measures the processor time that others use on a member's cores while it has its turn."""

    def __init__(self, cores: Sequence[int]) -> None:
        self._cores = cores
        self._throttles = throttle_count(cores)
        self._wall, self._busy, self._own = (
            time.monotonic(),
            busy_seconds(cores),
            time.process_time(),
        )

    def share(self, *, cpu_seconds: float) -> float | None:
        """Returns others' processor time on the cores, divided by the time since construction.

        This process waits on one of them and counts as the member's. None: unknown.

        Args:
          cpu_seconds: processor time of the member's own processes.
        """
        wall, used = time.monotonic() - self._wall, busy_seconds(self._cores)
        if wall < _SHORTEST or used is None or self._busy is None:
            return None
        others = used - self._busy - cpu_seconds - (time.process_time() - self._own)
        return round(max(0.0, others / wall), 3)

    def reading(self) -> Reading:
        """Returns the frequency of the cores now, and how often heat throttled them since.

        Ask at once when the member's window has ended: its cores fall to rest.
        """
        hertz, count = frequencies(self._cores), throttle_count(self._cores)
        if count is None or self._throttles is None:
            return Reading(hertz=hertz)
        return Reading(hertz=hertz, throttles=count - self._throttles)


def take_turns(
    members: Sequence[Member],
    *,
    name: str,
    rounds: int,
    random: np.random.Generator,
    on_round: Callable[[int, int], None] = lambda done, planned: None,
) -> None:
    """Gives turns to the runs of a group until the last has ended.

    A run that fails leaves the rounds of the others valid.

    Args:
      members: the runs, in the order in which they were started.
      name: identifies the group in the results.
      rounds: number of rounds; further ones, at most a fifth, take the place of disturbed ones.
      random: draws the order of each round.
      on_round: called with the number of finished rounds and of planned ones.
    """
    for member in members:
        member.heard(members)  # all have built their models before the first compiles
    for place, member in enumerate(members):
        if member.alive:
            member.ask(START, place=place)
            member.heard(members)
    shares: dict[Member, list[float | None]] = {member: [] for member in members}
    readings: dict[Member, list[Reading | None]] = {member: [] for member in members}
    planned, number = rounds, 0
    while number < planned and any(member.alive for member in members):
        for index in random.permutation(len(members)):
            member, share, reading = members[index], None, None
            if member.alive:
                load = Load(member.cores)
                member.ask(WINDOW, round=number)
                said = member.heard(members)
                if said is not None:
                    reading = load.reading()
                    share = load.share(cpu_seconds=said["cpu_seconds"])
            shares[member].append(share)
            readings[member].append(reading)
        number += 1
        if number == rounds:
            disturbed = [
                map(is_disturbed, shares[member], slowed(readings[member])) for member in members
            ]
            spoilt = sum(map(any, zip(*disturbed, strict=True)))
            planned += min(spoilt, math.ceil(REPEATED_SHARE * rounds))
        on_round(number, planned)
    for member in members:
        if member.alive:
            member.ask(
                END,
                outside_load_shares=shares[member],
                slowed=slowed(readings[member]),
                frequency_ratios=ratios(readings[member]),
                throttles=[reading and reading.throttles for reading in readings[member]],
                group=name,
                members=len(members),
            )
    while any(member.alive for member in members):
        for member in members:
            member.poll()
        time.sleep(POLL_SECONDS)
