"""Writes the report of a study: HTML, Markdown, exports, and every plot as SVG, PNG and PDF."""

from pathlib import Path

from isoscale.common.disk.json_files import write_atomically
from isoscale.common.disk.writing import remove_leftovers
from isoscale.common.report.drawing.files import PLOTS, write_plots
from isoscale.common.report.drawing.pool import Drawing
from isoscale.common.report.formats import html_page, markdown
from isoscale.common.report.study.contents import make_contents
from isoscale.common.report.study.data import StudyData
from isoscale.common.report.study.exports import write_exports

FEW_SETTINGS = 8
"""With at most this many settings, every setting gets plots."""
DRAWN_OF_MANY = 4
"""Number of settings with plots in a study with more settings."""


def default_plots(settings: int) -> int:
    """Returns the default number of settings with plots."""
    return settings if settings <= FEW_SETTINGS else DRAWN_OF_MANY


def write_report(study: StudyData, *, most_drawn: int | None = None) -> Path:
    """Writes the report into the study's folder; replaces each file atomically.

    Args:
      study: the study.
      most_drawn: largest number of settings with plots; None: ``default_plots``.

    Returns:
      The path of ``report.html``.

    Raises:
      ConfigError: ``plots`` is a link.
      FolderError: the disk is full, or the folder cannot be written.
    """
    if most_drawn is None:
        most_drawn = default_plots(len(study.settings))
    contents = make_contents(study, most_drawn=most_drawn)
    plots = [
        *contents.overview,
        *(plot for lanes in contents.lanes for plot in lanes.plots),
        *(plot for sweep in contents.sweeps for plot in sweep.plots),
        *(plot for section in contents.sections for plot in section.plots),
    ]
    for folder in (study.folder, study.folder / PLOTS):
        remove_leftovers(folder)
    with Drawing(plots) as drawing:
        # These files need no drawings, so they are written while the workers draw.
        write_exports(study)
        write_atomically(study.folder / markdown.FILE, markdown.to_markdown(contents))
        drawn = drawing.result()
    write_plots(study.folder / PLOTS, drawn)
    path = study.folder / html_page.FILE
    write_atomically(path, html_page.to_html(contents, drawn))
    return path
