"""Builds the environment variables of every process that isoscale starts."""

import functools
import os
import sys
from collections.abc import Mapping

from isoscale.common.config.errors import ConfigError, shown
from isoscale.common.config.run_config import RunConfig, handed_on
from isoscale.common.machine import describe, variables
from isoscale.common.processes import ranks
from isoscale.common.registry import lookup
from isoscale.common.tuning import tweaks

_SHELL = dict(os.environ)
"""The environment in which this program started; libraries add variables when they load."""


@functools.cache
def families() -> tuple[str, ...]:
    """Returns how the names of all frameworks' variables begin."""
    infos = map(lookup.framework_info, lookup.frameworks())
    return tuple(sorted({name for info in infos for name in info.variable_families}))


def _inherited(
    present: Mapping[str, str], *, platform: str = "cpu", rank: bool = False
) -> dict[str, str]:
    infos = list(map(lookup.framework_info, lookup.frameworks()))
    found = variables.inherited(
        present,
        families=families(),
        kept=[name for info in infos for name in info.kept_variables],
        platform=platform,
        launcher=[name for info in infos for name in info.launcher_variables] if rank else None,
    )
    if rank:
        return found
    return {name: value for name, value in found.items() if name not in ranks.VARIABLES}


def is_governed(name: str) -> bool:
    """Returns whether isoscale decides about a variable of a run's environment."""
    return variables.governed(name, families())


def of_worker(present: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Returns the environment of a process that is no run."""
    return _inherited(present)


def of_run(
    config: RunConfig, present: Mapping[str, str] = os.environ, *, rank: bool = False
) -> dict[str, str]:
    """Returns the environment in which a run's process starts.

    The run then adds the variables of ``lookup.framework_environment`` itself. A second call with
    the result as ``present`` returns the same variables.

    Args:
      config: the run's configuration.
      present: the environment of the launcher.
      rank: whether ``present`` is the environment of a rank, with the launcher's variables.

    Raises:
      ConfigError: the library of a tweak cannot be built.
    """
    found = _inherited(present, platform=config.platform, rank=rank) | handed_on(config.env)
    known = lookup.tweaks(config.framework)
    return found | tweaks.environment(known, config.tweaks, found)


def removed(
    shell: Mapping[str, str] = _SHELL, *, platform: str = "cpu", rank: bool = False
) -> list[str]:
    """Returns the names of the variables that runs do not get from the user's shell.

    Leaves out those of other programs, which a framework would not read either.
    """
    stays = _inherited(shell, platform=platform, rank=rank)
    infos = map(lookup.framework_info, lookup.frameworks())
    foreign = tuple(name for info in infos for name in info.foreign_variables)
    gone = (name for name in shell if name not in stays and name not in ranks.VARIABLES)
    return sorted(name for name in gone if not name.startswith(foreign))


def removed_line(
    config: RunConfig, shell: Mapping[str, str] = _SHELL, *, rank: bool = False
) -> str | None:
    """Returns the line that names the variables that a run does not get; None without such."""
    names = set(removed(shell, platform=config.platform, rank=rank)) - set(handed_on(config.env))
    return variables.removed_line(sorted(names))


def say_removed(config: RunConfig | None = None, *, rank: bool = False) -> None:
    """Prints the variables that processes do not get: those of a run, or of work without timing."""
    line = removed_line(config, rank=rank) if config else variables.removed_line(removed())
    if line:
        print(line, file=sys.stderr, flush=True)


def recorded() -> dict[str, str]:
    """Returns the variables of this process that the record of a run has, as it shows them."""
    return describe.environment(lookup.environment_variables(), families())


def private_variables() -> list[str]:
    """Returns the variables whose values ``recorded`` does not show as they are."""
    return describe.changed_in_record(lookup.environment_variables(), families())


def check_handed(config: RunConfig) -> None:
    """Checks the variables of ``--env``.

    Raises:
      ConfigError: a variable is unknown, the run sets it itself, or it is part of a tweak.
    """
    info = lookup.framework_info(config.framework)
    handed = variables.parse_handed(config.env, families=families())
    if not handed:
        return
    own = lookup.framework_environment(config.framework, config)
    for name, value in handed.items():
        entry = shown(f"{name}={value}")
        if name in own and name not in info.joined_variables:
            raise ConfigError(f"--env={entry}: a run of {info.name} sets {name} itself")
        for tweak in lookup.tweaks(config.framework):
            if any(mark in value for mark in tweak.variables.get(name, ())):
                raise ConfigError(
                    f"--env={entry}: this is the tweak '{tweak.name}'; type --tweaks=+{tweak.name}"
                )
