"""Finds the planned cells that are the same configuration, so that a study runs them once.

Without a tweak that tuned adds, a tuned cell differs from its stock cell in the name of the lane
only. Two such cells would measure one configuration twice, and a report would then compare a
configuration with itself.
"""

import dataclasses
from collections.abc import Collection, Sequence

from isoscale.common.config.run_config import STOCK, TUNED, RunConfig
from isoscale.common.study.records import SharedCell


def share(
    sessions: Sequence[Sequence[RunConfig]], *, begun: Collection[str]
) -> tuple[list[list[RunConfig]], list[SharedCell]]:
    """Returns the cells to run, for each session, and the stock cells that stand for tuned, too.

    A tuned cell gives way to its stock cell if both are the same configuration, and the stock cell
    is planned or has begun. A tuned cell that has begun keeps its runs, and gets its missing ones:
    no result is lost or measured again.

    Args:
      sessions: the planned cells of each session.
      begun: ids of the cells that already have runs in the study.
    """
    planned = {c.cell().id for cells in sessions for c in cells if c.tuning == STOCK} | {*begun}
    shared: dict[str, SharedCell] = {}

    def of(config: RunConfig) -> RunConfig:
        cell = config.cell()
        if config.tuning != TUNED or cell.id in begun:
            return config
        twin = dataclasses.replace(cell, tuning=STOCK).id
        if twin not in planned:
            return config
        left_out = list(config.tweaks_left_out)
        shared[twin] = SharedCell(cell_id=twin, lane="tuned", left_out=left_out)
        return dataclasses.replace(config, tuning=STOCK, tweaks_left_out=())

    found = [list({c.cell().id: c for c in map(of, cells)}.values()) for cells in sessions]
    return found, list(shared.values())


def about_shared(shared: Sequence[SharedCell]) -> list[str]:
    """Returns a sentence for each reason: how many cells run once for both lanes."""
    counts: dict[str, int] = {}
    for found in shared:
        counts[found.reason] = counts.get(found.reason, 0) + 1
    return [
        f"{count} tuned {'cells are' if count > 1 else 'cell is'} the same configuration as stock "
        f"({reason}): run once, for both lanes"
        for reason, count in counts.items()
    ]
