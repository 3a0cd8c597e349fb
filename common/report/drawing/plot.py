"""A plot that can be drawn as SVG, PNG and PDF, shared by all reports."""

import dataclasses
import html
import io
import re
import textwrap
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from isoscale.common.report.drawing.files import Drawn

_STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # a dollar sign in a name is not a formula
    "svg.fonttype": "none",  # keeps text as text: searchable, small
    "svg.hashsalt": "isoscale",  # the same study gives the same file
    "pdf.fonttype": 3,  # embeds outlines; cutting a TrueType font (42) takes four times as long
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titley": 1.02,  # a fixed place saves the search for one
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plot:
    """A plot that can be drawn.

    Attributes:
      slug: file name without suffix.
      title: quantity and setting; stands above the drawing, too.
      caption: explains the plot.
      draw: returns the figure, given the title.
      runs: the number of runs of each cell in the plot; None: all runs.
      source: machine, date and number of runs; stands below the drawing.
    """

    slug: str
    title: str
    caption: str
    draw: Callable[[str], Figure]
    runs: int | None = None
    source: str = ""

    def render_svg(self) -> str:
        """Returns the SVG text only."""
        with matplotlib.rc_context(_STYLE):
            return self._svg(self._figure())

    def _figure(self) -> Figure:
        figure = self.draw(self.title)
        if self.source:
            _add_below(figure, self.source)
        return figure

    def _svg(self, figure: Figure) -> str:
        svg = io.StringIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Title": self.title})
        return _with_titles(svg.getvalue()[svg.getvalue().index("<svg") :])

    def render(self) -> Drawn:
        """Returns the plot in all formats."""
        with matplotlib.rc_context(_STYLE):
            figure = self._figure()
            svg = self._svg(figure)
            for marker in figure.findobj(_shows_text):
                marker.set_visible(False)  # only browsers show its text
            # Files become 10 % larger and are written in half the time.
            options = {"compress_level": 2}
            png, pdf = io.BytesIO(), io.BytesIO()
            figure.savefig(png, format="png", metadata={"Title": self.title}, pil_kwargs=options)
            about = {"Title": self.title, "CreationDate": None}
            figure.savefig(pdf, format="pdf", metadata=about)
        return Drawn(svg=svg, png=png.getvalue(), pdf=pdf.getvalue())


_HOVER = "hover: "
"""Begins the id of a marker whose text is shown when the pointer is on the marker."""
_LINE, _CHARACTER = 0.14, 0.055
"""Height of a line below a drawing, and width of a character there, in inches."""


def add_hover(axes: Axes, x: float, y: float, text: str) -> None:
    """Adds an invisible marker: a browser shows the text when the pointer is on it."""
    axes.plot([x], [y], "o", markersize=11, alpha=0, gid=_HOVER + text, zorder=10)


def _shows_text(artist: Artist) -> bool:
    """Returns whether an artist is a marker of ``add_hover``."""
    return (artist.get_gid() or "").startswith(_HOVER)


def _with_titles(svg: str) -> str:
    """Returns the drawing with the texts of ``add_hover`` as titles, which browsers show."""

    def titled(match: re.Match[str]) -> str:
        text = html.escape(html.unescape(match[1]), quote=False)
        return f'<g class="hover"><title>{text}</title>'

    return re.sub(rf'<g id="{_HOVER}([^"]*)">', titled, svg)


def _add_below(figure: Figure, text: str) -> None:
    """Adds a line of text below a drawing; the drawing keeps its size."""
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(text, int((width - 0.2) / _CHARACTER))
    added = 0.06 + _LINE * len(lines)
    taller = height + added
    for axes in figure.axes:
        box = axes.get_position(original=True)
        bottom = (box.y0 * height + added) / taller
        axes.set_position((box.x0, bottom, box.width, box.height * height / taller))
    figure.set_size_inches(width, taller)
    figure.text(
        0.1 / width, 0.04 / taller, "\n".join(lines), fontsize=7, color="#444444", va="bottom"
    )


def with_own_ids(svg: str, prefix: str) -> str:
    """Returns the drawing with a prefix before each id: ids are then unique on a page."""
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r'href="#', f'href="#{prefix}', svg)
    return svg.replace("url(#", f"url(#{prefix}")
