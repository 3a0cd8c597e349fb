"""What a report says about runs that took turns: how, how noisy, and what went wrong."""

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence

from isoscale.common.analysis import turns, variances
from isoscale.common.analysis.answers import minutes_to_decide
from isoscale.common.analysis.correction import Tested
from isoscale.common.analysis.estimates import Ratio
from isoscale.common.analysis.scaling import CellSummary, rounds_together
from isoscale.common.analysis.settings import Setting
from isoscale.common.analysis.turns import PairedRatio
from isoscale.common.analysis.verdicts import Verdict, comparable
from isoscale.common.config.counts import counted
from isoscale.common.machine.frequency import RULE
from isoscale.common.measure.conditions import DISTURBED_SHARE
from isoscale.common.measure.turns import NEAR_ZERO, STABLE_RULE, TurnsFigures
from isoscale.common.report.words import joined
from isoscale.common.study.group import REPEATED_SHARE
from isoscale.common.study.pace import Pace
from isoscale.common.study.records import ResultLine

METHOD = (
    "The runs of a setting took turns. A group is one run of each of its cells, in fresh processes "
    "that start together, in an order drawn anew for each group. Each compiles and warms up while "
    "the others wait. Then each round has one window of every run, in random order; a waiting run "
    "blocks on a pipe and uses no core. Before each window a run makes a few steps without a "
    "clock, which fill the caches. Drift of the machine changes all windows of a round alike, so a "
    "ratio is taken within each round: log(time of one cell / time of the other). A group counts "
    "as one value, the 20 % trimmed mean over its rounds (Yuen 1974). Over groups: the mean, with "
    "Student's t interval and test. With one or two groups an interval is from their rounds and "
    "holds for these processes only. Absolute times are not paired and have wider intervals. A "
    f"round is disturbed if other programs used more than {100 * DISTURBED_SHARE:.0f} % of one "
    f"core's time during a window of it, or {RULE}; its own time never decides. Disturbed windows "
    f"do not count; at most {100 * REPEATED_SHARE:.0f} % of the rounds are repeated at the end."
)
ANSWERS = (
    "A pair of cells has one of four answers: different (faster, slower); different, but within "
    "the margin; the same within the margin; not decided. A difference is shown by the t test, "
    "equivalence by two one-sided t tests on logarithms (Schuirmann 1987), each if its corrected "
    "p is at most 0.05. Planned comparisons are all pairs of frameworks on as many devices, each "
    "with its usual strategy, and each cell on several devices against bare: they are corrected "
    "together by Holm (1979). All other pairs are exploratory and corrected by "
    "Benjamini-Yekutieli."
)


def figures_of(lines: Iterable[ResultLine]) -> list[TurnsFigures]:
    """Returns how the successful runs took turns; [] if runs followed each other."""
    return [line.result.turns for line in lines if line.ok and line.result.turns is not None]


def method(lines: Sequence[ResultLine], *, margin: float, pace: Pace | None = None) -> list[str]:
    """Returns the paragraphs about turns; [] if runs followed each other.

    Args:
      lines: of the study.
      margin: throughputs up to this share apart are called the same.
      pace: how the study divided its time; None: it did not.
    """
    found = figures_of(lines)
    if not found:
        return []
    stable = sum(entry.warmup_stable for entry in found)
    waits = [entry.waiting_cpu_share for entry in found if entry.waiting_cpu_share is not None]
    waiting = (
        f" While they waited, runs used {100 * statistics.median(waits):.2f} % of a core (median; "
        f"at most {100 * max(waits):.2f} %)."
        if waits
        else ""
    )
    return [
        METHOD + waiting,
        ANSWERS + f" The margin of this report is {100 * margin:g} %.",
        f"Warm-up went by time: {STABLE_RULE}. This was reached in {stable} of {len(found)} runs.",
        *([f"How the study divided its time: {pace.text}."] if pace else []),
    ]


def warnings(lines: Sequence[ResultLine]) -> list[str]:
    """Returns what makes the rounds of some runs less sound."""
    awake = [
        f"{line.cell.framework} {line.cell.strategy} ({100 * figures.waiting_cpu_share:.0f} %)"
        for line in lines
        if line.ok
        and (figures := line.result.turns) is not None
        and figures.waiting_cpu_share is not None
        and figures.waiting_cpu_share > NEAR_ZERO
    ]
    unstable = [
        f"{line.cell.model} {line.cell.framework} {line.cell.strategy}"
        for line in lines
        if line.ok and line.result.turns is not None and not line.result.turns.warmup_stable
    ]
    found = []
    if awake:
        found.append(
            "Runs that waited for their turn used more than "
            f"{100 * NEAR_ZERO:.0f} % of a core, and may have slowed the others: "
            f"{joined(list(dict.fromkeys(awake)))}."
        )
    if unstable:
        found.append(
            "The step time was still falling at the end of warm-up in "
            f"{counted(len(unstable), 'run')}: {joined(list(dict.fromkeys(unstable)))}."
        )
    return found


