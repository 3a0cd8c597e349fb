"""A report as one HTML page that needs no other file."""

from collections.abc import Mapping

from markupsafe import Markup

from isoscale.common.report.drawing.files import Drawn, links
from isoscale.common.report.drawing.plot import Plot, with_own_ids
from isoscale.common.report.formats.templates import make_environment, printable
from isoscale.common.report.study.contents import Contents
from isoscale.common.report.study.tables import factors, lanes, laws, runs

FILE = "report.html"


def to_html(contents: Contents, drawn: Mapping[str, Drawn]) -> str:
    """Returns the page; all values are escaped.

    Args:
      contents: contents of the report.
      drawn: slug -> its drawing.
    """
    environment = make_environment(autoescape=True, finalize=printable)
    prefixes = {slug: f"f{index}-" for index, slug in enumerate(drawn)}

    def figure(plot: Plot) -> Markup:
        svg = with_own_ids(drawn[plot.slug].svg, prefixes[plot.slug])
        return Markup(
            '<figure id="{}" role="img" aria-label="{}">{}<figcaption><b>{}.</b> {} {}</figcaption>'
            "</figure>"
        ).format(*(plot.slug, plot.title, Markup(svg), plot.title, plot.caption, links(plot.slug)))

    return environment.get_template("report.html").render(
        contents=contents,
        figure=figure,
        lane_columns=lanes.COLUMNS,
        factor_columns=factors.COLUMNS,
        law_columns=laws.COLUMNS,
        run_columns=runs.COLUMNS,
    )
