"""Whether cells that should compute the same thing have the same losses."""

import dataclasses

from isoscale.common.analysis.settings import Setting
from isoscale.common.study.records import ResultLine

FIRST_LOSS_BOUND = {"float32": 1e-5, "float64": 1e-12}
"""Largest relative spread of the first loss between cells that compute the same thing."""
LAST_LOSS_BOUND = 0.05
"""Largest spread of the last loss, relative to the first: trajectories part, but not so far."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossSpread:
    """How far the losses of runs with the same seed and batch lie apart; None: nothing to compare.

    Attributes:
      first: largest relative spread of the first loss.
      last: largest spread of the last loss, relative to the first loss.
      alarm: what that proves, if it is too much.
    """

    first: float | None
    last: float | None
    alarm: str | None


def loss_spread(setting: Setting) -> LossSpread:
    """Compares the losses of cells that should compute the same thing."""
    groups: dict[tuple, list[ResultLine]] = {}
    for _, cell in setting.cells:
        for line in cell.ok:
            key = (line.run, line.result.seed, cell.cell.global_batch_size)
            groups.setdefault(key, []).append(line)
    first: list[float] = []
    last: list[float] = []
    for lines in groups.values():
        firsts = [line.result.loss_first for line in lines]
        lasts = [line.result.loss_last for line in lines]
        starts = [loss for loss in firsts if loss is not None]
        ends = [loss for loss in lasts if loss is not None]
        if len(starts) > 1 and max(starts) > 0:
            first.append((max(starts) - min(starts)) / max(starts))
            if len(ends) > 1:
                last.append((max(ends) - min(ends)) / max(starts))
    bound = FIRST_LOSS_BOUND.get(setting.cells[0][1].cell.dtype)
    alarm = None
    if first and bound is not None and max(first) > bound:
        alarm = (
            f"These cells do not compute the same thing: with the same seed their first losses "
            f"differ by {max(first):.1e} of their size, where {bound:.0e} is the bound. Their "
            "times must not be compared."
        )
    elif last and max(last) > LAST_LOSS_BOUND:
        alarm = (
            "These cells did not train alike: with the same seed their last losses differ by "
            f"{100 * max(last):.0f} % of the first loss. Do not compare their times before that "
            "is explained."
        )
    return LossSpread(
        first=max(first) if first else None, last=max(last) if last else None, alarm=alarm
    )
