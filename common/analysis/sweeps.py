"""Finds sweeps: settings that differ in the batch only, or in the size of the model only."""

import dataclasses
import functools
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from isoscale.common.analysis.settings import Setting, shared_fields, unused
from isoscale.common.registry import lookup

PARAMETERS = "parameters"
_BATCH = "global_batch_size"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """One setting of a sweep.

    Attributes:
      size: its place on the axis, above 0.
      model: the model, with the sizes that differ within the sweep.
      setting: the setting.
    """

    size: float
    model: str
    setting: Setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """Settings that differ in one thing, all else equal.

    Attributes:
      title: what all settings share, and the axis; unique within a study.
      slug: the title as a file name; unique within a study.
      axis: what differs: ``global batch``, ``batch per device``, ``parameters``, or the name of a
        size that leaves the number of parameters as it is.
      members: the settings by rising size; no two have the same size.
    """

    title: str
    slug: str
    axis: str
    members: list[Member]


def find_sweeps(settings: Sequence[Setting]) -> list[Sweep]:
    """Returns the sweeps of a study: over the batch for each size, over the size for each batch.

    A sweep over size has the number of parameters as its axis. If the number is unknown, or two
    settings have the same, the axis is the size itself, if one size only differs and has one
    number; otherwise the settings have no order and are no sweep. Settings that differ in several
    sizes form one sweep only where none differ in a single size, as among presets of one family.

    Args:
      settings: the settings of the study; one of strong and one of weak scaling are no sweep.
    """
    # A size that failed in all cells must not hide the others.
    measured = [setting for setting in settings if any(cell.ok for _, cell in setting.cells)]
    listed = [(setting, shared_fields(setting)) for setting in measured]
    found: list[tuple[str, list[tuple[float, Setting]]]] = []
    for group in _alike(listed, lambda fields: {**fields, _BATCH: None}):
        weak = group[0][0].scaling == "weak"
        batch = "batch per device" if weak else "global batch"
        found.append((batch, [(fields[_BATCH], setting) for setting, fields in group]))
    for group in _alike(listed, lambda f: {**f, "model": _family(f["model"]), "overrides": None}):
        found += _over_sizes(group)
    sweeps, titles, slugs = [], set[str](), set[str]()
    for axis, sized in found:
        members = _members(sized)
        title = unused(_title(axis, [member.setting for member in members]), titles)
        slug = re.sub(r"[^A-Za-z0-9.]+", "_", title).strip("_.")[:80]
        slug = unused(f"sweep_{slug}", slugs)
        sweeps.append(Sweep(title=title, slug=slug, axis=axis, members=members))
    return sweeps


_Listed = tuple[Setting, dict[str, Any]]
_Sized = list[tuple[float, Setting]]


def _alike(
    listed: Iterable[_Listed], key: Callable[[dict[str, Any]], dict[str, Any]]
) -> Iterator[list[_Listed]]:
    """Yields the settings with equal keys, where there are at least two."""
    groups: dict[str, list[_Listed]] = defaultdict(list)
    for setting, fields in listed:
        groups[json.dumps(key(fields), sort_keys=True)].append((setting, fields))
    yield from (group for group in groups.values() if len(group) > 1)


def _over_sizes(group: Sequence[_Listed]) -> list[tuple[str, _Sized]]:
    """Returns (axis, settings with their sizes) of each sweep among sizes of one model family."""

    def others(fields: dict[str, Any], name: str) -> dict[str, Any]:
        kept = {n: value for n, value in fields["overrides"].items() if n != name}
        return {"model": fields["model"], "overrides": kept}

    found = []
    for name in dict.fromkeys(n for _, fields in group for n in fields["overrides"]):
        for part in _alike(group, functools.partial(others, name=name)):
            if placed := _placed(part, name):
                found.append(placed)
    whole = None if found else _placed(group, None)
    return [whole] if whole else found


def _placed(group: Sequence[_Listed], name: str | None) -> tuple[str, _Sized] | None:
    """Returns the axis and the size of each setting; None: the settings have no order."""
    axes: list[tuple[str, list[float | None]]] = [
        (PARAMETERS, [_parameters(setting) for setting, _ in group])
    ]
    if name is not None:
        axes.append((name, [_value(fields, name) for _, fields in group]))
    for axis, sizes in axes:
        if _apart(sizes):
            return axis, [(s, setting) for s, (setting, _) in zip(sizes, group, strict=True) if s]
    return None


def _apart(sizes: Sequence[float | None]) -> bool:
    return all(s is not None and s > 0 for s in sizes) and len(set(sizes)) == len(sizes)


def _parameters(setting: Setting) -> float | None:
    """Returns the number of parameters of the model; None: no run recorded it."""
    counts = (line.result.parameters for _, cell in setting.cells for line in cell.ok)
    return next((count for count in counts if count is not None), None)


def _value(fields: Mapping[str, Any], name: str) -> float | None:
    """Returns the value of a size, from the preset if the setting has that; None: no number."""
    preset = lookup.presets().get(fields["model"])
    value = fields["overrides"].get(name, getattr(preset.spec, name, None) if preset else None)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _family(model: str) -> str:
    """Returns the family of a preset; the model itself if it is not known here."""
    preset = lookup.presets().get(model)
    return lookup.family_of(preset.spec) if preset else model


def _shared_parts(settings: Iterable[Setting]) -> list[str]:
    first, *others = (setting.title.split(", ") for setting in settings)
    return [part for part in first if all(part in other for other in others)]


def _title(axis: str, settings: Sequence[Setting]) -> str:
    shared = _shared_parts(settings)
    models = list(dict.fromkeys(setting.title.split(", ")[0] for setting in settings))
    if len(models) > 1:
        shared = [f"{_family(models[0])} models", *shared]
    return f"Over {axis}: {', '.join(shared)}"


def _members(sized: _Sized) -> list[Member]:
    """Returns the settings by rising size, each with the parts of its title that name the model."""
    shared = _shared_parts(setting for _, setting in sized)
    found = []
    for size, setting in sorted(sized, key=lambda entry: entry[0]):
        model, *parts = setting.title.split(", ")
        own = [part for part in parts if "=" in part and part not in shared]
        found.append(Member(size=size, model=" ".join([model, *own]), setting=setting))
    return found
