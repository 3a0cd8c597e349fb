"""Writes the page of ``isoscale history``, the same as Markdown, and its plots."""

from pathlib import Path

from markupsafe import Markup

from isoscale.common.disk.json_files import write_atomically
from isoscale.common.disk.writing import remove_leftovers
from isoscale.common.report.drawing.files import PLOTS, links, write_plots
from isoscale.common.report.drawing.plot import with_own_ids
from isoscale.common.report.drawing.pool import Drawing
from isoscale.common.report.formats.templates import make_environment, printable
from isoscale.common.report.study.history import COLUMNS, History
from isoscale.common.report.study.plots.history import history_plots

HTML, MARKDOWN = "history.html", "history.md"


def write_history(folder: Path, history: History) -> Path:
    """Writes ``history.html``, ``history.md`` and the plots; returns the path of the page.

    Raises:
      ConfigError: the folder of the plots is a link.
      FolderError: the disk is full, or the folder cannot be written.
    """
    plots = history_plots(history)
    for place in (folder, folder / PLOTS):
        remove_leftovers(place)
    with Drawing(plots) as drawing:
        drawn = drawing.result()
    write_plots(folder / PLOTS, drawn)
    write_atomically(folder / MARKDOWN, history.markdown(PLOTS), durable=False)
    figures = {}
    for index, plot in enumerate(plots):
        svg = Markup(with_own_ids(drawn[plot.slug].svg, f"f{index}-"))
        figures[plot.slug] = (plot, svg, links(plot.slug))
    environment = make_environment(autoescape=True, finalize=printable)
    page = environment.get_template("history.html").render(
        history=history, figures=figures, columns=[column.name for column in COLUMNS]
    )
    write_atomically(folder / HTML, page, durable=False)
    return folder / HTML
