"""Defines ``Problem`` and finds the known problems of a machine.

A problem is reported only if the facts show the problem; its evidence names these facts. An
``unknown`` fact shows no problem. A text with a figure from another machine names that machine.

Three kinds of files list the problems: ``problems.py`` (the machine), ``gpu_problems.py`` (GPUs,
driver, CUDA), and the ``problems.py`` in each framework's folder.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

Facts = dict[str, Any]
"""The document that ``isoscale doctor --json`` prints, without the problems."""

GIB = 2**30
LEAST_CORE_SHARE = 0.9
"""Least share of the CPU core's time that a measured matrix product needs in order to count."""

Topic = Literal["installation", "capacity", "kernels", "pages", "system", "execution", "gpu"]
"""The subject of a problem, in the order in which ``isoscale doctor`` prints them.

The subjects are: versions and variables; cores, memory and disk; libraries that multiply matrices;
memory pages; settings of the system; devices and processes of a framework; GPUs.
"""
_TOPICS = get_args(Topic)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """A known problem, or a known cause of misread results.

    Attributes:
      id: a short name.
      severity: ``problem``: results on this machine suffer; ``note``: useful to know.
      topic: the subject; problems of one severity are printed topic by topic.
      evidence: returns the facts that show the problem, in words; None: no problem.
      meaning: the effect on results or work.
      remedy: the action that helps, or a sentence that no action is needed.
    """

    id: str
    severity: Literal["problem", "note"]
    topic: Topic
    evidence: Callable[[Facts], str | None]
    meaning: str
    remedy: str


def find(facts: Facts, known: Iterable[Problem]) -> list[dict[str, str]]:
    """Returns the known problems that the facts show: problems before notes, each by topic."""
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
    """Returns a number; None if ``value`` is unknown."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def examined(facts: Facts) -> dict[str, Facts]:
    """Returns framework -> its facts, for the successfully examined frameworks."""
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
