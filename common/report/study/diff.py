"""What ``isoscale diff`` prints: what differs, a row for each cell, and what was shown."""

import dataclasses
from collections.abc import Iterable, Sequence

from isoscale.common.analysis.answers import SAME
from isoscale.common.analysis.between_studies import CellDifference, Matched, between, within
from isoscale.common.analysis.losses import FIRST_LOSS_BOUND, loss_spread
from isoscale.common.analysis.scaling import CellSummary, rounds_together
from isoscale.common.analysis.settings import Setting, independent_name, split_into_settings
from isoscale.common.analysis.turns import PairedRatio
from isoscale.common.analysis.verdicts import ratio_text
from isoscale.common.config.cell import Cell
from isoscale.common.config.counts import counted
from isoscale.common.report.formats.escape import escape_markdown
from isoscale.common.report.formats.templates import printable
from isoscale.common.report.formats.terminal import Column, print_paragraphs, print_tables
from isoscale.common.report.study.changes import Changes, cell_changes, changes
from isoscale.common.report.study.data import StudyData
from isoscale.common.report.study.turns import group_seconds, minutes_text
from isoscale.common.report.words import NO_VALUE, joined, marks, number

COLUMNS = (
    Column("cell", wraps=14),
    Column("A\nexamples/s", "right", rank=2, called="examples/s of A"),
    Column("B\nexamples/s", "right", rank=2, called="examples/s of B"),
    Column("B / A", "right"),
    Column("answer", wraps=12),
    Column("corrected\np", "right", rank=3),
    Column("runs\nA, B", "right", rank=1),
    Column("marks", wraps=12, rank=4),
)
DRIFT = (
    "The studies were measured at different times and share no rounds: drift of the machine "
    "between them is outside the intervals. Cells of one study are compared better, within rounds: "
    "isoscale diff STUDY --cells=CELL,CELL."
)
_MOST_NAMED = 6
"""Most cells that a sentence names; the table has all of them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffView:
    """The texts of a diff.

    Attributes:
      studies: one line for each study.
      changes: what differs, one line each.
      tables: title of a setting -> its rows, in the order of ``COLUMNS``.
      absent: which cells only one study has, one line each.
      notes: how the table was made, one paragraph each.
      result: what was shown, one sentence each.
    """

    studies: list[str]
    changes: list[str]
    tables: list[tuple[str, list[list[str]]]]
    absent: list[str]
    notes: list[str]
    result: list[str]

    def print(self) -> None:
        """Prints the texts, fitted to the terminal; the result comes last."""
        print_paragraphs([*self.studies, "", "Conditions, A -> B:"], hanging=True)
        print_paragraphs([*(f"- {line}" for line in self.changes), ""])
        left_out = print_tables(COLUMNS, self.tables)
        if left_out:
            print_paragraphs([f"Not shown, for lack of width: {joined(left_out)}.", ""])
        print_paragraphs([*self.absent, *self.notes, "", *self.result], hanging=True)

    def markdown(self) -> str:
        """Returns the texts as Markdown; the result comes first."""
        blocks = [f"**{escape_markdown(line)}**" for line in self.result]
        blocks += [escape_markdown(line) for line in self.studies]
        blocks += [escape_markdown("Conditions, A -> B:")]
        blocks += ["\n".join(f"- {escape_markdown(x)}" for x in self.changes)]
        for title, rows in self.tables:
            kept = [i for i in range(len(COLUMNS)) if any(row[i] for row in rows)]
            heads = [" ".join(COLUMNS[i].name.split()) for i in kept]
            table = [heads, *([row[i] for i in kept] for row in rows)]
            lines = [f"| {' | '.join(map(escape_markdown, line))} |" for line in table]
            blocks += [f"**{escape_markdown(title)}**"]
            blocks += ["\n".join([lines[0], f"|{'---|' * len(kept)}", *lines[1:]])]
        blocks += [escape_markdown(line) for line in (*self.absent, *self.notes)]
        return "\n\n".join(blocks) + "\n"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diff:
    """A diff.

    Attributes:
      cells: the comparison of each pair of cells.
      view: its texts.
    """

    cells: list[CellDifference]
    view: DiffView

    def exit_code(self, *, strict: bool) -> int:
        """Returns 1 if a cell was shown to be slower by more than the threshold, otherwise 0.

        Args:
          strict: also 1 if a cell is not decided.
        """
        return int(any(c.slower or (strict and not c.decided) for c in self.cells))


def diff_of_studies(a: StudyData, b: StudyData, matched: Matched, *, threshold: float) -> Diff:
    """Returns the comparison of the cells that two studies share.

    Args:
      a, b: the studies.
      matched: their cells.
      threshold: for example 0.05.
    """
    # A cell of a strong and a weak setting is compared once: B / A is the same in both.
    settings = split_into_settings([x for x, _ in matched.pairs], scaling=a.scaling)
    names = _names(settings)
    partner = {x.cell: (x, y) for x, y in matched.pairs}
    cells = between([partner[cell] for cell in names], threshold=threshold)
    found = changes(a, b, matched.pairs)
    rows = {c.a.cell: (c, cell_changes(c.a.cell, c.b.cell)) for c in cells}
    tables = [
        (
            setting.title,
            [
                _row(
                    name,
                    rows[x.cell][0],
                    also=rows[x.cell][1],
                    minutes=_minutes(rows[x.cell][0], cells, a, b),
                )
                for name, x in setting.all_cells
            ],
        )
        for setting in settings
    ]
    absent = [
        f"Only in {side}: {_listed(study, only)}."
        for study, (side, only) in zip((a, b), matched.only.items(), strict=True)
        if only
    ]
    groups = any(isinstance(c.ratio, PairedRatio) and c.a.rounds is not None for c in cells)
    notes = [
        "B / A: throughput of B / throughput of A, of geometric means over "
        f"{'groups' if groups else 'runs'}, with Welch's 95 % interval on logarithms. {DRIFT}",
        *about_answers(cells, threshold),
        *_other_losses(cells, names),
        *_all_moved(cells),
    ]
    return Diff(
        cells=cells,
        view=_printable(
            DiffView(
                studies=[
                    _about("A", a, [c.a for c in cells]),
                    _about("B", b, [c.b for c in cells]),
                ],
                changes=_change_lines(found),
                tables=tables,
                absent=absent,
                notes=notes,
                result=_result(cells, [names[c.a.cell] for c in cells], threshold),
            )
        ),
    )


def diff_of_cells(study: StudyData, cells: Sequence[CellSummary], *, threshold: float) -> Diff:
    """Returns the comparison of cells of one study with the first of them.

    Args:
      study: the study.
      cells: two cells or more.
      threshold: for example 0.05.
    """
    first, *others = cells
    pairs = [(first, other) for other in others]
    found = within(pairs, threshold=threshold)
    names = {x.cell: independent_name(x.cell) for x in cells if x.cell.independent}
    names |= _names(split_into_settings(cells, scaling=study.scaling))
    lines = []
    for (a, b), name in zip(pairs, (names[x.cell] for x in others), strict=True):
        texts = cell_changes(a.cell, b.cell)
        if a.cell.framework == b.cell.framework:  # each framework has variables of its own
            texts += changes(study, study, [(a, b)]).differing
        lines.append(f"{name}: {'; '.join(texts)}")
    methods = {c.ratio.method for c in found if isinstance(c.ratio, PairedRatio) and c.ratio.method}
    how = f" ({'; '.join(sorted(methods))})" if methods else ""
    notes = [
        f"B / A: throughput of the cell / throughput of A, with its 95 % interval{how}. Ratios are "
        "made of pairs where cells have them; the throughputs beside them are not paired.",
        *about_answers(found, threshold),
    ]
    rows = [_row(names[c.b.cell], c, minutes=_minutes(c, found, study)) for c in found]
    return Diff(
        cells=found,
        view=_printable(
            DiffView(
                studies=[_about("study", study, cells), f"A: {names[first.cell]}"],
                changes=lines,
                tables=[("", rows)],
                absent=[],
                notes=notes,
                result=_result(found, [names[c.b.cell] for c in found], threshold),
            )
        ),
    )


def _printable(view: DiffView) -> DiffView:
    """Returns texts without control characters, which a study of somebody else may contain."""

    def clean(texts: Iterable[str]) -> list[str]:
        return [printable(text) for text in texts]

    return DiffView(
        studies=clean(view.studies),
        changes=clean(view.changes),
        tables=[(printable(title), [clean(row) for row in rows]) for title, rows in view.tables],
        absent=clean(view.absent),
        notes=clean(view.notes),
        result=clean(view.result),
    )


def _names(settings: Sequence[Setting]) -> dict[Cell, str]:
    """Returns cell -> its name; with several settings, followed by that of its setting."""
    return {
        cell.cell: f"{name} ({setting.title})" if len(settings) > 1 else name
        for setting in settings
        for name, cell in setting.all_cells
    }


def _about(side: str, study: StudyData, cells: Sequence[CellSummary]) -> str:
    """Returns the name of a study, when the cells were measured, and how many runs they have."""
    lines = [line for cell in cells for line in cell.ok]
    times = sorted(line.result.started for line in lines if line.result.started)
    when = f"measured {_minute(times[0])} to {_minute(times[-1])} UTC" if times else "time unknown"
    runs = len({(line.cell, line.run) for line in lines})
    return f"{side}: {study.name}, {when}, {counted(runs, 'successful run')}"


def _minute(started: str) -> str:
    return started[:16].replace("T", " ")


def _change_lines(found: Changes) -> list[str]:
    lines = list(found.differing)
    if found.equal:
        lines.append(f"equal: {joined(found.equal)}")
    unknown = [f"{joined(names)} ({side})" for side, names in found.unknown.items() if names]
    if unknown:
        lines.append(f"not recorded: {'; '.join(unknown)}")
    return lines or ["no successful run in both: nothing is known"]


def _listed(study: StudyData, cells: Sequence[CellSummary]) -> str:
    """Returns the names of some cells, in the order of the study's settings."""
    wanted = {cell.cell: cell.cell.id for cell in cells}
    named = {cell: f"{name} ({title})" for cell, (name, title) in study.names().items()}
    found = [name for cell, name in named.items() if cell in wanted]
    return joined([*found, *(text for cell, text in wanted.items() if cell not in named)])


