"""How a study interleaves its cells: window by window in living processes, or run by run."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from isoscale.common.config.errors import ConfigError, require_choice
from isoscale.common.config.flags import Flags
from isoscale.common.config.run_config import RunConfig
from isoscale.common.machine.system import memory
from isoscale.common.study.plan import group_key
from isoscale.common.study.records import BOTH

Mode = Literal["windows", "runs"]
AUTO = "auto"
WINDOWS: Mode = "windows"
RUNS: Mode = "runs"
CHOICES = (AUTO, WINDOWS, RUNS)
HELP = (
    "windows: the runs of a setting live together and take turns, window by window; drift of the "
    "machine then cancels in every ratio. runs: each run is alone, one after the other. auto: "
    "windows where the processes of a setting fit into memory together, unless --steps or another "
    "flag counts the steps of a run"
)
DEFAULT_ROUNDS = 10
STEP_FLAGS = ("steps", "window_steps", "warmup_steps", "latency_steps")
_NO_MEANING = ("steps", "window_steps")
"""Those that have no meaning for runs whose windows go by time."""
MIN_SECONDS = 0.3
"""Least seconds of a window, without --min_seconds, of runs that take turns."""
_PROCESS_BYTES = 700 * 2**20
"""Memory of a process before it builds a model: TensorFlow needs most, 0.6 GiB."""
_COPIES = 8
"""Parameters, gradients and two moments, each twice while a step replaces them."""
_FREE_SHARE = 0.8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interleave:
    """The decision.

    Attributes:
      mode: ``windows`` or ``runs``.
      reason: why, in one sentence.
    """

    mode: Mode
    reason: str


def decide(
    wanted: str, cells: Sequence[RunConfig], *, scaling: str, by_steps: bool = False
) -> Interleave:
    """Returns how the cells are interleaved.

    Args:
      wanted: ``auto``, ``windows`` or ``runs``.
      cells: all cells of the study.
      scaling: as for ``plan.group_key``.
      by_steps: whether the user chose the steps of a run or of its windows.

    Raises:
      ConfigError: ``wanted`` is unknown.
    """
    require_choice("interleave", wanted, CHOICES)
    groups: dict[tuple[str, int], list[RunConfig]] = {}
    for cell in cells:
        groups.setdefault(group_key(cell.cell(), scaling=scaling), []).append(cell)
    most = max(len(group) for group in groups.values())
    if wanted != AUTO:
        mode = WINDOWS if wanted == WINDOWS else RUNS
        return Interleave(mode=mode, reason=f"--interleave={wanted}")
    if by_steps:
        return Interleave(mode=RUNS, reason="the steps of a run are given; windows go by steps")
    if most == 1:
        return Interleave(mode=RUNS, reason="no two cells can be compared")
    if any(cell.platform != "cpu" for cell in cells):
        return Interleave(
            mode=RUNS, reason="the memory that living processes need on an accelerator is unknown"
        )
    needed = max(sum(map(bytes_of, group)) for group in groups.values())
    whole = "both scalings" if scaling == BOTH else "a setting"
    free = memory()["available_bytes"]
    sizes = (
        f"the {most} runs of {whole} need about {needed / 2**30:.1f} GiB together (estimated), "
        f"and {free / 2**30:.1f} GiB are free"
    )
    mode = WINDOWS if needed <= _FREE_SHARE * free else RUNS
    return Interleave(mode=mode, reason=sizes)


def check_steps(fv: Flags) -> None:
    """Checks that no flag counts what ``--interleave=windows`` measures by time.

    Raises:
      ConfigError: a flag does.
    """
    for name in _NO_MEANING:
        if fv.interleave == WINDOWS and fv.given(name):
            raise ConfigError(
                f"--{name}={getattr(fv, name)} has no meaning with --interleave={WINDOWS}, where "
                f"windows go by time (--min_seconds) and groups by --rounds; leave out --{name}, "
                f"or add --interleave={RUNS}"
            )


def by_time(cells: Sequence[RunConfig], how: Interleave) -> list[RunConfig]:
    """Returns the cells; the windows of runs that take turns last a certain time."""
    if how.mode != WINDOWS:
        return list(cells)
    return [
        dataclasses.replace(cell, min_seconds=cell.min_seconds or MIN_SECONDS) for cell in cells
    ]


def bytes_of(cell: RunConfig) -> int:
    """Returns a rough *estimate* of a run's memory, in bytes, without activations."""
    size = 8 if cell.parameter_dtype == "float64" else 4
    return cell.processes * _PROCESS_BYTES + (
        cell.devices_here * _COPIES * size * cell.spec.parameter_count
    )
