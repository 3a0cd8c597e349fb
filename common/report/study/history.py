"""What ``isoscale history`` says: for each cell a row for each study, and what was shown."""

import dataclasses
import itertools
import re
from collections.abc import Sequence
from typing import Any

from isoscale.common.analysis.between_studies import CellDifference
from isoscale.common.analysis.history import Appearance, Throughput, histories
from isoscale.common.analysis.scaling import CellSummary
from isoscale.common.analysis.settings import independent_name, split_into_settings
from isoscale.common.analysis.verdicts import ratio_text
from isoscale.common.config.counts import counted
from isoscale.common.machine.own_version import UNKNOWN
from isoscale.common.report.formats.escape import escape_markdown
from isoscale.common.report.formats.templates import printable
from isoscale.common.report.formats.terminal import Column, print_paragraphs, print_tables
from isoscale.common.report.study.changes import MACHINE, cell_changes, changes
from isoscale.common.report.study.data import StudyData
from isoscale.common.report.study.diff import about_answers, losses_apart
from isoscale.common.report.words import NO_VALUE, joined, marks, number

COLUMNS = (
    Column("study", wraps=12),
    Column("measured", wraps=10, rank=2),
    Column("framework", wraps=10, rank=4),
    Column("isoscale", wraps=12, rank=6),
    Column("machine", wraps=12, rank=5),
    Column("n", "right", rank=3),
    Column("examples/s\n[95 %]", "right", wraps=10),
    Column("ratio to the one\nbefore [95 %]", "right", wraps=10),
    Column("answer", wraps=12),
    Column("changed; marks", wraps=20, rank=1),
)
DRIFT = (
    "The studies were measured at different times and share no rounds: drift of the machine "
    "between them is outside the intervals."
)
_MOST_NAMED = 6
"""Most steps that a sentence names; the tables have all of them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """The way of a cell from one study to the next one.

    Attributes:
      before, after: names of the studies.
      difference: the comparison.
      changed: what differs in the conditions, one text per fact.
      unknown: what a study did not record.
      same_machine: whether both studies recorded the same machine.
    """

    before: str
    after: str
    difference: CellDifference
    changed: list[str]
    unknown: list[str]
    same_machine: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellHistory:
    """The history of a cell.

    Attributes:
      name: of the cell and its setting.
      short: the name without the setting, if all cells have the same one.
      slug: file name of its plot, without suffix.
      framework: of the cell.
      labels: of each study, for the plot: date or version, and name.
      machines: of each study.
      throughputs: of each study; None: no run counts.
      steps: from each study to the next one.
      rows: of the table, in the order of ``COLUMNS``.
    """

    name: str
    short: str
    slug: str
    framework: str
    labels: list[str]
    machines: list[str]
    throughputs: list[Throughput | None]
    steps: list[Step]
    rows: list[list[str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class History:
    """The histories of some cells.

    Attributes:
      cells: the histories.
      threshold: margin of the four answers.
      studies: the studies, in the order of time: name, dates, machine.
      result: what was shown, one sentence each.
      notes: how the tables were made, one paragraph each.
    """

    cells: list[CellHistory]
    threshold: float
    studies: list[str]
    result: list[str]
    notes: list[str]

    def print(self) -> None:
        """Prints tables and sentences, fitted to the terminal; the result comes last."""
        print_paragraphs([*self.studies, ""], hanging=True)
        left_out = print_tables(COLUMNS, [(cell.name, cell.rows) for cell in self.cells])
        if left_out:
            print_paragraphs([f"Not shown, for lack of width: {joined(left_out)}.", ""])
        print_paragraphs([*self.notes, "", *self.result], hanging=True)

    def markdown(self, plots: str) -> str:
        """Returns everything as Markdown; the result comes first.

        Args:
          plots: folder of the plots, beside the file.
        """
        blocks = [f"**{escape_markdown(line)}**" for line in self.result]
        blocks.append("\n".join(f"- {escape_markdown(line)}" for line in self.studies))
        for cell in self.cells:
            heads = [" ".join(column.name.split()) for column in COLUMNS]
            lines = [f"| {' | '.join(map(escape_markdown, row))} |" for row in (heads, *cell.rows)]
            title = escape_markdown(cell.name)
            blocks += [f"## {title}", f"![{title}]({plots}/{cell.slug}.png)"]
            blocks.append("\n".join([lines[0], f"|{'---|' * len(COLUMNS)}", *lines[1:]]))
        blocks += [escape_markdown(line) for line in self.notes]
        return "\n\n".join(blocks) + "\n"


def by_date(studies: Sequence[StudyData]) -> list[StudyData]:
    """Returns the studies in the order of their first runs; those without a date come first."""
    return sorted(studies, key=lambda study: min(_dates(study.lines), default=""))


def version_key(text: str) -> tuple[Any, ...]:
    """Returns a key that sorts versions: 0.9 before 0.10, 2.0rc1 before 2.0; unknown ones first."""
    found = re.match(r"(\d+(?:\.\d+)*)(.*)", text)
    if found is None:
        return (), False, text
    release = tuple(map(int, found[1].split(".")))
    return release, re.match(r"[.-]?(a|b|rc|dev)", found[2]) is None, found[2]


def make_history(
    studies: Sequence[StudyData],
    tracks: Sequence[dict[int, CellSummary]],
    *,
    by_version: bool,
    threshold: float,
) -> History:
    """Returns the histories of some cells.

    Args:
      studies: in the order of time.
      tracks: the cells, as ``analysis.history.tracks`` returns them, each of two studies or more.
      by_version: sort the studies of a cell by the version of its framework, not by date.
      threshold: margin of the four answers.
    """

    def order(study: int, cell: CellSummary) -> tuple[Any, ...]:
        return (version_key(_version(cell)), study) if by_version else (study,)

    found = histories(tracks, order=order, threshold=threshold)
    latest = [next(reversed(track.values())) for track in tracks]
    settings = split_into_settings(latest, scaling=studies[-1].scaling)
    names = {
        cell.cell: (name, f"{name} ({setting.title})")
        for setting in settings
        for name, cell in setting.all_cells
    }
    machines = [study.conditions().machine for study in studies]
    cells = []
    for cell, entries in zip(latest, found, strict=True):
        # Independent cells whose other cells have no results are in no setting.
        alone = independent_name(cell.cell)
        short, name = names.get(cell.cell, (alone, f"{alone} ({cell.cell.model})"))
        history = _cell_history(name, cell, entries, studies, machines, by_version)
        if len(settings) == 1:
            history = dataclasses.replace(history, short=printable(short))
        cells.append(history)
    differences = [step.difference for cell in cells for step in cell.steps]
    return History(
        cells=cells,
        threshold=threshold,
        studies=[
            printable(f"{study.name}: measured {_span(study)}, {machine}")
            for study, machine in zip(studies, machines, strict=True)
        ],
        result=_result(cells, threshold),
        notes=[
            "n: runs, or groups where runs took turns. examples/s: their geometric mean with "
            "Student's 95 % interval on logarithms; below n = 3 the median. The ratio to the one "
            "before is that of these figures, with Welch's interval. "
            f"{DRIFT} Points of different machines are not connected, nor those of a machine that "
            "was not recorded.",
            *about_answers(differences, threshold),
        ],
    )


def _cell_history(
    name: str,
    latest: CellSummary,
    entries: Sequence[Appearance],
    studies: Sequence[StudyData],
    machines: Sequence[str],
    by_version: bool,
) -> CellHistory:
    steps = [
        _step(studies[a.study], studies[b.study], b.difference)
        for a, b in itertools.pairwise(entries)
        if b.difference is not None
    ]
    rows: list[list[str]] = []
    labels: list[str] = []
    where: list[str] = []
    for entry, step in zip(entries, [None, *steps], strict=True):
        study, version = studies[entry.study], _version(entry.cell)
        first = min(_dates(entry.cell.ok), default=UNKNOWN)
        where.append(_machine(entry.cell) or machines[entry.study])
        labels.append(printable(f"{version if by_version else first[:10]}  {study.name}"))
        rows.append(
            [
                study.name,
                first[:16].replace("T", " "),
                f"{latest.cell.framework} {version}",
                " | ".join(dict.fromkeys(x.result.isoscale or UNKNOWN for x in entry.cell.ok)),
                where[-1],
                str(entry.throughput.n if entry.throughput else 0),
                _throughput_text(entry.throughput),
                *_answer_texts(step),
                "; ".join([*_changed(step), *marks(entry.cell)]),
            ]
        )
    return CellHistory(
        name=printable(name),
        short=printable(name),
        slug=f"history_{latest.cell.id}",
        framework=latest.cell.framework,
        labels=labels,
        machines=[printable(machine) for machine in where],
        throughputs=[entry.throughput for entry in entries],
        steps=steps,
        rows=[[printable(text) for text in row] for row in rows],
    )


def _step(a: StudyData, b: StudyData, difference: CellDifference) -> Step:
    found = changes(a, b, [(difference.a, difference.b)])
    changed = [*found.differing, *cell_changes(difference.a.cell, difference.b.cell)]
    if (apart := losses_apart(difference)) is not None:
        changed.append(
            f"! first losses differ by a relative {apart:.1e} with the same seed: other work"
        )
    names = {"A": a.name, "B": b.name}
    return Step(
        before=a.name,
        after=b.name,
        difference=difference,
        changed=[printable(text) for text in changed],
        unknown=[f"{joined(x)} in {names[side]}" for side, x in found.unknown.items() if x],
        same_machine=MACHINE in found.equal,
    )


def _changed(step: Step | None) -> list[str]:
    if step is None:
        return []
    return [*step.changed, *(f"not recorded: {text}" for text in step.unknown)]


def _answer_texts(step: Step | None) -> tuple[str, str]:
    """Returns the ratio to the study before, and the answer."""
    if step is None:
        return NO_VALUE, NO_VALUE
    ratio = step.difference.ratio
    return NO_VALUE if ratio is None else ratio_text(ratio), step.difference.text


def _throughput_text(found: Throughput | None) -> str:
    if found is None:
        return NO_VALUE
    if found.low is None or found.high is None:
        return number(found.value)
    return f"{number(found.value)} [{number(found.low)}, {number(found.high)}]"


def _machine(cell: CellSummary) -> str:
    """Returns the machine of a cell's runs; "" if they did not record it."""
    found: dict[str, None] = {}
    for line in cell.ok:
        facts = line.result.machine or {}
        if "cpu_model" in facts:
            cores = facts.get("usable_cores")
            gpus = [] if facts.get("gpus") in (None, []) else [str(facts["gpus"])]
            parts = [str(facts["cpu_model"]), *gpus]
            parts += [counted(cores, "core")] if isinstance(cores, int) else []
            found[", ".join(parts)] = None
    return " | ".join(found)


