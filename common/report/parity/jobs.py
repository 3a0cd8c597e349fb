"""The parts that the pages of parity and relay share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from isoscale.common.config.counts import counted
from isoscale.common.disk.json_files import write_atomically
from isoscale.common.machine.own_version import UNKNOWN
from isoscale.common.parity.documents import ParityDocument, RelayDocument
from isoscale.common.report.drawing.plot import Plot, with_own_ids
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


def write_page(
    path: Path, template: str, *, drawn: Sequence[tuple[Plot, str]], **content: Any
) -> Path:
    """Writes one self-contained page; returns its path.

    Args:
      path: path of the page.
      template: name of a template that extends ``jobs.html``.
      drawn: (plot, its SVG).
      **content: further variables of the template.
    """
    figures = [
        (plot, Markup(with_own_ids(svg, f"f{index}-"))) for index, (plot, svg) in enumerate(drawn)
    ]
    environment = make_environment(autoescape=True)
    page = environment.get_template(template).render(figures=figures, **content)
    write_atomically(path, page)
    return path
