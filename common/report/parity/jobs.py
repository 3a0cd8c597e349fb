"""The parts that the pages of parity and relay share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from isoscale.common.config.counts import counted
from isoscale.common.disk.json_files import write_atomically
from isoscale.common.disk.writing import remove_leftovers
from isoscale.common.machine.own_version import UNKNOWN
from isoscale.common.parity.documents import ParityDocument, RelayDocument
from isoscale.common.report.drawing.files import PLOTS, links, write_plots
from isoscale.common.report.drawing.plot import Plot, with_own_ids
from isoscale.common.report.drawing.pool import Drawing
from isoscale.common.report.formats.templates import make_environment


def said_of_runs(document: ParityDocument | RelayDocument, *, total: int) -> str:
    """Returns one sentence: number of runs, duration, tuning, platform, CPU and isoscale."""
    minutes, seconds = divmod(round(document.seconds), 60)
    kept = document.kept_runs
    of_before = f" ({kept} kept from an earlier session)" if kept else ""
    return (
        f"{counted(total, 'run')}{of_before} in {minutes}:{seconds:02d} minutes, tuning "
        f"{document.tuning}{' ' + ','.join(document.tweaks) if document.tweaks else ''}, "
        f"platform {document.platform}, {document.machine['cpu_model']}, isoscale "
        f"{document.isoscale or UNKNOWN}."
    )


def source(document: ParityDocument | RelayDocument) -> str:
    """Returns the line below each plot: machine and date."""
    return f"{document.machine['cpu_model']}; {document.time[:10]}"


def write_page(path: Path, template: str, *, plots: Sequence[Plot], **content: Any) -> Path:
    """Writes one self-contained page, and its plots as files; returns the path of the page.

    Args:
      path: path of the page.
      template: name of a template that extends ``jobs.html``.
      plots: the plots of the page.
      **content: further variables of the template.

    Raises:
      ConfigError: the folder of the plots is a link.
      FolderError: the disk is full, or the folder cannot be written.
    """
    remove_leftovers(path.parent / PLOTS)
    with Drawing(plots) as drawing:
        drawn = drawing.result()
    write_plots(path.parent / PLOTS, drawn)
    figures = [
        (plot, Markup(with_own_ids(drawn[plot.slug].svg, f"f{index}-")), links(plot.slug))
        for index, plot in enumerate(plots)
    ]
    environment = make_environment(autoescape=True)
    page = environment.get_template(template).render(figures=figures, **content)
    write_atomically(path, page)
    return path
