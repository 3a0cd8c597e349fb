"""The conditions of a study: equal for all runs, or different between runs.

A reader who doubts a comparison finds the possible reasons here.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from isoscale.common.analysis import pooling
from isoscale.common.analysis.scaling import CellSummary
from isoscale.common.config.cell import Cell
from isoscale.common.config.counts import counted
from isoscale.common.config.records import to_record
from isoscale.common.machine.own_version import own_version
from isoscale.common.processes import ranks
from isoscale.common.report.study import turns
from isoscale.common.report.words import SAME_CONFIGURATION
from isoscale.common.study.records import ResultLine, Scalings

UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conditions:
    """The conditions of a study.

    Attributes:
      facts: (name, value); a value lists all variants if runs differ.
      warnings: conditions that make the comparison less fair.
    """

    facts: list[tuple[str, str]]
    warnings: list[str]

    @property
    def machine(self) -> str:
        return dict(self.facts)["Machine"]

    def lines(self) -> list[str]:
        """Returns the conditions as plain text, one fact per line."""
        return [f"{name}: {value}" for name, value in self.facts] + [
            f"! {warning}" for warning in self.warnings
        ]


_SCALINGS = {
    "strong": "strong: the global batch stays the same on more devices",
    "weak": "weak: the batch per device stays the same on more devices",
}


def _joined(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values)) or UNKNOWN


def _of(cells: Sequence[Cell], name: str) -> str:
    return _joined(getattr(cell, name) for cell in cells)


def _processor(machine: dict[str, Any]) -> str:
    return f"{machine['cpu_model']}, {counted(len(machine['available_cores']), 'core')}"


_TOLD_APART_BY: tuple[tuple[str, ...], ...] = (
    (),
    ("model",),
    ("model", "strategy"),
    ("model", "strategy", "devices"),
)


def _tuning(summaries: Sequence[CellSummary]) -> list[str]:
    """Returns each lane, with its active tweaks if any framework has some."""
    found = []
    for lane in sorted({summary.cell.tuning for summary in summaries}):
        members = [summary for summary in summaries if summary.cell.tuning == lane]
        if all(summary.shared for summary in members):
            found.append(f"{lane}: {SAME_CONFIGURATION} as stock")
        elif any(summary.cell.tweaks for summary in members):
            frameworks = sorted({summary.cell.framework for summary in members})
            texts = [text for name in frameworks for text in _tweaks(name, members)]
            found.append(f"{lane}: {'; '.join(texts)}")
        else:
            found.append(lane)
    return found


def _tweaks(framework: str, summaries: Sequence[CellSummary]) -> list[str]:
    """Returns a framework's tweaks in one lane, for each model, strategy, ... if these differ."""
    found: dict[str, dict[str, None]] = {}
    for names in _TOLD_APART_BY:
        found = {}
        for summary in summaries:
            cell = summary.cell
            if cell.framework == framework:
                where = " ".join(str(getattr(cell, name)) for name in names)
                text = ", ".join(cell.tweaks) or "none"
                text += f", {SAME_CONFIGURATION} as stock" if summary.shared else ""
                found.setdefault(where, {})[text] = None
        if all(len(texts) == 1 for texts in found.values()):
            break
    return [
        f"{framework} {text}" + (f" ({where})" if where else "")
        for where, texts in found.items()
        for text in texts
    ]


