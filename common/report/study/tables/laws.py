"""The table of the laws of scaling: what limits each series on more devices."""

import math
from collections.abc import Sequence

from isoscale.common.analysis.laws import Figure, Fit
from isoscale.common.analysis.series_laws import SeriesLaws
from isoscale.common.report.words import NO_VALUE, number

COLUMNS = ("series", "devices", "serial fraction (Karp-Flatt) [95 %]", "law [95 %]", "goodness")

METHOD = (
    "Laws of scaling compare a strategy on several devices with itself on one; bare is another "
    "program, whose wrapper cost would pass for serial work. Only for the Karp-Flatt fraction, and "
    "marked, does bare replace a strategy that was not measured on one device. With N devices and "
    "the speedup S: the serial fraction is (1/S - 1/N) / (1 - 1/N); if it grows with N, the cause "
    "is overhead, not serial work (Karp & Flatt 1990). With weak scaling it is the growth of time "
    "per step for each further device. Strong scaling is fitted to Amdahl's law (1967), weak to "
    "Gustafson's (1988), both to the universal scalability law, USL (Gunther 2007), by weighted "
    "least squares on log throughput; devices that share cores are left out. The unit of "
    "statistics is the group, or the run. A law fits unless an F test shows, at 0.05, deviations "
    "beyond the noise; the table names the one with the fewest parameters that fits, or says that "
    "no law fits. A fit needs 4 device counts and 3 groups or runs. Parameters are estimated. The "
    "dashed ends of speedup curves are estimated from the law, up to twice the devices measured."
)


def rows(found: Sequence[SeriesLaws]) -> list[list[str]]:
    """Returns one row for each series, under ``COLUMNS``."""
    return [
        [
            laws.series,
            ", ".join(map(str, laws.devices)),
            _serial(laws),
            laws.reason or (law_text(laws.best) if laws.best else "no law fits"),
            "; ".join(_goodness(fit) for fit in laws.fits) or NO_VALUE,
        ]
        for laws in found
    ]


def _serial(laws: SeriesLaws) -> str:
    points = [f"{point.devices}: {_figure(point.serial)}" for point in laws.points]
    if not points:
        return "not measured on one device"
    return "; ".join(points) + (" (against bare)" if laws.against_bare else "")


def law_text(fit: Fit) -> str:
    """Returns the name of a law with its parameters, and the peak of USL."""
    parts = [f"{name} {_figure(figure)}" for name, figure in fit.parameters.items()]
    text = f"{fit.law.name}: {', '.join(parts)}"
    if fit.peak is None:
        return text
    if math.isinf(fit.peak.value):
        return f"{text}; no peak"
    ends = [
        "no peak" if end is not None and math.isinf(end) else number(end, digits=1)
        for end in (fit.peak.low, fit.peak.high)
    ]
    return f"{text}; peak at {fit.peak.value:.1f} devices [{', '.join(ends)}]"


def _figure(figure: Figure) -> str:
    """Returns a share with its interval; two decimals for large shares, more for small ones."""
    known = [figure.value, *(end for end in (figure.low, figure.high) if end is not None)]
    digits = 3 if max(map(abs, known)) >= 0.02 else 5
    text = number(figure.value, digits=digits)
    if figure.low is None or figure.high is None:
        return text
    low, high = (number(end, digits=digits) for end in (figure.low, figure.high))
    return f"{text} [{low}, {high}]"


def _goodness(fit: Fit) -> str:
    p = "p < 0.001" if fit.p < 0.001 else f"p = {fit.p:.3f}"
    return f"{fit.law.name} {p}, off by at most {100 * fit.deviation:.1f} %"
