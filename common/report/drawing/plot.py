"""A plot that can be drawn as SVG and PNG: what all plots of all reports have in common."""

import dataclasses
import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.figure import Figure

_STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # a dollar in a name is a dollar
    "svg.fonttype": "none",  # text stays text: searchable, small
    "svg.hashsalt": "isoscale",  # the same study gives the same file
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
    "axes.titley": 1.02,  # a title that has its place need not look for one
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plot:
    """A plot that can be drawn.

    Attributes:
      slug: file name without its ending.
      title: quantity and setting.
      caption: tells a reader how to read the plot.
      draw: makes the figure.
    """

    slug: str
    title: str
    caption: str
    draw: Callable[[], Figure]

    def render_svg(self) -> str:
        """Returns the SVG text alone."""
        with matplotlib.rc_context(_STYLE):
            return self._svg(self.draw())

    def _svg(self, figure: Figure) -> str:
        svg = io.StringIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Title": self.title})
        return svg.getvalue()[svg.getvalue().index("<svg") :]

    def render(self) -> tuple[str, bytes]:
        """Returns the SVG text and the PNG bytes."""
        with matplotlib.rc_context(_STYLE):
            figure = self.draw()
            svg, png = self._svg(figure), io.BytesIO()
            # Larger files by a tenth, written in half the time.
            options = {"compress_level": 2}
            figure.savefig(png, format="png", metadata={"Title": self.title}, pil_kwargs=options)
        return svg, png.getvalue()


def with_own_ids(svg: str, prefix: str) -> str:
    """Returns a drawing whose ids begin with a prefix, so that they are unique on a page."""
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r'href="#', f'href="#{prefix}', svg)
    return svg.replace("url(#", f"url(#{prefix}")
