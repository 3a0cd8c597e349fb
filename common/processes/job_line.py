"""The results of one job, and the key that identifies the job."""

import dataclasses

Key = tuple[str | int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """The results of one job; each command adds its own fields.

    Attributes:
      job: key of the job.
      error: reason of a failure, in one line; None: the job succeeded.
      seconds: duration of the job; None: its process failed.
      log: path of the process's log.
      isoscale: version and commit of the isoscale that did the job; None: unknown.
    """

    job: Key
    error: str | None = None
    seconds: float | None = None
    log: str | None = None
    isoscale: str | None = None
