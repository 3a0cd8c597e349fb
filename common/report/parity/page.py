"""Shows the results of ``isoscale parity``: a table, and a page with plots over steps."""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from rich.text import Text

from isoscale.common.config.counts import counted
from isoscale.common.config.records import to_record
from isoscale.common.parity.checks import ITSELF
from isoscale.common.parity.compare import GRADIENTS, LOSS, PARAMETERS, Comparison, Difference
from isoscale.common.parity.documents import ParityDocument
from isoscale.common.parity.reference import NUMPY
from isoscale.common.processes.job_line import Key
from isoscale.common.report.drawing.plot import Plot
from isoscale.common.report.drawing.style import COLORS, DASHES
from isoscale.common.report.formats.terminal import terminal_width
from isoscale.common.report.parity import jobs

HTML = "parity.html"
OUT_OF_BOUNDS, NOT_COMPARED = "OUT OF BOUNDS", "NOT COMPARED"
TERMINAL_COLUMNS = 120
"""Width of the tables if the output is no terminal."""
_LEAST_COLUMNS = 110
"""A narrower terminal shows fewer figures of a pair."""
_LEAST_STEPS = 5
"""Smallest number of steps that a plot needs."""
COLUMNS = (
    "model",
    "dtype",
    "pair",
    "loss\n(relative)",
    "gradients\n(to norm)",
    "parameters\n(absolute)",
    "nearest to its bound",
    "",
)


def run_name(job: Key) -> str:
    """Returns the name of a run for messages."""
    case, framework, strategy, devices, dtype = job
    return f"{case} {framework} {strategy} devices={devices} {dtype}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """Two compared sides and their differences.

    Attributes:
      model, dtype: the trained case and its dtype.
      name: ``jax - torch``, ``jax, N devices - bare``, ...
      runs: (name of the run, comparison).
    """

    model: str
    dtype: str
    name: str
    runs: list[tuple[str, Comparison]]

    @property
    def figures(self) -> list[tuple[str, Difference]]:
        return [(run, f) for run, c in self.runs for f in c.figures.values()]

    @property
    def ok(self) -> bool:
        return all(figure.ok for _, figure in self.figures)

    def largest(self, kind: str) -> Difference | None:
        """Returns the largest difference of a kind; None if the kind was not compared."""
        found = [figure for _, figure in self.figures if figure.kind == kind]
        return max(found, key=lambda figure: figure.largest, default=None)

    def nearest(self) -> tuple[str, Difference] | None:
        """Returns the figure nearest to its bound, or the first one out of bounds."""
        judged = [entry for entry in self.figures if entry[1].nearest]
        return max(judged, key=lambda entry: entry[1].urgency, default=None)


def pairs(document: ParityDocument) -> list[Pair]:
    """Returns all pairs: two frameworks, N devices and one, a framework and the reference."""
    found: dict[tuple[str, str, str], Pair] = {}
    for run in document.runs:
        framework = run.framework
        what = f"{framework} {run.strategy} on {run.devices}"
        for comparison in run.comparisons:
            if comparison.against == NUMPY:
                name = f"{framework} - NumPy"
            elif comparison.against == ITSELF:
                name = f"{framework}, by itself"
            elif comparison.against == f"{framework} bare":
                name = f"{framework}, N devices - bare"
            else:
                name = f"{framework} - {comparison.against.removesuffix(' bare')}"
            key = (run.case, run.dtype, name)
            pair = found.setdefault(key, Pair(model=key[0], dtype=key[1], name=name, runs=[]))
            pair.runs.append((what, comparison))
    for initial in document.initializers:
        name = "initialisers - definition"
        pair = Pair(model=initial.model, dtype="float32", name=name, runs=[])
        pair.runs.append(("NumPy", initial.comparison))
        found[initial.model, "", name] = pair
    order = {key: index for index, key in enumerate(found)}
    models = list(dict.fromkeys(model for model, _, _ in found))
    return [found[key] for key in sorted(found, key=lambda key: (models.index(key[0]), order[key]))]


def _figure(figure: Difference | None) -> str:
    """Returns the text of a difference and its step."""
    if figure is None:
        return ""
    return f"{figure.largest:.1e} @{figure.step}" if figure.largest else "0"


def _missing(pair: Pair) -> list[str]:
    """Returns why sides of a pair are missing."""
    return [c.missing for _, c in pair.runs if c.missing]


def _verdict(pair: Pair) -> str:
    if not pair.ok:
        return OUT_OF_BOUNDS
    return NOT_COMPARED if _missing(pair) else ""


def _nearest(pair: Pair) -> str:
    entry, missing = pair.nearest(), _missing(pair)
    if entry is None:
        return "; ".join(missing)
    run, figure = entry
    return "; ".join([f"{figure}, {run}" if _has_several_runs(pair) else str(figure), *missing])


def _has_several_runs(pair: Pair) -> bool:
    return len({name for name, _ in pair.runs}) > 1


def row(pair: Pair) -> list[str]:
    """Returns the cells of a pair's row, one for each of ``COLUMNS``."""
    return [
        pair.model,
        pair.dtype,
        pair.name,
        *(_figure(pair.largest(kind)) for kind in (LOSS, GRADIENTS, PARAMETERS)),
        _nearest(pair),
        _verdict(pair),
    ]