def _minutes(found: CellDifference, cells: Sequence[CellDifference], *sides: StudyData) -> str:
    """Returns how many more minutes would decide a comparison, as text; empty if unknown.

    Args:
      found: the comparison.
      cells: all comparisons; their tests are corrected together.
      sides: the study, or the two studies: more groups are then needed of both.
    """
    if found.ratio is None or found.p is None or found.decided:
        return ""
    known = [
        group_seconds(cell, study.lines)
        for cell, study in zip((found.a, found.b), (sides[0], sides[-1]), strict=True)
    ]
    together = len(sides) == 1 and rounds_together(found.a, found.b) is not None
    seconds = [s for s in known[: 1 if together else 2] if s is not None]
    return minutes_text(
        found.ratio,
        seconds=sum(seconds) if None not in known else None,
        margin=found.threshold,
        family=sum(cell.p is not None for cell in cells),
        more=", for both studies together," if len(sides) == 2 else "",
    )


def _row(
    name: str, found: CellDifference, *, also: Sequence[str] = (), minutes: str = ""
) -> list[str]:
    """Returns the row of a comparison; its marks begin with ``also``."""
    ratio, p = found.ratio, found.p
    sides: dict[str, list[str]] = {}
    for side, cell in (("A", found.a), ("B", found.b)):
        for mark in marks(cell):
            sides.setdefault(mark, []).append(side)
    said = [*also, *(f"{', '.join(where)}: {mark}" for mark, where in sides.items())]
    return [
        name,
        *(number(value) for value in found.throughputs),
        NO_VALUE if ratio is None else ratio_text(ratio),
        found.text + minutes,
        NO_VALUE if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}",
        f"{len(found.a.ok)}, {len(found.b.ok)}",
        "; ".join(said),
    ]