def rounds_remark(cells: Sequence[CellSummary]) -> list[str]:
    """Returns the sentence about the rounds of a setting; [] if runs followed each other."""
    found = figures_of(line for cell in cells for line in cell.ok)
    if not found:
        return []
    groups = {line.run for cell in cells for line in cell.ok}
    windows = [entry for figures in found for entry in figures.rounds]
    disturbed = sum(bool(entry.disturbed) for entry in windows)
    unknown = sum(entry.disturbed is None for entry in windows)
    lengths = [entry.steps * entry.seconds_per_step for entry in windows]
    text = (
        f"{counted(len(groups), 'group')}, {counted(len(windows), 'window')} of "
        f"{statistics.median(lengths):.2f} s (median); {disturbed} disturbed"
    )
    return [text + (f", {unknown} too short to tell." if unknown else ".")]


def noise_remark(setting: Setting) -> list[str]:
    """Returns the sentence about the noise of each cell, within and between processes."""
    cells = [(name, cell) for name, cell in comparable(setting) if cell.ok]
    pairs = {}
    for (a, first), (b, second) in itertools.combinations(cells, 2):
        both = rounds_together(first, second)
        logs = turns.logs(*both) if both else {}
        if len(turns.counted(logs)) > 1:
            pairs[a, b] = variances.components(logs)
    if not pairs:
        return []
    parts = [
        f"{name} {_percent(part.within)} and {_percent(part.between)}"
        for name, part in variances.of_cells(pairs).items()
    ]
    return [
        "Noise of each cell, as standard deviations of one window and between processes: "
        f"{'; '.join(parts)}. More rounds reduce the first, only more groups the second. The drift "
        "that cells of a round share is not in it."
    ]


def minutes(setting: Setting, verdict: Verdict, *, planned: int) -> str:
    """Returns how many more minutes would decide a pair, as text; empty if nobody asks that.

    Args:
      setting: of the pair.
      verdict: the pair.
      planned: number of planned comparisons of the report.
    """
    if verdict.answer != "not decided":
        return ""
    found = more_minutes(
        setting, verdict.subject_cell, verdict.tested, margin=verdict.margin, planned=planned
    )
    return f"; estimated: {found} would decide it" if found else ""


def more_minutes(
    setting: Setting, cell: CellSummary, tested: Tested, *, margin: float, planned: int
) -> str:
    """Returns how many more minutes would decide a test, as text; empty if that is unknown.

    Args:
      setting: of both cells.
      cell: one of the two.
      tested: the test.
      margin: the margin of equivalence.
      planned: number of planned comparisons of the report.
    """
    lines = [line for _, own in setting.cells for line in own.ok]
    return _more(
        tested.ratio,
        seconds=group_seconds(cell, lines),
        margin=margin,
        family=max(1, planned) if tested.planned else 1,
    )


def group_seconds(cell: CellSummary, lines: Iterable[ResultLine]) -> float | None:
    """Returns the median seconds of a cell's groups, or of its runs alone; None if unknown.

    Args:
      cell: the cell.
      lines: all runs that may have taken turns with those of the cell.
    """
    longest: dict[str, float] = {}
    own = {line.result.turns.group if line.result.turns else str(line.run) for line in cell.ok}
    alone = any(line.result.turns is None for line in cell.ok)
    for line in cell.ok if alone else lines:
        group = line.result.turns.group if line.result.turns else str(line.run)
        if line.wall_seconds and group in own:
            longest[group] = max(line.wall_seconds, longest.get(group, 0.0))
    return statistics.median(longest.values()) if longest else None


def minutes_text(
    ratio: Ratio, *, seconds: float | None, margin: float, family: int, more: str = ""
) -> str:
    """Returns how many more minutes would decide a ratio; empty if that is unknown.

    Args:
      ratio: the ratio.
      seconds: seconds that one more group, or one more run of each cell, takes.
      margin, family: as for ``minutes_to_decide``.
      more: text after the minutes.
    """
    found = _more(ratio, seconds=seconds, margin=margin, family=family)
    return f"; estimated: {found}{more} would decide it" if found else ""


def _more(ratio: Ratio, *, seconds: float | None, margin: float, family: int) -> str:
    if not isinstance(ratio, PairedRatio) or ratio.error is None or not seconds:
        return ""
    return minutes_to_decide(ratio, group_seconds=seconds, margin=margin, family=family).text


def _percent(variance: float) -> str:
    return f"{100 * math.sqrt(variance):.1f} %"
