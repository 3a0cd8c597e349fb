"""Shows the results of ``isoscale relay``: a table, and a page with plots."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from rich.text import Text

from isoscale.common.config.counts import counted
from isoscale.common.parity.compare import LOSS, PARAMETERS, Difference
from isoscale.common.parity.documents import RelayDocument, RelayRun
from isoscale.common.parity.tolerances import tolerance_of
from isoscale.common.report.drawing.files import PLOTS
from isoscale.common.report.drawing.plot import Plot
from isoscale.common.report.drawing.style import COLORS, DASHES
from isoscale.common.report.formats.terminal import make_table, print_table
from isoscale.common.report.parity import jobs

HTML = "relay.html"
COLUMNS = (
    "model",
    "legs",
    "against",
    "loss\n(relative)",
    "parameters at\nthe end (absolute)",
    "nearest to its bound",
    "",
)
_SMALLEST = 1e-17
"""The place of a difference of 0 on a logarithmic axis."""


def _name(run: RelayRun) -> str:
    return " > ".join(run.legs) if len(run.legs) > 1 else f"unbroken {run.legs[0]}"


def rows(document: RelayDocument) -> list[tuple[bool, list[str]]]:
    """Returns (within bounds, the texts of ``COLUMNS``) of comparisons and failed trainings.

    The sentences have the errors of failed trainings.
    """
    found = []
    for run in document.trainings():
        if run.error:
            found.append((False, [run.model, _name(run), "", "", "", "", "FAILED"]))
        for comparison in run.comparisons:
            figures = comparison.figures
            ok = comparison.ok
            judged = [figure for figure in figures.values() if figure.nearest]
            shown = max(judged, key=lambda figure: figure.urgency, default=None)
            found.append(
                (
                    ok,
                    [
                        run.model,
                        _name(run),
                        comparison.against,
                        *(
                            f"{figures[kind].largest:.1e} @{figures[kind].step}"
                            for kind in (LOSS, PARAMETERS)
                        ),
                        "not judged" if shown is None else str(shown),
                        "" if ok else "OUT OF BOUNDS",
                    ],
                )
            )
    return found


def _outside(runs: Sequence[RelayRun]) -> list[tuple[int, str, Difference]]:
    """Returns (step, the two sides, figure) of all figures out of bounds, sorted by step."""
    found = [
        (figure.first_outside[0], f"{run.model}, {_name(run)}, {comparison.against}", figure)
        for run in runs
        for comparison in run.comparisons
        for figure in comparison.figures.values()
        if figure.first_outside
    ]
    return sorted(found, key=lambda entry: entry[0])


def sentences(document: RelayDocument) -> list[str]:
    """Returns the summary; differences out of bounds come first."""
    comparisons = [c for run in document.trainings() for c in run.comparisons]
    count = sum(not c.ok for c in comparisons)
    lines = []
    for _, who, figure in _outside(document.trainings())[:1]:
        lines.append(
            f"OUT OF BOUNDS: {count} of {counted(len(comparisons), 'comparison')}. First: {who}: "
            f"{figure}"
        )
    for step, who, _ in _outside(document.unbroken)[:1]:
        lines.append(
            f"Unbroken runs, without a change of framework, are also out of bounds: {who}, at "
            f"step {step}. "
            "This training amplifies rounding. isoscale parity tests whether each step is equal; "
            "with fewer --steps, rounding stays small, and the relay tests the change of framework "
            "alone."
        )
    failed = [run for run in document.trainings() if run.error]
    lines += [f"FAILED: {run.model} {_name(run)}: {run.error}" for run in failed]
    if comparisons and not count and not failed:
        relays = counted(len(document.relays), "relay")
        unbroken = counted(len(document.unbroken), "unbroken training")
        lines.append(
            f"All within bounds: {counted(len(comparisons), 'comparison')} of {relays} and "
            f"{unbroken}."
        )
    tolerance = tolerance_of(document.dtype, routed=False)
    if tolerance.loss_steps is not None:
        lines.append(
            f"In {document.dtype} only the losses of the first {tolerance.loss_steps} steps are "
            "judged: rounding alone makes trajectories diverge."
        )
    lines.append(
        f"{document.steps} steps in {document.dtype}; "
        + jobs.said_of_runs(document, total=document.runs)
    )
    return lines


def print_summary(document: RelayDocument) -> None:
    """Prints a row for each comparison, then the summary."""
    table = make_table("")
    for name in COLUMNS:
        table.add_column(name, no_wrap=True)
    for ok, texts in rows(document):
        table.add_row(*map(Text, texts), style=None if ok else "bold red")
    print_table(table)
    print("@N: at step N. Bounds: common/parity/tolerances.py.")
    print("\n".join(sentences(document)))


def _draw(relay: RelayRun, unbroken: Sequence[RelayRun], title: str) -> Figure:
    """Draws the loss, one colour for each framework, and below it the differences of the curves."""
    frameworks = sorted({leg.split(":")[0] for leg in relay.legs})  # sorted, as in every plot
    color = dict(zip(frameworks, COLORS, strict=False))
    figure = Figure(figsize=(7.8, 5.2), dpi=110)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    figure.subplots_adjust(left=0.1, right=0.74, bottom=0.1, top=0.9, hspace=0.16)
    figure.suptitle(title, x=0.1, y=0.97, ha="left", fontsize=9)
    for run, dash in zip(unbroken, DASHES[1:], strict=False):
        above.plot(
            run.losses,
            color="#555555",
            linestyle=dash,
            linewidth=1.0,
            label=f"unbroken\n{run.legs[0]}",
        )
    first = 0
    for number, (leg, end) in enumerate(zip(relay.legs, relay.ends, strict=True), 1):
        shade = color[leg.split(":")[0]]
        above.plot(
            range(first, end),
            relay.losses[first:end],
            color=shade,
            linewidth=3.5,
            alpha=0.55,
            solid_capstyle="butt",
            label=f"leg {number}\n{leg}",
        )
        for axes in (above, below):
            if first:
                axes.axvline(first, color="#000000", linewidth=0.6, linestyle=(0, (4, 3)))
        first = end
    above.set_title("loss (nats); dashed vertical line: the next leg starts")
    bounds: set[float] = set()
    for comparison, dash in zip(relay.comparisons, DASHES[1:], strict=False):
        by_step = comparison.figures[LOSS].by_step
        values = [min(max(value, _SMALLEST), 1e3) for value in by_step.values()]
        below.plot(
            list(by_step),
            values,
            color="#555555",
            linestyle=dash,
            linewidth=1.0,
            label=f"relay against unbroken\n{comparison.against.removeprefix('unbroken ')}",
        )
        bound = comparison.figures[LOSS].bound
        bounds |= {bound} if bound else set()
    for bound in bounds:
        below.axhline(bound, color="#D55E00", linewidth=1.0)
        below.annotate(
            f"bound {bound:.1e}",
            (0.01, bound),
            xycoords=("axes fraction", "data"),
            va="bottom",
            fontsize=8,
            color="#D55E00",
        )
    below.set_yscale("log")
    below.yaxis.set_major_formatter(lambda value, _: f"{value:.0e}")
    below.set_title("relative difference of the losses (0 lies at the bottom)")
    below.set_xlabel("step")
    for axes in (above, below):
        axes.margins(x=0.01, y=0.12)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.03), fontsize=7.5)
    return figure


def _plots(document: RelayDocument) -> list[Plot]:
    """Returns one plot for each model: its first relay that succeeded."""

    def draw(relay: RelayRun) -> Callable[[str], Figure]:
        runs = [r for r in document.unbroken if r.model == relay.model and not r.error]
        return lambda title: _draw(relay, runs, title)

    shown: dict[str, RelayRun] = {}
    for relay in document.relays:
        if not relay.error and relay.comparisons:
            shown.setdefault(relay.model, relay)
    return [
        Plot(
            slug=f"relay_{model.replace('/', '-')}",
            title=f"Loss of a relay: {model}, {document.dtype}, {_name(relay)}",
            caption="Thick: the relay, one colour for each framework. Thin: unbroken runs.",
            draw=draw(relay),
            source=jobs.source(document),
        )
        for model, relay in shown.items()
    ]


def write_page(folder: Path, document: RelayDocument) -> Path:
    """Writes one self-contained page, and its plots as files; returns the path of the page."""
    shutil.rmtree(folder / PLOTS, ignore_errors=True)  # an earlier version listed no drawings
    return jobs.write_page(
        folder / HTML,
        HTML,
        plots=_plots(document),
        document=document,
        sentences=sentences(document),
        columns=COLUMNS,
        rows=rows(document),
    )
