"""Tweaks: small, named changes that make a framework faster on a machine, with equal results.

Each framework lists its tweaks in ``frameworks/<name>_runner/tweaks.py`` as ``TWEAKS``, in the
order in which a run switches them on. This file chooses the tweaks of a run: ``--tuning`` names a
lane (``stock``: no tweaks; ``tuned``: the tweaks that a fixed rule chooses), and
``--tweaks=+name,-name`` changes the lane. Settings without which results would be wrong are not
tweaks; they are on in every lane.
"""

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from isoscale.common.config.errors import ConfigError, unknown
from isoscale.common.config.run_config import TUNED, RunConfig

SEPARATOR = ":"  # separates the parts of GLIBC_TUNABLES and of LD_PRELOAD
_SEPARATORS = re.compile(r"[:\s]+")  # LD_PRELOAD may have blanks between its parts


def _no_environment() -> dict[str, str]:
    return {}


def _nothing_missing() -> None:
    return None


def _always_in_effect() -> bool:
    return True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tweak:
    """One tweak.

    Attributes:
      name: the name for ``--tweaks``.
      what: the change that the tweak makes.
      why: the reason for the gain, and the size of the gain if it was measured.
      where: the runs that can use the tweak, in words.
      needs: the tweak's requirements on the machine, in words.
      source: address of the documentation.
      applies: whether the tweak can change a run that already has the chosen earlier tweaks.
      pays: whether the tuned lane includes the tweak, for a run that the tweak applies to.
      missing: returns the requirement that this machine lacks, or None; changes nothing.
      variables: environment variable -> texts that identify the tweak's parts of the value.
      environment: returns environment variable -> parts to set before the process starts; may
        build the library that a part names.
      changes: ``RunConfig`` fields that the tweak sets, with their values.
      in_effect: whether the tweak works; every process of a run calls this function before the
        import of the framework.
      evidence: returns facts about the tweak for the record of a finished run.
      unsupported: whether the vendor of the library does not support the tweak.
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
    in_effect: Callable[[], bool] = _always_in_effect
    evidence: Callable[[], dict[str, Any]] | None = None
    unsupported: bool = False

    @property
    def kind(self) -> str:
        """Returns the kind: ``environment`` (set before start), ``option`` or ``operation``."""
        if self.variables:
            return "environment"
        return "option" if self.changes else "operation"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wish:
    """The parsed value of ``--tweaks``.

    Attributes:
      fresh: whether the run starts without the tweaks of the lane.
      added, dropped: names of tweaks.
    """

    fresh: bool = False
    added: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()


def read_wish(words: Sequence[str], known: Collection[str]) -> Wish:
    """Returns the parsed words of ``--tweaks``.

    Args:
      words: the words, for example ``+xla``.
      known: names of the known tweaks.

    Raises:
      ConfigError: a word has no sign, a name is unknown, or a name has both signs.
    """
    signed: dict[str, set[str]] = {"+": set(), "-": set()}
    for word in words:
        if word == "none":
            continue
        sign, name = word[:1], word[1:]
        if sign not in signed:
            raise ConfigError(
                f"--tweaks={word}: each word must be +name, -name, or 'none' (start without tweaks)"
            )
        if name not in known:
            raise unknown("tweak", name, known)
        signed[sign].add(name)
    both = signed["+"] & signed["-"]
    if both:
        raise ConfigError(f"--tweaks has both +{min(both)} and -{min(both)}; choose one")
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
    """Returns the configuration with its tweaks, and with the left-out tweaks and the reasons.

    Args:
      config: the configuration without tweaks.
      known: the framework's tweaks, in order.
      tuning: ``stock`` or ``tuned``; ``ladder`` (between the two) starts without tweaks.
      wish: the user's changes to the lane.
      compile_mode_given: whether the user chose the compile mode; the lane's tweaks then keep this
        mode.
      must_apply: whether a wanted tweak without effect on this run is an error; otherwise the run
        leaves it out.

    Raises:
      ConfigError: a wanted tweak is unavailable; or, with ``must_apply``, it has no effect.
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
                    f"tweak '{tweak.name}' has no effect on this run; it is for: {tweak.where}"
                )
            continue
        reason = tweak.missing()
        mode = tweak.changes.get("compile_mode")
        if compile_mode_given and mode and (mode != config.compile_mode or not wanted):
            reason = f"the user chose compile_mode={config.compile_mode}"
        if reason is None:
            names.append(tweak.name)
            config = dataclasses.replace(config, **tweak.changes)
        elif wanted:
            raise ConfigError(f"tweak '{tweak.name}' is unavailable: {reason}")
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
    """Returns variable -> value for the environment of a run, for the variables of all tweaks.

    Keeps the parts of a value that belong to no tweak. Removes the parts of tweaks that are not in
    force, so that a stock run is stock even if a tuned shell starts it. A second call with the
    result as ``present`` returns the same values.

    Args:
      known: the framework's tweaks.
      names: names of the tweaks in force.
      present: the current environment.

    Raises:
      ConfigError: the library of a tweak cannot be built.
    """
    wanted: dict[str, str] = {}
    for variable in dict.fromkeys(name for tweak in known for name in tweak.variables):
        marks = [mark for tweak in known for mark in tweak.variables.get(variable, ())]
        parts = [part for part in _SEPARATORS.split(present.get(variable, "")) if part]
        parts = [part for part in parts if not any(mark in part for mark in marks)]
        for tweak in known:
            if tweak.name in names and variable in tweak.variables:
                parts.append(tweak.environment()[variable])
        if parts or variable in present:
            wanted[variable] = SEPARATOR.join(parts)
    return wanted