def about_answers(cells: Sequence[CellDifference], threshold: float) -> list[str]:
    """Returns what the answers mean, and how they are corrected."""
    tested = sum(cell.p is not None for cell in cells)
    percent = f"{100 * threshold:g} %"
    return [
        f"Answers: corrected for {counted(tested, 'tested cell')} by Holm. 'the same within "
        f"{percent}' and 'but within {percent}' are shown by two one-sided t tests, 'by more than "
        f"{percent}' by a t test against the threshold; 'slower' or 'faster' alone leaves open "
        "whether it is by more. Intervals are not corrected. A test needs 3 runs (groups, where "
        "runs took turns) of each cell."
    ]


def losses_apart(cell: CellDifference) -> float | None:
    """Returns by which share first losses with the same seed differ; None: within rounding."""
    both = Setting(title="", slug="", series={"A": [cell.a], "B": [cell.b]})
    spread, bound = loss_spread(both).first, FIRST_LOSS_BOUND.get(cell.a.cell.dtype)
    return spread if spread is not None and bound is not None and spread > bound else None


def _other_losses(cells: Sequence[CellDifference], names: dict[Cell, str]) -> list[str]:
    """Returns a warning if cells have other first losses with the same seed: other work."""
    apart = [(names[cell.a.cell], losses_apart(cell)) for cell in cells]
    found = [f"{name} (by a relative {spread:.1e})" for name, spread in apart if spread is not None]
    if not found:
        return []
    return [
        "! With the same seed, first losses differ between A and B: the cells do not compute the "
        f"same thing. Do not compare their times: {joined(found)}."
    ]


