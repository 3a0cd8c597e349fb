"""Compares the losses of cells that should compute the same thing."""

import dataclasses
from collections.abc import Sequence

from isoscale.common.analysis.settings import Setting
from isoscale.common.study.records import ResultLine

FIRST_LOSS_BOUND = {"float32": 1e-5, "float64": 1e-12}
"""Largest relative spread of the first loss between cells that compute the same thing."""
LAST_LOSS_BOUND = 0.05
"""Largest spread of the last loss, relative to the first loss. Equal trainings drift apart by
rounding, but less than this."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossSpread:
    """The spread of losses between runs with the same seed and batch.

    Attributes:
      first: largest relative spread of the first loss; None without two runs to compare.
      last: largest spread of the last loss, relative to the first loss; None likewise. Of runs
        that take turns: of the loss at the last power of two of steps that all have trained.
      alarm: sentence for the report if a spread exceeds its bound; otherwise None.
    """

    first: float | None
    last: float | None
    alarm: str | None


def _last_losses(lines: Sequence[ResultLine]) -> list[float | None]:
    """Returns the last losses; of runs that trained different numbers of steps, at equal steps."""
    turns = [line.result.turns for line in lines]
    known = [figures.losses for figures in turns if figures is not None]
    if len(known) < len(lines):
        trained = {line.result.steps_trained for line in lines}
        # Runs whose windows go by time train different numbers of steps.
        return [line.result.loss_last for line in lines] if len(trained) == 1 else []
    common = set.intersection(*map(set, known))
    if not common:
        return []
    step = max(common, key=int)
    return [losses[step] for losses in known]


def loss_spread(setting: Setting) -> LossSpread:
    """Returns the loss spread between the cells of a setting."""
    groups: dict[tuple, list[ResultLine]] = {}
    for _, cell in setting.cells:
        for line in cell.ok:
            key = (line.run, line.result.seed, cell.cell.global_batch_size)
            groups.setdefault(key, []).append(line)
    first: list[float] = []
    last: list[float] = []
    for lines in groups.values():
        firsts = [line.result.loss_first for line in lines]
        lasts = _last_losses(lines)
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
            f"These cells do not compute the same thing: with the same seed, their first losses "
            f"differ by a relative {max(first):.1e}, and the bound is {bound:.0e}. Do not compare "
            "their times."
        )
    elif last and max(last) > LAST_LOSS_BOUND:
        alarm = (
            "These cells did not train alike: with the same seed, their last losses differ by "
            f"{100 * max(last):.0f} % of the first loss. Explain this difference before you "
            "compare their times."
        )
    return LossSpread(
        first=max(first) if first else None, last=max(last) if last else None, alarm=alarm
    )
