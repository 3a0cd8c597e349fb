"""The first sentences of a report: findings about the whole study, and limits of the figures."""

import math
from collections import Counter
from collections.abc import Sequence

from isoscale.common.analysis.estimates import LEAST_RUNS
from isoscale.common.analysis.settings import Setting
from isoscale.common.analysis.verdicts import Verdict, champions, overall, speed, undecided
from isoscale.common.config.cell import Cell
from isoscale.common.config.counts import counted
from isoscale.common.report.study.answers.shared import shared_cells
from isoscale.common.report.study.data import StudyData
from isoscale.common.report.study.drift import Drift
from isoscale.common.report.words import joined

NOTABLE_DRIFT = 0.03
"""The answer names a drift of this share or more, if the interval of the drift excludes zero."""


def headline(study: StudyData, drifted: Drift | None) -> list[str]:
    """Returns the sentences.

    Args:
      study: the study.
      drifted: the change of time per step over the study; None if unknown.
    """
    counts = [len(summary.ok) for summary in study.summaries if summary.ok]
    sentences = []
    if not counts:
        return ["No run was successful. There are no figures to compare."]
    in_turns = any(line.result.turns for line in study.lines)
    if max(counts) < LEAST_RUNS and in_turns:
        sentences.append(
            f"{counted(max(counts), 'group')} of runs that took turns: there are no verdicts, and "
            "an interval of a ratio holds for these processes only. For verdicts, continue the "
            f"study to six groups: isoscale compare --study={study.name} --resume --runs=6."
        )
    elif max(counts) < LEAST_RUNS:
        runs = "One run" if max(counts) == 1 else f"At most {max(counts)} runs"
        sentences.append(
            f"{runs} of each cell: the report has no intervals and no verdicts. The figures below "
            "are measured, but the variation between runs is unknown. For intervals and verdicts, "
            f"continue the study to six runs of each cell: isoscale compare --study={study.name} "
            "--resume --runs=6."
        )
    elif min(counts) < LEAST_RUNS:
        sentences.append(
            f"Some cells have fewer than {LEAST_RUNS} runs. These cells get no verdict."
        )
    verdicts = [verdict for found in study.verdicts.values() for verdict in found]
    # A pair of shared cells is the same comparison in both lanes.
    pairs = {(verdict.question, _pair(verdict)): verdict for verdict in verdicts}
    decided = [verdict for verdict in pairs.values() if verdict.outcome != "no verdict"]
    if decided:
        even = sum(verdict.outcome == "no difference shown" for verdict in decided)
        if len(decided) == 1:
            which = "no difference" if even else "a difference"
            sentences.append(f"The only comparison of two cells shows {which}.")
        elif in_turns:
            sentences.append(_by_answer(decided))
        else:
            sentences.append(
                f"Of {len(decided)} comparisons of two cells, {_show(len(decided) - even)} a "
                f"difference and {_show(even)} none."
            )
    sentences += _target(study)
    if drifted is not None and drifted[1] * drifted[2] > 0 and abs(drifted[0]) >= NOTABLE_DRIFT:
        change, low, high, _ = drifted
        sentences.append(
            f"Time per step changed by {100 * change:+.1f} % [{100 * low:+.1f}, {100 * high:+.1f}] "
            "from the first run to the last. "
            + (
                "The cells of a round share it, so it is in no ratio. It makes the intervals of "
                "times wider."
                if in_turns
                else "Runs of all cells are interleaved, so the drift favours no cell. The drift "
                "makes intervals wider."
            )
        )
    sentences += shared_cells(study)
    wins: dict[str, list[str]] = {}
    for setting in study.settings:
        winner = _winner(study, setting)
        if winner is not None:
            wins.setdefault(winner, []).append(setting.title)
    for winner, titles in wins.items():
        few = f": {'; '.join(titles)}" if len(titles) <= 3 else ""
        sentences.append(
            f"{winner} is shown to be the fastest framework for {len(titles)} of "
            f"{counted(len(study.settings), 'setting')}, each framework with its best number of "
            f"devices{few}."
        )
    return sentences


def _by_answer(verdicts: Sequence[Verdict]) -> str:
    """Returns how many comparisons have each of the four answers."""
    found = Counter(verdict.answer for verdict in verdicts)
    differ = sum(verdict.outcome in ("faster", "slower") for verdict in verdicts)
    # "faster, but within 5 %" -> "but within 5 %"
    small = Counter(a.partition(", ")[2] for a in found.elements() if ", but within" in a)
    parts = [f"{_show(differ)} a difference"]
    parts[0] += "".join(f" ({n} of them {text})" for text, n in small.items())
    parts += [f"{n} {answer}" for answer, n in found.items() if answer.startswith("the same")]
    undecided_ = found["not decided"] + found["no difference shown"]
    parts += [f"{undecided_} not decided"] if undecided_ else []
    return f"Of {len(verdicts)} comparisons of two cells, {joined(parts)}."


def _target(study: StudyData) -> list[str]:
    """Returns whether the planned intervals are as narrow as ``--target_ci`` asked."""
    target, widest = study.record.target_ci, study.widest_planned
    if target is None:
        return []
    if widest is None:
        return ["There is a target for planned ratios, but the study has none."]
    rule = "Planned intervals are those of Stein's two-stage rule (1945)."
    if math.isinf(widest):
        return [
            f"The target of ±{100 * target:g} % is not reached: a planned ratio has no interval."
        ]
    groups = max(len(cell.ok) for cell in study.summaries)
    reached = widest <= target * (1 + 1e-9)
    said = (
        f"The target of ±{100 * target:g} % is {'reached' if reached else 'not reached'}: the "
        f"widest interval of a planned ratio is ±{100 * widest:.1f} %, after "
        f"{counted(groups, 'group')}."
    )
    if not reached and study.groups_needed > groups:
        said += f" {counted(study.groups_needed, 'group')} would reach it; the time ended before."
    return [f"{said} {rule}"]


def _pair(verdict: Verdict) -> frozenset[Cell]:
    """Returns the two cells whose runs a verdict compares."""
    cells = (verdict.subject_cell, verdict.other_cell or verdict.subject_cell.base)
    return frozenset(cell.measured for cell in cells if cell is not None)


def _show(count: int) -> str:
    return f"{count} {'shows' if count == 1 else 'show'}"


def _winner(study: StudyData, setting: Setting) -> str | None:
    """Returns the framework that verdicts show to be faster than all others, if any."""
    best = champions(setting)
    if len({cell.cell.framework for _, cell in best}) < 2 or study.losses[setting.title].alarm:
        return None
    asked = overall(setting, study.verdicts[setting.title])
    shown = len(asked) == len(best) - 1 and all(v.outcome == "faster" for v in asked)
    winner = best[0][1]
    open_ = any(
        cell.cell.framework != winner.cell.framework and speed(cell) > speed(winner)
        for _, cell in undecided(setting)
    )
    return winner.cell.framework if shown and not open_ else None
