"""Writes a study's report: HTML, Markdown, CSV, and every plot as SVG and PNG."""

from collections.abc import Mapping
from pathlib import Path

from isoscale.common.config.errors import ConfigError
from isoscale.common.disk.json_files import write_atomically
from isoscale.common.report.drawing.pool import Drawing
from isoscale.common.report.formats import csv_table, html_page, markdown
from isoscale.common.report.study.contents import make_contents
from isoscale.common.report.study.data import PLOTS, StudyData

_OURS = ".drawn"
"""Lists the plots that a report wrote."""
FEW_SETTINGS = 8
"""In a study with at most so many settings each gets plots of its own."""
DRAWN_OF_MANY = 4
"""In a larger study the first so many do."""


def default_plots(settings: int) -> int:
    """Returns how many settings get plots of their own unless the user names a number."""
    return settings if settings <= FEW_SETTINGS else DRAWN_OF_MANY


def write_report(study: StudyData, *, most_drawn: int | None = None) -> Path:
    """Writes the report into the study's folder; each file is replaced as a whole.

    Args:
      study: what was measured.
      most_drawn: how many settings get plots of their own; None: ``default_plots``.

    Returns:
      The path of ``report.html``.

    Raises:
      ConfigError: ``plots`` is a link.
      OSError: the folder cannot be written to.
    """
    if most_drawn is None:
        most_drawn = default_plots(len(study.settings))
    contents = make_contents(study, most_drawn=most_drawn)
    plots = [
        *contents.overview,
        *(plot for lanes in contents.lanes for plot in lanes.plots),
        *(plot for section in contents.sections for plot in section.plots),
    ]
    with Drawing(plots) as drawing:
        # Written while the workers draw: neither file needs a drawing.
        write_atomically(study.folder / csv_table.FILE, csv_table.to_csv(study.lines))
        write_atomically(study.folder / markdown.FILE, markdown.to_markdown(contents))
        drawn = drawing.result()
    _write_plots(study.folder / PLOTS, drawn)
    path = study.folder / html_page.FILE
    write_atomically(path, html_page.to_html(contents, drawn))
    return path


def _write_plots(folder: Path, drawn: Mapping[str, tuple[str, bytes]]) -> None:
    """Writes the drawings and removes those of an earlier report; keeps all other files."""
    if folder.is_symlink():
        raise ConfigError(f"{folder} is a link; the report writes into a folder of its own")
    folder.mkdir(exist_ok=True)
    ours = folder / _OURS
    earlier = ours.read_text(encoding="utf-8").split("\n") if ours.exists() else []
    for slug, (svg, png) in drawn.items():
        write_atomically(folder / f"{slug}.svg", svg, durable=False)
        write_atomically(folder / f"{slug}.png", png, durable=False)
    names = {path.name for path in folder.iterdir()}
    for slug in {*earlier} - drawn.keys():
        for name in {f"{slug}.svg", f"{slug}.png"} & names:
            (folder / name).unlink()
    write_atomically(ours, "\n".join(drawn))