def verdict(document: ParityDocument, found: Sequence[Pair]) -> list[str]:
    """Returns the last lines of the summary: every failure, or that all pairs are within bounds.

    Differences out of bounds come first, then failed runs. With a failure, no line says that all
    pairs are within their bounds: pairs of failed runs were not compared.
    """
    lines = []
    outside = [
        (figure.first_outside[0], pair, run, figure)
        for pair in found
        for run, figure in pair.figures
        if figure.first_outside
    ]
    if outside:
        _, pair, run, figure = min(outside, key=lambda entry: entry[0])
        count = sum(not pair.ok for pair in found)
        lines.append(
            f"{OUT_OF_BOUNDS}: {count} of {counted(len(found), 'pair')}. First: {pair.model} "
            f"{pair.dtype}, {pair.name} ({run}): {figure}"
        )
    failed = [run for run in document.runs if run.error]
    lines += [f"FAILED: {run_name(run.key)}: {run.error} (log: {run.log})" for run in failed]
    if failed:
        uncompared = sum(bool(_missing(pair)) for pair in found)
        were = "was" if uncompared == 1 else "were"
        others = f"; {counted(uncompared, 'pair')} {were} not compared" if uncompared else ""
        lines.append(f"FAILED: {len(failed)} of {counted(len(document.runs), 'run')}{others}.")
    if not lines:
        runs = counted(len(document.runs), "run")
        within = (
            f"The only pair of {runs} is within its bounds"
            if len(found) == 1
            else f"All {len(found)} pairs of {runs} are within their bounds"
        )
        lines.append(f"{within} at the inputs visited.")
    return lines


def sentences(document: ParityDocument, found: Sequence[Pair]) -> list[str]:
    """Returns the summary: the session, what was skipped, and the verdict."""
    return [
        jobs.said_of_runs(document, total=len(document.runs)),
        *(f"skipped: {reason}" for reason in document.missing.values()),
        *verdict(document, found),
    ]


def _brief(pair: Pair) -> str:
    """Returns the verdict and the text of ``_nearest`` for the terminal, where columns are few."""
    entry, parts = pair.nearest(), [_verdict(pair)] if _verdict(pair) else []
    if entry is not None:
        run, figure = entry
        step, tensor, value, bound = figure.first_outside or figure.nearest or (0, "", 0.0, 0.0)
        quantity = figure.kind.partition(", ")[0]
        where = f" of {tensor}" if tensor not in ("", quantity) else ""
        said = f"{value:.1e} (bound {bound:.0e}) {quantity}{where} @{step}" if value else "0"
        on = f", {run.partition(' ')[2]}" if _has_several_runs(pair) and value else ""
        parts.append(said + on)
    return "; ".join([*parts, *_missing(pair)])


def print_pairs(found: Sequence[Pair], *, width: int) -> None:
    """Prints a heading for each model and a row for each pair; no line is longer than ``width``.

    A narrow terminal shows, of the figures of a pair, only the one nearest to its bound.
    """
    chosen = range(1, 3) if width < _LEAST_COLUMNS else range(1, 6)
    titles = [COLUMNS[index] for index in chosen]
    shown = [(pair, [row(pair)[index] for index in chosen]) for pair in found]
    console = Console(width=width)

    def widest(index: int) -> int:
        texts = [titles[index], *(cells[index] for _, cells in shown)]
        return max(len(line) for text in texts for line in text.split("\n"))

    widths = [widest(index) for index in range(len(titles))]

    def grid(*, header: bool) -> Table:
        # Every model has its own table; fixed widths align their columns.
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=header, expand=True)
        for title, size in zip(titles, widths, strict=True):
            table.add_column(title, width=size)
        table.add_column("nearest to its bound", ratio=1, overflow="fold")
        return table

    console.print(grid(header=True))
    for model, entries in itertools.groupby(shown, key=lambda entry: entry[0].model):
        console.print(Text(model, style="bold", overflow="fold"))
        table = grid(header=False)
        for pair, cells in entries:
            style = "bold red" if _verdict(pair) else None
            table.add_row(*map(Text, [*cells, _brief(pair)]), style=style)
        console.print(table)


