"""Builds a validated ``RunConfig`` from flags and facts of models, frameworks and strategies."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from isoscale.common.config.errors import ConfigError, require_choice, require_whole
from isoscale.common.config.flags import Flags
from isoscale.common.config.framework_info import StrategyInfo
from isoscale.common.config.mesh import AXES, Mesh
from isoscale.common.config.model_spec import ModelSpec
from isoscale.common.config.run_config import (
    MOST_DEVICES,
    PLATFORMS,
    STOCK,
    TUNINGS,
    RunConfig,
)
from isoscale.common.config.setting_flags import given_sizes, read_overrides, read_settings
from isoscale.common.machine.control_groups import cpu_quota
from isoscale.common.machine.cores import available_cores
from isoscale.common.machine.visible_gpus import Gpus, look
from isoscale.common.registry import lookup
from isoscale.common.registry.environments import check_handed
from isoscale.common.tuning.tweaks import choose, read_wish


@functools.cache
def known_gpus() -> Gpus:
    """Returns the GPUs of this machine; asks nvidia-smi once."""
    return look()


@functools.lru_cache(maxsize=64)
def _spec(model: str, overrides: tuple[tuple[str, Any], ...]) -> ModelSpec:
    """Returns a preset's specification with overrides; one for all cells, which have it counted."""
    return lookup.preset(model).spec.with_overrides(dict(overrides))


def check_devices(platform: str, devices: int) -> None:
    """Raises ConfigError for more devices than allowed, or more GPUs than a process can use here.

    Frameworks may see fewer GPUs: ``common/program/gpus.py`` asks them. TPUs are not counted here:
    only their runtime can count them.
    """
    require_choice("platform", platform, PLATFORMS)
    require_whole("devices", devices, maximum=MOST_DEVICES)
    if platform == "gpu" and devices > known_gpus().usable:
        raise ConfigError(f"devices={devices} on platform=gpu: {known_gpus().words}")


@functools.cache
def known_quota() -> float | None:
    """Returns the CPU limit of the control groups; None without a limit, or if it is unknown."""
    quota = cpu_quota()
    return quota if isinstance(quota, float) else None


def default_devices(platform: str, *, threads_per_device: int) -> list[int]:
    """Returns the device counts of a study that names none: 1, and 2 on two devices or more."""
    if platform == "gpu":
        found = known_gpus()
        # CUDA shows a process one MIG device; without nvidia-smi, one GPU is all that is sure.
        usable: float = 1 if found.parts or found.usable == math.inf else found.usable
    elif platform == "cpu":
        usable = min(len(available_cores()), known_quota() or math.inf) / threads_per_device
    else:
        usable = math.inf  # only the runtime of TPUs can count them
    return [1, 2] if usable >= 2 else [1]


def check_mesh(mesh: Mesh, info: StrategyInfo, *, strategy: str) -> None:
    """Checks that a strategy uses every axis of a mesh that is longer than 1.

    Raises:
      ConfigError: the strategy does not use one of these axes.
    """
    for axis in AXES:
        size = getattr(mesh, axis)
        if size > 1 and axis not in info.mesh_axes:
            allowed = ", ".join(info.mesh_axes) or "no axis"
            raise ConfigError(f"mesh axis {axis}={size}: strategy '{strategy}' uses {allowed}")


