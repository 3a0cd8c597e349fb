"""Groups cells that may be compared into settings, and names settings and series."""

import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from isoscale.common.analysis.scaling import CellSummary, Scaling, batch_of
from isoscale.common.config.cell import Cell
from isoscale.common.study.records import BOTH, Scalings

# Fields that must be equal for two cells to be compared; the other fields distinguish cells.
_EQUAL = (
    "model",
    "overrides",
    "global_batch_size",
    "gradient_accumulation_steps",
    "dtype",
    "tf32",
    "dataset",
    "platform",
    "optimizer",
    "threads_per_device",
    "input_pipeline",
    "tuning",
    "scenario",
    "env",
)
_ALWAYS_NAMED = ("model", "overrides", "global_batch_size", "dtype")
_BY_DEVICES = ("processes", "mesh", "oversubscribed")
# Fields that a lane may choose for each device count.
_BY_LANE = ("compile_mode", "steps_per_dispatch", "tweaks")
# Fields with values that are unclear without the field's name.
_NAMED_BY = (*_BY_DEVICES, "steps_per_dispatch")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """Cells that train the same model in the same way, in different frameworks and strategies.

    Attributes:
      title: the common fields as text for readers; unique within a study.
      slug: the title as a file name; unique within a study.
      series: framework, strategy and further distinguishing values -> cells by device count.
      independent: the independent cells (``RunConfig.independent``), which are base cases: they say
        what the devices do without communication, and are no way to train a model.
      scaling: whether its cells share the global batch, or the batch of a device.
    """

    title: str
    slug: str
    series: dict[str, list[CellSummary]]
    independent: list[CellSummary] = dataclasses.field(default_factory=list)
    scaling: Scaling = "strong"

    @property
    def cells(self) -> list[tuple[str, CellSummary]]:
        """(name, cell) of all cells, by series and device count; without the independent ones."""
        return [
            (cell_name(name, cell.cell.devices), cell)
            for name, cells in self.series.items()
            for cell in cells
        ]

    @property
    def all_cells(self) -> list[tuple[str, CellSummary]]:
        """(name, cell) of ``cells``, then of ``base_cases``."""
        return [*self.cells, *self.base_cases]

    @property
    def base_cases(self) -> list[tuple[str, CellSummary]]:
        """(name, cell) of the independent cells."""
        return [(independent_name(cell.cell), cell) for cell in self.independent]


def cell_name(series: str, devices: int) -> str:
    """Returns the name of a cell within its setting, for example ``torch ddp on 2 devices``."""
    return f"{series} on {devices} device{'s' if devices > 1 else ''}"


def independent_name(cell: Cell) -> str:
    """Returns the name of an independent cell within its setting."""
    return (
        f"{cell.framework} {cell.strategy}, {cell.independent} of {cell.devices} devices "
        "independent"
    )


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={_text(entry)}" for name, entry in value.items())
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _varying(cells: Iterable[dict[str, Any]], names: Iterable[str]) -> list[str]:
    listed = list(cells)
    return [
        name
        for name in names
        if len({json.dumps(cell.get(name), sort_keys=True) for cell in listed}) > 1
    ]


def split_into_settings(
    summaries: Sequence[CellSummary], *, scaling: Scalings, across_lanes: bool = False
) -> list[Setting]:
    """Returns the settings of a study, each with its series, in order of first appearance.

    With weak scaling, the cells of a setting share the batch size per device.

    Args:
      summaries: the cells.
      scaling: that of the study; with both, a setting has one of them, which its title names.
      across_lanes: whether one setting may hold cells of several lanes.
    """
    cells = [summary.cell.to_record() for summary in summaries]
    equal = [name for name in _EQUAL if not (across_lanes and name == "tuning")]
    named = _varying(cells, [name for name in equal if name not in _ALWAYS_NAMED])
    swept = _swept(summaries)
    groups: dict[str, list[CellSummary]] = {}
    alone: dict[str, list[CellSummary]] = {}
    for summary in summaries:
        record = summary.cell.to_record()
        common = {name: record.get(name) for name in equal} | {
            "global_batch_size": batch_of(summary.cell, summary.scaling),
            "scaling": summary.scaling,
        }
        kind = alone if summary.cell.independent else groups
        kind.setdefault(json.dumps(common, sort_keys=True), []).append(summary)
    settings: list[Setting] = []
    titles: set[str] = set()
    slugs: set[str] = set()
    for key, group in groups.items():
        told = scaling == BOTH and any(summary.cell.devices > 1 for summary in group)
        title = unused(_title(group[0], named, swept, told=told), titles)
        slug = re.sub(r"[^A-Za-z0-9.]+", "_", title).strip("_.")[:80]
        series = _series(group, equal)
        settings.append(
            Setting(
                title=title,
                slug=unused(slug, slugs),
                series=series,
                independent=alone.get(key, []),
                scaling=group[0].scaling,
            )
        )
    return settings