def print_summary(document: ParityDocument, page: Path) -> None:
    """Prints a table for each model, then the summary; its last lines are the verdict.

    Args:
      document: the results.
      page: path of the page with all details.
    """
    found = pairs(document)
    print_pairs(found, width=terminal_width(TERMINAL_COLUMNS))
    print("@N: at step N. Bounds: common/parity/tolerances.py.")
    print(f"Page: {page}")
    print("\n".join(sentences(document, found)))


def _draw(title: str, entries: Sequence[Pair]) -> Figure:
    """Draws the largest difference of each step, a panel for each kind, a line for each pair."""
    kinds = [
        kind for kind in (LOSS, GRADIENTS, PARAMETERS) if any(p.largest(kind) for p in entries)
    ]
    figure = Figure(figsize=(3.4 * len(kinds) + 2.7, 3.0), dpi=110)
    panels = figure.subplots(1, len(kinds), squeeze=False)[0]
    # Fixed margins: computing them takes longer than drawing.
    width = figure.get_figwidth()
    figure.subplots_adjust(
        left=0.6 / width, right=1 - 2.5 / width, bottom=0.17, top=0.8, wspace=0.3
    )
    figure.suptitle(title, x=0.1 / width, y=0.97, ha="left", fontsize=9)
    smallest = 1e-17
    for axes, kind in zip(panels, kinds, strict=True):
        bounds = []
        for index, pair in enumerate(entries):
            figures = [f for _, f in pair.figures if f.kind == kind]
            if not figures:
                continue
            steps = sorted({step for f in figures for step in f.by_step})
            # A logarithmic axis has no 0: a difference of 0 is drawn at the bottom.
            values = [
                max(smallest, max(f.by_step.get(step, 0.0) for f in figures)) for step in steps
            ]
            axes.plot(
                steps,
                [value if math.isfinite(value) else 1e3 for value in values],
                color=COLORS[index % len(COLORS)],
                linestyle=DASHES[index % len(DASHES)],
                marker="o",
                markersize=2.5,
                linewidth=1.1,
                label=pair.name,
            )
            bounds += [f.bound for f in figures if f.bound is not None]
        for bound in sorted(set(bounds)):
            axes.axhline(bound, color="#000000", linewidth=0.8, linestyle=(0, (1, 2)))
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0e}")
        axes.set_title(kind)
        axes.set_xlabel("step")
        axes.margins(y=0.1)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper left", bbox_to_anchor=(1 - 2.45 / width, 0.85))
    return figure


def _plots(document: ParityDocument, found: Sequence[Pair]) -> list[Plot]:
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in found:
        figure = pair.largest(LOSS)
        if pair.dtype and figure and len(figure.by_step) >= _LEAST_STEPS:
            groups.setdefault((pair.model, pair.dtype), []).append(pair)

    def draw(entries: list[Pair]) -> Callable[[str], Figure]:
        return lambda title: _draw(title, entries)

    return [
        Plot(
            slug=re.sub(r"[^A-Za-z0-9._-]+", "_", f"{model}_{dtype}"),
            title=f"Largest differences: {model}, {dtype}",
            caption=(
                "The largest difference of each step; a difference of 0 lies at the bottom. Dotted "
                "lines: bounds of judged figures."
            ),
            draw=draw(entries),
            source=jobs.source(document),
        )
        for (model, dtype), entries in groups.items()
    ]


def write_page(folder: Path, document: ParityDocument) -> Path:
    """Writes one self-contained page, and its plots as files; returns the path of the page."""
    found = pairs(document)
    return jobs.write_page(
        folder / HTML,
        HTML,
        plots=_plots(document, found),
        document=document,
        bounds={name: to_record(tolerance) for name, tolerance in document.bounds.items()},
        sentences=sentences(document, found),
        columns=COLUMNS,
        rows=[(pair.ok, row(pair)) for pair in found],
    )