def _environment(lines: Sequence[ResultLine]) -> list[str]:
    """Returns the environment variables of each framework's runs, with all their values."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for line in lines:
        if line.result.environment is None:  # of a version that did not record it
            continue
        values = found.setdefault(line.cell.framework, {})
        for name, value in line.result.environment.items():
            if name not in ranks.VARIABLES:
                values.setdefault(name, {})[value] = None
    return [
        f"{framework} "
        + (", ".join(f"{name}={' | '.join(v)!r}" for name, v in sorted(values.items())) or "none")
        for framework, values in sorted(found.items())
    ]


def make_conditions(
    summaries: Sequence[CellSummary],
    machines: Sequence[dict[str, Any]],
    *,
    scaling: Scalings,
    framework_facts: Mapping[str, Mapping[str, Any]] | None = None,
    left_out: Sequence[str] = (),
) -> Conditions:
    """Returns the conditions under which the cells were measured.

    Args:
      summaries: the cells.
      machines: of the study's sessions, in order.
      scaling: that of the study.
      framework_facts: framework -> the settings that a run of the framework reported.
      left_out: tweaks that the tuned lane could not use, each with the reason.
    """
    cells = [summary.cell for summary in summaries]
    ok = [line for summary in summaries for line in summary.ok]
    versions: dict[str, dict[str, None]] = {}
    programs = dict.fromkeys(line.result.isoscale for line in ok)
    for line in ok:
        for name, version in (line.result.versions or {}).items():
            versions.setdefault(name, {})[version] = None
    processors = [_processor(machine) for machine in machines]
    graphics = [gpu["name"] for machine in machines for gpu in machine["gpus"]]
    processes = [
        f"{cell.framework} {cell.strategy} "
        + ("one per device" if cell.processes > 1 else "one for all devices")
        for cell in cells
        if cell.devices > 1 and not cell.independent
    ]
    optimizers = [
        " ".join(f"{name}={value}" for name, value in to_record(cell.optimizer).items())
        for cell in cells
    ]
    facts = [
        ("Machine", _joined([*processors, *graphics])),
        ("Memory", _joined(_gib(machine.get("memory_bytes")) for machine in machines)),
        (
            "Operating system",
            _joined(machine.get("operating_system", UNKNOWN) for machine in machines),
        ),
        ("isoscale", _program(programs)),
        (
            "Versions",
            "; ".join(f"{name} {_joined(found)}" for name, found in versions.items()) or UNKNOWN,
        ),
        ("Devices", "; ".join(_devices(cells)) or UNKNOWN),
        ("Link", _joined(_link(machine, cells) for machine in machines)),
        ("Processes", _joined(processes) if processes else "one (single-device runs)"),
        (
            "Compiled",
            _joined(f"{cell.framework} {cell.compile_mode}" for cell in cells),
        ),
        ("Tuning", "; ".join(_tuning(summaries)) or UNKNOWN),
        *([("Environment", "; ".join(environment))] if (environment := _environment(ok)) else []),
        ("dtype", _joined(cell.dtype + _tf32(cell) for cell in cells)),
        ("Optimizer", _joined(optimizers)),
        ("Data", f"{_of(cells, 'dataset')}; input pipeline: {_of(cells, 'input_pipeline')}"),
        ("Scaling", "; ".join(text for kind, text in _SCALINGS.items() if kind in scaling)),
    ]
    facts += [
        (f"Reported by {name}", ", ".join(f"{key} {_plain(value)}" for key, value in said.items()))
        for name, said in (framework_facts or {}).items()
    ]
    warnings = turns.warnings(ok)
    warnings += [f"Left out of the tuned lane: {t}." for t in left_out]
    mixed = [name for name, found in versions.items() if len(found) > 1]
    mixed += ["isoscale"] if len(programs) > 1 else []
    if mixed:
        warnings.append(
            f"The study has runs with different versions of {', '.join(mixed)}; a comparison of "
            "such runs of one framework has no verdict."
        )
    different = pooling.machine_differences(ok)
    if different or len(set(processors)) > 1:
        what = f" ({', '.join(different)})" if different else ""
        warnings.append(
            f"The study has runs from different machines{what}; a comparison of such runs has no "
            "verdict."
        )
    kinds = {cell.processes > 1 for cell in cells if cell.devices > 1 and not cell.independent}
    if len(kinds) > 1:
        warnings.append(
            "Two process models are compared: one process per device, and one process that drives "
            "all devices. Each strategy uses its natural process model."
        )
    return Conditions(facts=facts, warnings=warnings)


def _program(recorded: Iterable[str | None]) -> str:
    """Returns which isoscale measured, and which one writes the report if that is another one."""
    measured = _joined(text or UNKNOWN for text in recorded)
    here = own_version()
    return measured if measured == here else f"measured by {measured}; report by {here}"


def _tf32(cell: Cell) -> str:
    """Returns how products are computed, where the dtype alone does not say so."""
    if cell.platform != "gpu" or cell.dtype != "float32":
        return ""
    return " (products in TF32)" if cell.tf32 else " (no TF32)"


def _devices(cells: Sequence[Cell]) -> list[str]:
    """Returns what a device is, for each platform of the cells."""
    found = []
    for platform in dict.fromkeys(cell.platform for cell in cells):
        if platform == "cpu":
            threads = _of([cell for cell in cells if cell.platform == "cpu"], "threads_per_device")
            plural = "" if threads == "1" else "s"
            found.append(
                f"cpu; each CPU device has {threads} core{plural} and as many threads; each "
                "process is pinned before it imports the framework"
            )
        else:
            found.append(
                f"{platform}; each device is one {platform.upper()}; processes are not pinned to "
                "CPU cores"
            )
    return found


def _link(machine: dict[str, Any], cells: Sequence[Cell]) -> str:
    if all(cell.platform == "cpu" for cell in cells):
        return "CPU devices of one machine: shared memory, and loopback between processes"
    return machine.get("gpu_links") or UNKNOWN


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _gib(size: int | None) -> str:
    return UNKNOWN if size is None else f"{size / 2**30:.1f} GiB"