def _all_moved(cells: Sequence[CellDifference]) -> list[str]:
    """Returns a warning if all tested cells differ in one direction: the machine may have moved."""
    tested = [c for c in cells if c.p is not None]
    ratios = [c.ratio.value for c in tested if c.decided and c.answer != SAME and c.ratio]
    if len(ratios) < max(2, len(tested)) or min(ratios) < 1 < max(ratios):
        return []
    word = "faster" if ratios[0] > 1 else "slower"
    return [
        f"! All {len(ratios)} tested cells are {word} in B, {min(ratios):.2f}x to "
        f"{max(ratios):.2f}x: the speed of the machine may have changed between the studies. "
        "Measure A again before you look for a cause in the programs."
    ]


def _result(cells: Sequence[CellDifference], names: Sequence[str], threshold: float) -> list[str]:
    """Returns what was shown.

    Args:
      cells: the comparisons.
      names: their names.
      threshold: for example 0.05.
    """
    percent, total = f"{100 * threshold:g} %", counted(len(cells), "cell")
    named = list(zip(cells, names, strict=True))
    slower = [f"{name}, {ratio_text(c.ratio)}" for c, name in named if c.slower and c.ratio]
    undecided = [name for c, name in named if not c.decided]
    if slower:
        was = "was" if len(slower) == 1 else "were"
        found = [
            f"{len(slower)} of {total} {was} shown to be slower by more than {percent}: "
            f"{_some(slower)}."
        ]
    else:
        found = [f"Nothing slower by more than {percent} was shown in {total}."]
    if undecided:
        found.append(f"Not decided: {len(undecided)} of {total}: {_some(undecided)}.")
    return found


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return "; ".join([*names[:_MOST_NAMED], *([f"and {more} more"] if more > 0 else [])])
