"""What a known problem is, and how the problems of a machine are found.

A problem is reported only where the facts show it, and its evidence names these facts. A fact that
is ``unknown`` shows nothing. A figure that was measured on another machine says on which.

The tables: ``problems.py`` (the machine), ``gpu_problems.py`` (GPUs, driver, CUDA), and the
``problems.py`` of each framework's folder.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

Facts = dict[str, Any]
"""What ``isoscale doctor --json`` prints, without the problems."""

GIB = 2**30
LEAST_CORE_SHARE = 0.9
"""Share of its CPU core's time that a measured matrix product must have had to count."""

Topic = Literal["installation", "capacity", "kernels", "pages", "system", "execution", "gpu"]
"""The subject of a problem, in the order in which ``isoscale doctor`` prints them.

Versions and variables; cores, memory and disk; libraries that multiply matrices; memory pages;
how the system is set up; how a framework runs its devices and processes; GPUs.
"""
_TOPICS = get_args(Topic)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that is known to go wrong, or to be misread.

    Attributes:
      id: a short name.
      severity: ``problem``: results suffer here; ``note``: good to know here.
      topic: the subject; problems of one severity are printed topic by topic.
      evidence: facts -> the facts that show the problem, in words; None if they do not show it.
      meaning: the effect on results or work.
      remedy: what helps, or that no action is needed.
    """

    id: str
    severity: Literal["problem", "note"]
    topic: Topic
    evidence: Callable[[Facts], str | None]
    meaning: str
    remedy: str


def find(facts: Facts, known: Iterable[Problem]) -> list[dict[str, str]]:
    """Returns the known problems that the facts show: problems before notes, then by topic."""
    found = []
    for entry in sorted(known, key=lambda p: (p.severity != "problem", _TOPICS.index(p.topic))):
        evidence = entry.evidence(facts)
        if evidence is not None:
            found.append(
                {
                    "id": entry.id,
                    "severity": entry.severity,
                    "evidence": evidence,
                    "meaning": entry.meaning,
                    "remedy": entry.remedy,
                }
            )
    return found


# Helpers for conditions.


def number(value: Any) -> float | None:
    """Returns a figure, or None if the figure is unknown."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def examined(facts: Facts) -> dict[str, Facts]:
    """Returns framework -> its facts, for the frameworks that were examined with success."""
    return {n: f for n, f in facts["frameworks"].items() if f["status"] == "ok"}


def cores(facts: Facts) -> int:
    """Returns the number of physical cores that this process may use."""
    return len(facts["machine"]["available_cores"])


def operating_system(facts: Facts) -> str:
    """Returns ``Linux``, ``macOS``, ``Windows``, ..."""
    return facts["machine"]["operating_system"].split("-")[0]


def gib(size: float) -> str:
    """Returns a size in bytes as text in GiB."""
    return f"{size / GIB:.1f} GiB"


def is_disturbed(product: dict[str, Any]) -> bool:
    """Returns whether other programs used the CPU core while a matrix product was measured."""
    return product["core_share"] < LEAST_CORE_SHARE