def _swept(summaries: Sequence[CellSummary]) -> dict[str, list[str]]:
    """Returns model -> the sizes that some of its cells set and others take from the preset."""
    found: dict[str, dict[str, None]] = {}
    for summary in summaries:
        found.setdefault(summary.cell.model, {}).update(dict.fromkeys(summary.cell.overrides))
    return {model: list(names) for model, names in found.items()}


def unused(name: str, used: set[str]) -> str:
    """Returns an unused name (the given one, or with a number) and adds the result to ``used``."""
    found, count = name, 1
    while found in used:
        count += 1
        found = f"{name}_{count}"
    used.add(found)
    return found


def _title(
    summary: CellSummary, named: list[str], swept: dict[str, list[str]], *, told: bool
) -> str:
    """Returns the title of the setting of a cell.

    Args:
      summary: the cell.
      named: further fields to name.
      swept: model -> sizes to name; a cell that does not set one has that of the preset.
      told: whether to name the scaling.
    """
    cell, scaling = summary.cell, summary.scaling
    overrides = [
        f"{name}={_text(cell.overrides.get(name, 'preset'))}" for name in sorted(swept[cell.model])
    ]
    batch = (
        f"{'batch per device' if scaling == 'weak' else 'global batch'} {batch_of(cell, scaling)}"
    )
    overrides += [f"{scaling} scaling"] if told else []
    accumulated = "gradient_accumulation_steps"
    if cell.gradient_accumulation_steps > 1 and accumulated not in named:
        named = [accumulated, *named]  # rare: the title names it even if all cells share it
    values = {accumulated: 1, **cell.to_record()}  # the record omits it when it is 1
    extra = [f"{name} {_text(values.get(name))}" for name in named]
    return ", ".join([cell.model, *overrides, batch, cell.dtype, *extra])


def _series(group: Sequence[CellSummary], equal: Sequence[str]) -> dict[str, list[CellSummary]]:
    by_pair: dict[str, list[CellSummary]] = {}
    for summary in group:
        pair = f"{summary.cell.framework} {summary.cell.strategy}"
        by_pair.setdefault(pair, []).append(summary)
    series: dict[str, list[CellSummary]] = {}
    for pair in sorted(by_pair):
        cells = [summary.cell.to_record() for summary in by_pair[pair]]
        known = (*equal, *_BY_DEVICES, *_BY_LANE, "framework", "strategy", "devices")
        names = dict.fromkeys(name for cell in cells for name in cell)
        varying = _varying(cells, [name for name in names if name not in known])
        # Fields that depend on the device count or the lane enter a name only if cells with the
        # same device count differ in them.
        for devices in {cell["devices"] for cell in cells}:
            alike = [cell for cell in cells if cell["devices"] == devices]
            varying += [n for n in _varying(alike, (*_BY_DEVICES, *_BY_LANE)) if n not in varying]
        for summary in by_pair[pair]:
            extra = "".join(
                f" {name}={_text(value)}" if name in _NAMED_BY else f" {_text(value)}"
                for name in varying
                if (value := summary.cell.to_record().get(name)) is not None
            )
            series.setdefault(pair + extra, []).append(summary)
    for cells_of in series.values():
        cells_of.sort(key=lambda summary: summary.cell.devices)
    return series


def shared_fields(setting: Setting) -> dict[str, Any]:
    """Returns field -> value of what all cells of a setting share, as in a cell's record.

    ``scaling`` is that of the setting; if weak, ``global_batch_size`` is that of one device.
    """
    (_, first), *_ = setting.cells
    record = first.cell.to_record()
    shared = {name: record.get(name) for name in _EQUAL}
    batch = batch_of(first.cell, setting.scaling)
    return shared | {"global_batch_size": batch, "scaling": setting.scaling}
