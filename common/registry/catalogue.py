"""Describes, for lists, everything that a user can name: models, strategies, tweaks, ..."""

import re
from pathlib import Path
from typing import Any

from isoscale.common.config.read import MEBIBYTE, read_text
from isoscale.common.registry import lookup
from isoscale.common.tuning.tweaks import Tweak

Facts = dict[str, Any]


def models() -> list[Facts]:
    """Returns the facts about each preset, family by family."""
    found = []
    for family in lookup.families():
        infos = map(lookup.framework_info, lookup.frameworks())
        frameworks = [info.name for info in infos if lookup.has_model_file(info, family)]
        for name in lookup.presets_of([family]):
            preset = lookup.preset(name)
            batch = preset.global_batch_size
            found.append(
                {
                    "name": name,
                    "family": family,
                    "what": lookup.model_summary(family),
                    "frameworks": frameworks,
                    "parameters": preset.spec.parameter_count,
                    "global_batch_size": batch,
                    "flops_per_step": preset.spec.training_flops(global_batch_size=batch),
                    "sizes": {
                        size: getattr(preset.spec, size) for size in preset.spec.size_names()
                    },
                }
            )
    return found


def frameworks() -> list[Facts]:
    """Returns the facts about each framework; imports none of them."""
    found = []
    for info in map(lookup.framework_info, lookup.frameworks()):
        missing = lookup.missing_packages(info)
        found.append(
            {
                "name": info.name,
                "strategies": lookup.strategies(info.name),
                "default_strategy": info.default_strategy,
                "compile_modes": list(info.compile_modes),
                "platforms": list(info.platforms),
                "missing": missing,
                "install": info.install,
            }
        )
    return found


def strategies() -> list[Facts]:
    """Returns the facts about each strategy, framework by framework."""
    found = []
    for framework in lookup.frameworks():
        default = lookup.framework_info(framework).default_strategy
        for name in lookup.strategies(framework):
            info = lookup.strategy_info(framework, name)
            found.append(
                {
                    "name": name,
                    "framework": framework,
                    "what": info.summary,
                    "process_model": info.process_model,
                    "max_devices": info.max_devices,
                    "default": name == default,
                }
            )
    return found


def datasets() -> list[Facts]:
    """Returns the name and the description of each data set."""
    return [
        {"name": name, "what": lookup.first_line(lookup.data_source(name))}
        for name in lookup.data_sources()
    ]


def tweak_facts(tweak: Tweak) -> Facts:
    """Returns the facts about a tweak, and why it is unavailable on this machine."""
    return {
        "name": tweak.name,
        "kind": tweak.kind,
        "what": tweak.what,
        "why": tweak.why,
        "where": tweak.where,
        "needs": tweak.needs,
        "source": tweak.source,
        "supported_by_vendor": not tweak.unsupported,
        "missing": tweak.missing(),
    }


def tweaks() -> list[Facts]:
    """Returns the facts about each tweak, framework by framework, in the order of activation."""
    return [
        {"framework": framework, **tweak_facts(tweak)}
        for framework in lookup.frameworks()
        for tweak in lookup.tweaks(framework)
    ]


_COMMAND = re.compile(r"isoscale ([a-z]+) --flagfile=")


def recipes() -> list[Facts]:
    """Returns the opening lines of each recipe, and the command that runs the recipe."""
    found = []
    for name, path in lookup.recipes().items():
        opening: list[str] = []
        command = "compare"
        for line in read_text(path, most=MEBIBYTE).splitlines():
            match = _COMMAND.search(line)
            if match or not line.startswith("#"):
                command = match[1] if match else command
                break
            opening.append(line.removeprefix("#").strip())
        here = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        found.append(
            {
                "name": name,
                "what": " ".join(opening),
                "command": ["isoscale", command, f"--flagfile={here}"],
            }
        )
    return found
