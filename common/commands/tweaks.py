"""``isoscale tweaks``: lists tweaks, their reasons, and which are available on this machine."""

import textwrap
from collections.abc import Sequence
from typing import Any

from isoscale.common.commands.list import tweak_title
from isoscale.common.config.errors import require_choice
from isoscale.common.config.flags import Flags
from isoscale.common.config.run_config import TUNED
from isoscale.common.disk.json_files import to_json
from isoscale.common.program.main import define_flags as define_run_flags
from isoscale.common.registry import lookup
from isoscale.common.registry.build_config import build_config
from isoscale.common.registry.catalogue import tweak_facts
from isoscale.common.tuning.tweaks import Tweak

_WIDTH = 100


def define_flags() -> Flags:
    """Returns the flags of the command, with its help page."""
    fv = Flags(
        usage=(
            "Lists the tweaks of each framework, in the order in which --tuning=tuned switches\n"
            "them on, and which of them are available on this machine. Starts no runs and writes\n"
            "no files.\n\n"
            "  isoscale tweaks\n"
            "  isoscale tweaks --frameworks=jax --models=gpt_tiny\n"
            "  isoscale compare --tuning=stock,tuned                   both lanes\n"
            "  isoscale compare --tuning=tuned --tweaks=-huge-pages    tuned without one tweak\n"
            "  isoscale explain NAME                                   the effect of each tweak\n\n"
            f"Frameworks: {', '.join(lookup.frameworks())}\n"
            f"Models:     {', '.join(lookup.presets())}\n"
            f"Families:   {', '.join(lookup.families())} (all sizes of the family)\n\n"
            "Flags marked [list] take values separated by commas. Exit code: 0 done, 2 bad input."
        )
    )
    fv.names("frameworks", None, "[list] frameworks (default: all)")
    fv.names("models", None, "[list] models or families to show the tuned lane of (default: all)")
    fv.boolean("json", False, "print only one JSON document")
    return fv


def _lane(framework: str, model: str, devices: int) -> tuple[str, ...]:
    """Returns the tweaks of a model's tuned lane on this machine.

    The strategy is ``bare`` on one device, and the framework's default strategy on more devices.

    Args:
      framework: name of the framework.
      model: name of a preset.
      devices: device count; lowered to the limit of the default strategy.
    """
    default = lookup.framework_info(framework).default_strategy
    limit = lookup.strategy_info(framework, default).max_devices
    devices = min(devices, limit or devices)
    fv = define_run_flags(framework)
    fv.parse(["--allow_oversubscription"])
    return build_config(
        fv,
        framework=framework,
        strategy=lookup.usual_strategy(framework, devices),
        model=model,
        devices=devices,
        global_batch_size=None,
        dtype="float32",
        compile_mode=None,
        tuning=TUNED,
    ).tweaks


def describe(framework: str, models: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the facts about each tweak of a framework, and why a tweak is unavailable here."""
    lanes = {model: _lane(framework, model, 1) for model in models}
    on_two = {model: _lane(framework, model, 2) for model in models}

    def facts(tweak: Tweak) -> dict[str, Any]:
        return {
            **tweak_facts(tweak),
            "in_tuned_lane_of": [model for model, names in lanes.items() if tweak.name in names],
            "in_tuned_lane_on_two_devices_of": [
                model for model, names in on_two.items() if tweak.name in names
            ],
        }

    return [facts(tweak) for tweak in lookup.tweaks(framework)]


def _text(entry: dict[str, Any]) -> str:
    lines = [f"  {tweak_title(entry)}"]
    one, two = entry["in_tuned_lane_of"], entry["in_tuned_lane_on_two_devices_of"]
    if one == two:
        lane = ", ".join(one) or "no model; --tweaks=+NAME switches it on"
    else:
        lane = f"one device: {', '.join(one) or 'no model'}; two: {', '.join(two) or 'no model'}"
    for title, text in (
        ("what", entry["what"]),
        ("why", entry["why"]),
        ("where", entry["where"]),
        ("needs", entry["needs"]),
        ("source", entry["source"]),
        ("tuned", lane),
    ):
        start = f"    {title:<7} "
        lines += textwrap.wrap(
            text,
            _WIDTH,
            initial_indent=start,
            subsequent_indent=" " * len(start),
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def run(argv: Sequence[str]) -> int:
    """Runs the command.

    Returns:
      The exit code 0: the tweaks are listed.

    Raises:
      ConfigError: bad input.
    """
    fv = define_flags()
    if not fv.parse(argv):
        return 0
    frameworks = fv.frameworks or list(lookup.frameworks())
    for name in frameworks:
        require_choice("framework", name, lookup.frameworks())
    models = lookup.presets_of(fv.models) if fv.models else list(lookup.presets())
    found = {name: describe(name, models) for name in frameworks}
    if fv.json:
        print(to_json(found))
        return 0
    for name, entries in found.items():
        print(f"{name}\n" + "\n\n".join(map(_text, entries)) + "\n")
    return 0
