"""Jobs for the tests of the pool; the pool starts this module, and each job writes a file."""

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path

from isoscale.common.processes import job_pool
from isoscale.common.processes.heartbeat import Heartbeat
from isoscale.common.processes.job_line import Line
from isoscale.common.processes.job_pool import Job


@dataclasses.dataclass(frozen=True, kw_only=True)
class CountLine(Line):
    """The results: the number that the job counted, and the process id."""

    count: int = 0
    pid: int = 0
    variable: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CountJob(Job[CountLine]):
    """Adds 1 to a number, or fails in the way that ``does`` names.

    Attributes:
      name, team: the key and the group.
      number: the job adds 1 to this number.
      does: ``work``, ``wait for NAME`` (works after another job), ``fail`` (reports an error),
        ``crash``, ``raise``, or ``hang``.
      folder: parent of the folder with the job's file.
    """

    name: str
    team: str
    number: int
    does: str
    folder: str

    @property
    def key(self) -> tuple[str]:
        return (self.name,)

    @property
    def group(self) -> str:
        return self.team

    @property
    def output(self) -> Path:
        return Path(self.folder) / self.name

    def has_output(self) -> bool:
        return (self.output / "count").exists()


def run(job: CountJob, beat: Heartbeat, report: Callable[[Line], None]) -> None:
    beat.beat(f"counting {job.name}")
    if job.does == "crash":
        print("out of luck", flush=True)
        os._exit(7)
    if job.does == "raise":
        raise ValueError("\nthe first line\nthe second line")
    if job.does == "hang":
        time.sleep(600)
    if job.does == "fail":
        report(CountLine(job=job.key, error="no number"))
        return
    if job.does.startswith("wait for "):
        while not (Path(job.folder) / job.does.removeprefix("wait for ") / "count").exists():
            time.sleep(0.02)
    job.output.mkdir(parents=True)
    (job.output / "count").touch()
    variable = os.environ["COUNTING"]
    report(CountLine(job=job.key, count=job.number + 1, pid=os.getpid(), variable=variable))


def prepare(jobs: list[CountJob]) -> None:
    os.environ["COUNTING"] = f"{os.environ.get('COUNTING', '')} {len(jobs)} jobs".strip()


if __name__ == "__main__":
    job_pool.serve(CountJob, run, prepare=prepare)
