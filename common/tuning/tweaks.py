"""Tweaks: small, named ways to make a framework faster on a machine, with equal results.

A framework lists its own in ``frameworks/<name>_runner/tweaks.py`` as ``TWEAKS``, in the order in
which they are switched on. Which ones a run uses is decided here: ``--tuning`` names a lane
(``stock``: none; ``tuned``: all that pay here), and ``--tweaks=+name,-name`` changes it. Settings
that correct results need are no tweaks; they hold in both lanes.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from isoscale.common.config.errors import ConfigError, unknown
from isoscale.common.config.run_config import TUNED, RunConfig

SEPARATOR = ":"  # of GLIBC_TUNABLES and LD_PRELOAD


def _no_environment() -> dict[str, str]:
    return {}


def _nothing_missing() -> None:
    return None


def _nothing_to_see() -> bool:
    return True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tweak:
    """One tweak.

    Attributes:
      name: for ``--tweaks``.
      what: it does.
      why: it helps, and by how much where that was measured.
      where: it can be used, in words.
      needs: of the machine, in words.
      source: where it is documented.
      applies: whether it can change anything for a run that has the tweaks before it.
      pays: whether the tuned lane takes it for a run that it applies to.
      missing: what it needs and this machine lacks, or None; nothing is changed.
      variables: variable -> what the parts of its value that are this tweak's contain.
      environment: variable -> the parts to set before the process starts; may build what it names.
      changes: fields of ``RunConfig`` that it sets.
      in_effect: whether it is there, asked in every process of a run before the framework is.
      evidence: what a run's record says of it at the end.
      unsupported: whether the vendor of the library does not support it.
    """

    name: str
    what: str
    why: str
    where: str
    needs: str
    source: str
    applies: Callable[[RunConfig], bool]
    pays: Callable[[RunConfig], bool]
    missing: Callable[[], str | None] = _nothing_missing
    variables: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    environment: Callable[[], dict[str, str]] = _no_environment
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    in_effect: Callable[[], bool] = _nothing_to_see
    evidence: Callable[[], dict[str, Any]] | None = None
    unsupported: bool = False

    @property
    def kind(self) -> str:
        """``environment`` (set before the process starts), ``setting`` or ``operation``."""
        if self.variables:
            return "environment"
        return "setting" if self.changes else "operation"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wish:
    """``--tweaks``, read.

    Attributes:
      fresh: start from no tweak, whatever the lane has.
      added, dropped: names.
    """

    fresh: bool = False
    added: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()


def read_wish(words: Sequence[str], known: Collection[str]) -> Wish:
    """Reads the words of ``--tweaks``.

    Raises:
      ConfigError: a word without sign, a name that is not known, or both signs for one.
    """
    signed: dict[str, set[str]] = {"+": set(), "-": set()}
    for word in words:
        if word == "none":
            continue
        sign, name = word[:1], word[1:]
        if sign not in signed:
            raise ConfigError(
                f"--tweaks={word}: each is +name, -name, or 'none' (start from no tweak)"
            )
        if name not in known:
            raise unknown("tweak", name, known)
        signed[sign].add(name)
    both = signed["+"] & signed["-"]
    if both:
        raise ConfigError(f"--tweaks: both +{min(both)} and -{min(both)}")
    return Wish(fresh="none" in words, added=frozenset(signed["+"]), dropped=frozenset(signed["-"]))


def choose(
    config: RunConfig,
    known: Sequence[Tweak],
    *,
    tuning: str,
    wish: Wish,
    compile_mode_given: bool = False,
    must_apply: bool = False,
) -> RunConfig:
    """Returns the configuration with its tweaks, and those left out with the reason.

    Args:
      config: without tweaks.
      known: the framework's tweaks, in order.
      tuning: ``stock`` or ``tuned``; ``ladder`` (between the two) starts from none.
      wish: changes to the lane.
      compile_mode_given: the user chose the compile mode: no tweak of the lane changes it.
      must_apply: a wanted tweak that can change nothing here is an error, else it is passed over.

    Raises:
      ConfigError: a wanted tweak that cannot be had.
    """
    names: list[str] = []
    left_out: list[tuple[str, str]] = []
    for tweak in known:
        wanted = tweak.name in wish.added
        applies = tweak.applies(config)
        in_lane = tuning == TUNED and not wish.fresh and applies and tweak.pays(config)
        if tweak.name in wish.dropped or not (wanted or in_lane):
            continue
        if not applies:
            if must_apply:
                raise ConfigError(
                    f"tweak '{tweak.name}' changes nothing here; it is for: {tweak.where}"
                )
            continue
        reason = tweak.missing()
        mode = tweak.changes.get("compile_mode")
        if compile_mode_given and mode and (mode != config.compile_mode or not wanted):
            reason = f"compile_mode={config.compile_mode} was asked for"
        if reason is None:
            names.append(tweak.name)
            config = dataclasses.replace(config, **tweak.changes)
        elif wanted:
            raise ConfigError(f"tweak '{tweak.name}' cannot be had: {reason}")
        else:
            left_out.append((tweak.name, reason))
    return dataclasses.replace(
        config,
        tuning=tuning,
        tweaks=tuple(names),
        tweaks_left_out=tuple(left_out),
    )


def environment(
    known: Sequence[Tweak], names: Collection[str], present: Mapping[str, str]
) -> dict[str, str]:
    """Returns what the environment of a run has to hold, for every variable of any tweak.

    What is there and belongs to no tweak stays. What belongs to a tweak that is not in force goes:
    a run started from a tuned shell is stock if it says so. Applied twice it changes nothing.

    Args:
      known: the framework's tweaks.
      names: of those in force.
      present: the environment as it is.

    Raises:
      ConfigError: something that has to be built cannot be.
    """
    wanted: dict[str, str] = {}
    for variable in dict.fromkeys(name for tweak in known for name in tweak.variables):
        marks = [mark for tweak in known for mark in tweak.variables.get(variable, ())]
        parts = [part for part in present.get(variable, "").split(SEPARATOR) if part]
        parts = [part for part in parts if not any(mark in part for mark in marks)]
        for tweak in known:
            if tweak.name in names and variable in tweak.variables:
                parts.append(tweak.environment()[variable])
        if parts or variable in present:
            wanted[variable] = SEPARATOR.join(parts)
    return wanted
