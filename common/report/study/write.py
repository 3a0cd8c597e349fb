"""Writes a study's report: HTML, Markdown, CSV, and every plot as SVG and PNG."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from isoscale.common.config.errors import ConfigError
from isoscale.common.disk.json_files import write_atomically
from isoscale.common.report.study.data import PLOTS, StudyData
from isoscale.common.report.study.document import CELL_COLUMNS, RUN_COLUMNS, Document, make_document
from isoscale.common.report.study.lanes import COLUMNS as LANE_COLUMNS
from isoscale.common.report.study.plots import Drawing, Plot

HTML = "report.html"
MARKDOWN = "report.md"
CSV = "results.csv"
_OURS = ".drawn"
"""Lists the plots that a report wrote."""
FEW_SETTINGS = 8
"""So many settings get plots of their own, each; of a study with more only the first few do."""
DRAWN_OF_MANY = 4

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_MARKDOWN = re.compile(r"([\\`*|~$])")
_EDGE_UNDERSCORE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def default_plots(settings: int) -> int:
    """Returns how many settings get plots of their own where nobody says so."""
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
    document = make_document(study, most_drawn=most_drawn)
    plots = [
        *document.overview,
        *(plot for lanes in document.lanes for plot in lanes.plots),
        *(plot for section in document.sections for plot in section.plots),
    ]
    with Drawing(plots) as drawing:
        # What needs no drawing is written while others draw.
        write_atomically(study.folder / CSV, to_csv(study.lines))
        write_atomically(study.folder / MARKDOWN, to_markdown(document))
        drawn = drawing.result()
    _write_plots(study.folder / PLOTS, drawn)
    write_atomically(study.folder / HTML, to_html(document, drawn))
    return study.folder / HTML


def _write_plots(folder: Path, drawn: Mapping[str, tuple[str, bytes]]) -> None:
    """Writes the drawings, and removes those of an earlier report; other files are left alone."""
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


# HTML.


def to_html(document: Document, drawn: Mapping[str, tuple[str, bytes]]) -> str:
    """Returns one page that needs nothing else; all values are escaped."""
    environment = make_environment(autoescape=True, finalize=_printable)
    prefixes = {slug: f"f{index}-" for index, slug in enumerate(drawn)}

    def figure(plot: Plot) -> Markup:
        svg = with_own_ids(drawn[plot.slug][0], prefixes[plot.slug])
        return Markup(
            '<figure id="{}" role="img" aria-label="{}">{}<figcaption><b>{}.</b> {} '
            '<a href="{}/{}.png">PNG</a> <a href="{}/{}.svg">SVG</a></figcaption></figure>'
        ).format(
            *(plot.slug, plot.title, Markup(svg), plot.title, plot.caption),
            *(PLOTS, plot.slug, PLOTS, plot.slug),
        )

    return environment.get_template("report.html").render(
        doc=document,
        figure=figure,
        cell_columns=CELL_COLUMNS,
        lane_columns=LANE_COLUMNS,
        run_columns=RUN_COLUMNS,
    )


def with_own_ids(svg: str, prefix: str) -> str:
    """Makes the ids of an inline drawing differ from those of the others on the page."""
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r'href="#', f'href="#{prefix}', svg)
    return svg.replace("url(#", f"url(#{prefix}")


def make_environment(**settings: Any) -> Environment:
    return Environment(
        loader=PackageLoader("isoscale.common.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **settings,
    )


# Markdown.


def to_markdown(document: Document) -> str:
    """Returns the report with links to the plots; all values are escaped."""
    # Every value passes through finalize; what is already Markdown says so by its type.
    environment = make_environment(finalize=_markdown_value)

    def figure(plot: Plot) -> Markup:
        title, caption = escape_markdown(plot.title), escape_markdown(plot.caption)
        return Markup(f"![{title}]({PLOTS}/{plot.slug}.png)\n\n*{title}.* {caption}")

    def row(values: Sequence[str]) -> Markup:
        return Markup(f"| {' | '.join(escape_markdown(value) for value in values)} |")

    def rule(values: Sequence[str]) -> Markup:
        return Markup(f"|{'---|' * len(values)}")

    return environment.get_template("report.md").render(
        doc=document,
        figure=figure,
        row=row,
        rule=rule,
        cell_columns=CELL_COLUMNS,
        lane_columns=LANE_COLUMNS,
        run_columns=RUN_COLUMNS,
    )


def _printable(value: Any) -> Any:
    """Removes what no page may hold; a log's last line can have anything."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _CONTROL.sub("", value)


