"""The sentences about cells of the tuned lane that are the same configuration as in stock."""

from collections.abc import Iterable

from isoscale.common.analysis.verdicts import Named
from isoscale.common.config.run_config import TUNED
from isoscale.common.report.study.data import StudyData
from isoscale.common.report.words import SAME_CONFIGURATION, by_reason, joined


def shared_cells(study: StudyData) -> list[str]:
    """Returns the sentences about the whole study; [] without shared cells."""
    counts: dict[str, int] = {}
    for cell in study.shared:
        if cell.shared:
            counts[cell.shared.reason] = counts.get(cell.shared.reason, 0) + 1
    if not counts:
        return []
    tuned = [cell for cell in (*study.summaries, *study.repeated) if cell.cell.tuning == TUNED]
    reasons = "; ".join(
        reason if len(counts) == 1 else f"{count}: {reason}" for reason, count in counts.items()
    )
    verb = "is" if len(study.shared) == 1 else "are"
    sentences = [
        f"{len(study.shared)} of {len(tuned)} tuned cells {verb} the {SAME_CONFIGURATION} as stock "
        f"({reasons}). The configuration was run once: its runs count in both lanes, and no test "
        "compares it with itself."
    ]
    if study.repeated:
        names = study.names()
        titles = dict.fromkeys(names[cell.cell][1] for cell in study.repeated)
        sentences.append(
            f"The tuned lane has no tables of its own for {joined(list(titles))}: they would "
            "repeat those of stock."
        )
    return sentences


def shared_of(cells: Iterable[Named]) -> list[str]:
    """Returns the sentence about the shared cells of one setting; [] without any.

    Args:
      cells: (name, cell) of the setting.
    """
    listed = [(name, cell.shared.reason) for name, cell in cells if cell.shared]
    if not listed:
        return []
    return [f"The {SAME_CONFIGURATION} as stock, with the runs of stock: {by_reason(listed)}."]