def _version(cell: CellSummary) -> str:
    """Returns the version of the cell's framework, as its runs recorded it."""
    known = [(line.result.versions or {}).get(cell.cell.framework) for line in cell.ok]
    return " | ".join(dict.fromkeys(version or UNKNOWN for version in known)) or UNKNOWN


def _dates(lines: Sequence[Any]) -> list[str]:
    return [line.result.started for line in lines if line.ok and line.result.started]


def _span(study: StudyData) -> str:
    dates = sorted(_dates(study.lines))
    if not dates:
        return "at an unknown time"
    first, last = (text[:16].replace("T", " ") for text in (dates[0], dates[-1]))
    return f"{first} to {last} UTC"


def _result(cells: Sequence[CellHistory], threshold: float) -> list[str]:
    """Returns what was shown: steps that are slower, then faster, then those not decided."""
    percent = f"{100 * threshold:g} %"
    steps = [(cell.short, step) for cell in cells for step in cell.steps]
    total = counted(len(steps), "step")
    found = []
    for word, slower in (("Slower", True), ("Faster", False)):
        named = [
            f"{name}, {step.before} to {step.after}, {ratio_text(step.difference.ratio)}"
            + ("" if step.same_machine else " (not the same machine)")
            + (" (other first losses: other work)" if losses_apart(step.difference) else "")
            for name, step in steps
            if step.difference.ratio and step.difference.beyond
            if (step.difference.ratio.value < 1) == slower
        ]
        if named or slower:  # "nothing slower" is a result
            listed = f": {_some(named)}" if named else ""
            shown = f"{len(named)} of {total}{listed}"
            found.append(f"{word} by more than {percent}: shown in {shown}.")
    undecided = sum(not step.difference.decided for _, step in steps)
    if undecided:
        found.append(f"Not decided: {undecided} of {total}.")
    return [printable(text) for text in found]


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return "; ".join([*names[:_MOST_NAMED], *([f"and {more} more"] if more > 0 else [])])
