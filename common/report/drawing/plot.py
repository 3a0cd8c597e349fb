"""A plot that can be drawn as SVG and PNG, shared by all reports."""

import dataclasses
import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.figure import Figure

_STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # a dollar sign in a name is not a formula
    "svg.fonttype": "none",  # keeps text as text: searchable, small
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
    "axes.titley": 1.02,  # a fixed place saves the search for one
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plot:
    """A plot that can be drawn.

    Attributes:
      slug: file name without suffix.
      title: quantity and setting.
      caption: explains the plot.
      draw: returns the figure.
    """

    slug: str
    title: str
    caption: str
    draw: Callable[[], Figure]

    def render_svg(self) -> str:
        """Returns the SVG text only."""
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
            # Files become 10 % larger and are written in half the time.
            options = {"compress_level": 2}
            figure.savefig(png, format="png", metadata={"Title": self.title}, pil_kwargs=options)
        return svg, png.getvalue()


def with_own_ids(svg: str, prefix: str) -> str:
    """Returns the drawing with a prefix before each id: ids are then unique on a page."""
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r'href="#', f'href="#{prefix}', svg)
    return svg.replace("url(#", f"url(#{prefix}")
