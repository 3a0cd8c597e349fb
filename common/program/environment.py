"""Gives the program of a run the run's environment, also if a user starts it by hand."""

import os
import sys

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.run_config import RunConfig
from isoscale.common.machine.variables import EARLY
from isoscale.common.processes import launch
from isoscale.common.registry import environments, lookup

_STARTED_AGAIN = "ISOSCALE_STARTED_AGAIN"


def ensure_environment(
    config: RunConfig, argv: list[str], *, rank: int | None, launched: bool
) -> None:
    """Restarts this program in the same process if its environment is not that of the run.

    The dynamic linker, the C library and Python read their variables before this program starts.
    Python's own start-up (``sitecustomize``) may set variables, also after the restart; frameworks
    have not read these yet.

    Raises:
      ConfigError: a variable that is read earlier has another value after the restart.
    """
    again = os.environ.pop(_STARTED_AGAIN, None)
    needed = environments.of_run(config, rank=rank is not None)
    different = [
        name
        for name in {**needed, **os.environ}
        if needed.get(name) != os.environ.get(name) and environments.is_governed(name)
    ]
    if again:
        early = sorted(name for name in different if name.startswith(EARLY))
        if early:
            raise ConfigError(
                f"the start-up of {sys.executable} sets {early[0]} (sitecustomize, ...), and the "
                "run must not get this value: remove the setting"
            )
        for name in different:
            os.environ.pop(name, None)
        os.environ.update(needed)
    elif different:
        if not rank:  # the first rank speaks for all
            environments.say_removed(config, rank=rank is not None)
        command = launch.module_command(sys.executable, lookup.program(config.framework), *argv)
        launch.restart(command, environment={**needed, _STARTED_AGAIN: "1"}, launched=launched)
