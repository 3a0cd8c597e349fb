"""Asks frameworks which GPUs they see, each in its own interpreter, before a run is planned."""

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from isoscale.common.config.counts import counted
from isoscale.common.config.errors import ConfigError, shown
from isoscale.common.config.run_config import RunConfig
from isoscale.common.machine import system
from isoscale.common.machine.describe import UNKNOWN
from isoscale.common.machine.visible_gpus import VISIBLE
from isoscale.common.program.ask import ask
from isoscale.common.registry import environments, lookup
from isoscale.common.registry.build_config import known_gpus

_SECONDS = 180
"""Longest time without an answer: on a machine with many GPUs, CUDA starts slowly."""


def check_gpus(pythons: Mapping[str, str], configs: Iterable[RunConfig]) -> None:
    """Checks that each framework sees the GPUs that runs need; writes nothing.

    Args:
      pythons: framework -> interpreter of its runs. Other frameworks are not asked.
      configs: configurations of the runs; those on other platforms do not count.

    Raises:
      ConfigError: a framework sees too few GPUs. The message says why.
    """
    largest: dict[str, RunConfig] = {}
    for config in configs:
        if config.platform == "gpu" and config.framework in pythons:
            found = largest.setdefault(config.framework, config)
            if config.devices_here > found.devices_here:
                largest[config.framework] = config
    if not largest:
        return
    if sys.stderr.isatty():
        print(f"isoscale: asking {', '.join(largest)} for GPUs ...", file=sys.stderr)
    answers = _ask({name: (pythons[name], config) for name, config in largest.items()})
    reasons = {
        name: reason
        for name, config in largest.items()
        if (reason := _reason(answers[name], config, python=pythons[name])) is not None
    }
    if reasons:
        first, *others = reasons
        also = f"; nor can {', '.join(others)}" if others else ""
        raise ConfigError(f"{first} cannot run on platform=gpu: {reasons[first]}{also}")


def _ask(frameworks: Mapping[str, tuple[str, RunConfig]]) -> dict[str, dict[str, Any]]:
    """Returns framework -> what its examination found, or its ``error``.

    Asks one after the other: a GPU in the mode ``EXCLUSIVE_PROCESS`` refuses a second process.
    """
    return {
        name: ask(
            python,
            name,
            "--platform=gpu",
            "--noproduct",
            environment=environments.of_run(config),
            seconds=_SECONDS,
        )
        for name, (python, config) in frameworks.items()
    }


def _reason(answer: dict[str, Any], config: RunConfig, *, python: str) -> str | None:
    """Returns why a framework cannot use the GPUs of a run; None: it can."""
    if "error" in answer:
        return str(answer["error"])
    devices = answer["devices"]
    if devices == UNKNOWN or len(devices) >= config.devices_here:
        return None
    info, here, build = lookup.framework_info(config.framework), known_gpus(), answer["build"]
    sees = f"it sees {len(devices)} of {counted(config.devices_here, 'GPU')}"
    if str(build).startswith("CPU only"):
        install = f": {python} -m {info.install_gpu}" if info.install_gpu else ""
        return f"its build is {build}{install}"
    if here.parts:
        return (
            f"{sees}; CUDA shows a process one MIG device ({here.words}): choose devices=1, or "
            "switch MIG off"
        )
    if not devices and _too_old(answer["cuda"]):
        return f"it needs CUDA {answer['cuda']}; the driver supports {system.cuda_of_driver()}"
    hidden = os.environ.get(VISIBLE)
    if hidden is not None and here.listed >= config.devices_here:
        return f"{sees}; {VISIBLE}={shown(hidden)!r} hides others: unset it, or name more GPUs"
    if not devices and here.listed and not answer["cuda_packages"] and info.install_gpu:
        return (
            f"it finds no GPU (build: {build}), and {python} has no CUDA libraries: "
            f"{python} -m {info.install_gpu}"
        )
    why = f"build: {build}" + (f"; {answer['gpu_error']}" if answer.get("gpu_error") else "")
    return f"{sees} ({why}; {here.words})"


def _too_old(cuda: Any) -> bool:
    """Returns whether the driver is too old for a version of CUDA; False if that is unknown."""
    newest = system.cuda_of_driver()
    if newest == UNKNOWN or not isinstance(cuda, str) or not cuda[:1].isdigit():
        return False
    return int(cuda.split(".")[0]) > int(newest.split(".")[0])