def default_window_steps(steps: int) -> int:
    """Returns a tenth of the steps, at least 5 (or all): shorter windows would measure latency."""
    return min(steps, max(5, steps // 10))


def default_latency_steps(steps: int) -> int:
    """Returns a fifth of the steps, between 1 and 50."""
    return min(50, max(1, steps // 5))


def build_config(
    fv: Flags,
    *,
    framework: str,
    strategy: str,
    model: str,
    devices: int,
    global_batch_size: int | None,
    dtype: str,
    compile_mode: str | None,
    sizes: Mapping[str, Any] | None = None,
    tuning: str = STOCK,
    tweaks: Sequence[str] | None = None,
    tweaks_must_apply: bool = False,
    seed: int | None = None,
    local_devices: int | None = None,
    independent: int = 0,
) -> RunConfig:
    """Returns the configuration of one run.

    Args:
      fv: values of the flags of ``define_training_flags`` and ``define_size_flags``.
      framework, strategy, model, devices, dtype: fields of the cell.
      global_batch_size: None: the model's default.
      compile_mode: None: the framework's default.
      sizes: size -> value, of the sizes that replace those of the preset; None: from their flags.
      tuning: the lane.
      tweaks: changes to the lane; None: ``--tweaks``.
      tweaks_must_apply: whether a tweak without effect on this run is an error.
      seed: None: ``--seed``.
      local_devices: number of the devices on this machine; None: all.
      independent: as in ``RunConfig``; the tweaks are those of one device.

    Raises:
      ConfigError: the run is not possible; nothing was written or started.
    """
    if independent:
        batch = global_batch_size or lookup.preset(model).global_batch_size
        one = build_config(
            fv,
            framework=framework,
            strategy=strategy,
            model=model,
            devices=1,
            sizes=sizes,
            global_batch_size=max(1, batch // max(1, devices)),
            dtype=dtype,
            compile_mode=compile_mode,
            tuning=tuning,
            tweaks=tweaks,
            tweaks_must_apply=tweaks_must_apply,
            seed=seed,
        )
        check_devices(fv.platform, devices)
        return dataclasses.replace(
            one,
            devices=devices,
            global_batch_size=batch,
            independent=independent,
            process_model="per_device",
        )
    info = lookup.framework_info(framework)
    strategy_info = lookup.strategy_info(framework, strategy)
    preset = lookup.preset(model)
    given = given_sizes(fv, lookup.size_fields()) if sizes is None else sizes
    overrides = read_overrides(given, model=model, spec=preset.spec)
    spec = _spec(model, overrides)
    lookup.require_model_file(info, spec)
    batch = global_batch_size or preset.global_batch_size
    lookup.require_data_packages(fv.dataset)
    lookup.data_source(fv.dataset).check(spec, global_batch_size=batch)
    if strategy_info.max_devices is not None and devices > strategy_info.max_devices:
        raise ConfigError(
            f"devices={devices}: strategy '{strategy}' of {framework} allows at most "
            f"{strategy_info.max_devices}; choose fewer devices or another strategy"
        )
    require_whole("devices", devices, maximum=MOST_DEVICES)
    check_devices(fv.platform, devices if local_devices is None else local_devices)
    require_choice(f"platform of {framework}", fv.platform, info.platforms)
    if compile_mode is not None:
        require_choice(f"compile_mode of {framework}", compile_mode, info.compile_modes)
    require_choice("tuning", tuning, TUNINGS)
    known = lookup.tweaks(framework)
    names = {tweak.name for tweak in known} if tweaks_must_apply else lookup.tweak_names()
    wish = read_wish(fv.tweaks if tweaks is None else tweaks, names)
    settings = read_settings(fv)
    del settings["tweaks"]  # ``choose`` sets them
    steps = settings["steps"] or preset.steps
    settings["steps"] = steps
    settings["window_steps"] = settings["window_steps"] or default_window_steps(steps)
    if settings["latency_steps"] is None:
        settings["latency_steps"] = default_latency_steps(steps)
    if seed is not None:
        settings["seed"] = seed
    config = RunConfig(
        framework=framework,
        strategy=strategy,
        model=model,
        spec=spec,
        overrides=overrides,
        devices=devices,
        local_devices=local_devices,
        process_model=strategy_info.process_model,
        global_batch_size=batch,
        dtype=dtype,
        compile_mode=compile_mode or info.compile_modes[0],
        available_cores=len(available_cores()),
        cpu_quota=known_quota(),
        **settings,
    )
    check_mesh(config.mesh, strategy_info, strategy=strategy)
    check_handed(config)
    return choose(
        config,
        known,
        tuning=tuning,
        wish=wish,
        compile_mode_given=compile_mode is not None,
        must_apply=tweaks_must_apply,
    )


def plain_config(
    *,
    framework: str,
    strategy: str,
    model: str,
    spec: ModelSpec,
    devices: int,
    global_batch_size: int,
    steps: int,
    **settings: Any,
) -> RunConfig:
    """Returns a configuration without tweaks; settings that are not given have their defaults.

    Args:
      framework, strategy, model, spec, devices, global_batch_size: fields of the run.
      steps: number of measured steps; all are in one window.
      **settings: fields of ``RunConfig`` that differ from their defaults.

    Raises:
      ConfigError: the configuration is not valid.
    """
    if "process_model" not in settings:
        settings["process_model"] = lookup.strategy_info(framework, strategy).process_model
    return RunConfig(
        framework=framework,
        strategy=strategy,
        model=model,
        spec=spec,
        devices=devices,
        global_batch_size=global_batch_size,
        compile_mode=lookup.framework_info(framework).compile_modes[0],
        steps=steps,
        window_steps=steps,
        latency_steps=0,
        available_cores=len(available_cores()),
        cpu_quota=known_quota(),
        **settings,
    )