def _markdown_value(value: Any) -> Any:
    return value if isinstance(value, Markup) else escape_markdown(str(value))


def escape_markdown(text: str) -> str:
    """Returns text that stands for itself inside a line or a table cell of Markdown."""
    text = (
        " ".join(_printable(text).split())
        .replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
    )
    text = _MARKDOWN.sub(r"\\\1", text)
    # An underscore inside a word is harmless and common in names; brackets are, but for links.
    text = _EDGE_UNDERSCORE.sub(r"\\_", text)
    return text.replace("](", "]\\(").replace("][", "]\\[")


# CSV.

_RUN_FIELDS = (
    ("sequence", "sequence"),
    ("run", "run"),
    ("seed", "seed"),
    ("status", "status"),
    ("error", "error"),
    ("started", "started_utc"),
    ("step_seconds.median", "step_seconds_median"),
    ("step_seconds.mean", "step_seconds_mean"),
    ("step_seconds.p10", "step_seconds_p10"),
    ("step_seconds.p90", "step_seconds_p90"),
    ("step_seconds.n", "throughput_windows"),
    ("latency_seconds.median", "latency_seconds_median"),
    ("latency_seconds.p10", "latency_seconds_p10"),
    ("latency_seconds.p90", "latency_seconds_p90"),
    ("latency_seconds.n", "latency_windows"),
    ("items_per_second", "examples_per_second"),
    ("tokens_per_second", "tokens_per_second"),
    ("compile_seconds", "compile_seconds"),
    ("loss_first", "loss_first_nats"),
    ("loss_last", "loss_last_nats"),
    ("eval.accuracy", "accuracy_fraction"),
    ("eval.loss", "eval_loss_nats"),
    ("eval.n", "eval_labels"),
    ("parameters", "parameters"),
    ("flops_per_step", "flops_per_step_analytic"),
    ("peak_memory_bytes", "peak_memory_bytes"),
    ("outside_load_share", "outside_load_share_of_one_core"),
    ("disturbed", "disturbed"),
    ("wall_seconds", "wall_seconds"),
    ("exit_warning", "exit_warning"),
    ("run_dir", "run_dir"),
)


_TUNING_FIELDS = ("tuning", "tweaks")


def to_csv(lines: Sequence[Mapping[str, Any]]) -> str:
    """Returns a row for every run; unknown or none is empty. No cell can be taken for a formula."""
    found = dict.fromkeys(name for line in lines for name in line["cell"])
    # Cells without tweaks do not name them; the column is there all the same.
    cell_names = list(dict.fromkeys([*found, *_TUNING_FIELDS]))
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow([*map(_csv_value, cell_names), *(column for _, column in _RUN_FIELDS)])
    for line in lines:
        cell = [_csv_value(line["cell"].get(name)) for name in cell_names]
        writer.writerow([*cell, *(_csv_value(_field(line, path)) for path, _ in _RUN_FIELDS)])
    return output.getvalue()


def _field(line: Mapping[str, Any], path: str) -> Any:
    value: Any = line
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _csv_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        value = " ".join(f"{name}={entry}" for name, entry in value.items())
    elif isinstance(value, list):
        value = ",".join(map(str, value))
    if not isinstance(value, str):
        return value
    value = " ".join(_printable(value).split())
    # Spreadsheets run text that begins like this (OWASP: CSV injection).
    return f"'{value}" if value.startswith(("=", "+", "-", "@")) else value
