"""A report as Markdown, with links to its plots."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from isoscale.common.report.drawing.files import PLOTS
from isoscale.common.report.drawing.plot import Plot
from isoscale.common.report.formats.escape import escape_markdown
from isoscale.common.report.formats.templates import make_environment
from isoscale.common.report.study.contents import Contents
from isoscale.common.report.study.data import REPORT
from isoscale.common.report.study.tables import factors, lanes, laws, runs

FILE = REPORT


def to_markdown(contents: Contents) -> str:
    """Returns the report with links to the plots; all values are escaped."""
    # Jinja2 passes every value through finalize, which escapes all values except Markup.
    environment = make_environment(finalize=_markdown_value)

    def figure(plot: Plot) -> Markup:
        title, caption = escape_markdown(plot.title), escape_markdown(plot.caption)
        return Markup(f"![{title}]({PLOTS}/{plot.slug}.png)\n\n*{title}.* {caption}")

    def row(values: Sequence[str]) -> Markup:
        return Markup(f"| {' | '.join(escape_markdown(value) for value in values)} |")

    def rule(values: Sequence[str]) -> Markup:
        return Markup(f"|{'---|' * len(values)}")

    return environment.get_template("report.md").render(
        contents=contents,
        figure=figure,
        row=row,
        rule=rule,
        lane_columns=lanes.COLUMNS,
        factor_columns=factors.COLUMNS,
        law_columns=laws.COLUMNS,
        run_columns=runs.COLUMNS,
    )


def _markdown_value(value: Any) -> Any:
    return value if isinstance(value, Markup) else escape_markdown(str(value))
