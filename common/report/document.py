"""The contents of a report, as plain values that both templates show."""

import dataclasses
import json
import math
import re
import statistics
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from common.analysis.estimates import Estimate, Ratio
from common.analysis.scaling import CellSummary
from common.analysis.settings import Setting, cell_name
from common.analysis.verdicts import (
    RULE,
    Verdict,
    champions,
    evidence_text,
    overall,
    ratio_text,
)
from common.report.answers import Glance, answer, glance
from common.report.manifest import Manifest, make_manifest
from common.report.plots import Plot, draw_overview, setting_plots
from common.report.study_data import StudyData

NO_VALUE = "-"
OVERVIEW_ROWS = 40
SENTENCES_FIRST = 8
"""With more settings than that the sentences stand with their setting, and a table comes first."""
LOSS_TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
"""Largest relative spread of the first loss between cells that compute the same thing."""

CELL_COLUMNS = (
    "cell",
    "processes",
    "runs",
    "time per step, ms",
    "throughput, examples/s",
    "speedup against bare",
    "efficiency, %",
    "latency of one step, ms",
    "memory, MiB",
    "compile, s",
    "loss, first",
    "loss, last",
    "accuracy, %",
    "marks",
)
RUN_COLUMNS = (
    "order",
    "cell",
    "setting",
    "run",
    "seed",
    "status",
    "time per step, ms",
    "p10 to p90 of windows, ms",
    "latency, ms",
    "examples/s",
    "compile, s",
    "memory, MiB",
    "loss, first",
    "loss, last",
    "load from outside, %",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """What a report says about one setting.

    Attributes:
      title, anchor: of the setting.
      sentences: the answer.
      verdicts: (comparison, ratio, evidence, outcome) rows.
      rows: of the table of cells, under ``CELL_COLUMNS``.
      remarks: on what a run consists of, and on the losses.
      plots: of the setting; [] if they are left out.
    """

    title: str
    anchor: str
    sentences: list[str]
    verdicts: list[tuple[str, str, str, str]]
    rows: list[list[str]]
    remarks: list[str]
    plots: list[Plot]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Document:
    """A whole report."""

    name: str
    command: str
    measured: str
    counts: str
    headline: list[str]
    glances: list[Glance]
    overview: list[Plot]
    sentences_first: bool
    sections: list[Section]
    undrawn: int
    manifest: Manifest
    method: list[str]
    problems: list[tuple[str, list[str]]]
    run_rows: list[list[str]]


def _number(value: float | None, *, scale: float = 1.0, digits: int | None = None) -> str:
    """Returns a figure with four significant digits, or with so many after the point."""
    if value is None:
        return NO_VALUE
    scaled = scale * value
    if digits is None:
        magnitude = math.floor(math.log10(abs(scaled))) if scaled else 0
        digits = min(6, max(0, 3 - magnitude))
    return f"{scaled:.{digits}f}"


def _estimate(estimate: Estimate | None, *, scale: float = 1.0) -> str:
    if estimate is None:
        return NO_VALUE
    text = _number(estimate.median, scale=scale)
    if estimate.low is None or estimate.high is None:
        return text
    mark = " (t)" if estimate.method == "t on log time" else ""
    low, high = _number(estimate.low, scale=scale), _number(estimate.high, scale=scale)
    return f"{text} [{low}, {high}]{mark}"


def _ratio(ratio: Ratio | None, *, scale: float = 1.0, digits: int = 2) -> str:
    if ratio is None:
        return NO_VALUE
    text = f"{scale * ratio.value:.{digits}f}"
    if ratio.low is None or ratio.high is None:
        return text
    return f"{text} [{scale * ratio.low:.{digits}f}, {scale * ratio.high:.{digits}f}]"


def _median(lines: Sequence[dict[str, Any]], key: str) -> float | None:
    values = [line[key] for line in lines if line.get(key) is not None]
    return statistics.median(values) if values else None


def marks(summary: CellSummary) -> list[str]:
    """Returns what a reader must know before using a cell's figures."""
    found = []
    if summary.cell["oversubscribed"]:
        found.append("oversubscribed")
    if summary.disturbed:
        found.append(f"{summary.disturbed} of {len(summary.ok)} disturbed")
    unknown = sum(line.get("disturbed") is None for line in summary.ok)
    if unknown:
        found.append(f"load from outside unknown for {unknown}")
    if summary.items_per_second_without_outliers is not None:
        without = _number(summary.items_per_second_without_outliers)
        found.append(
            f"{len(summary.outliers)} outlier{'s' if len(summary.outliers) > 1 else ''} "
            f"(without: {without} examples/s)"
        )
    found += [f"{n} {status}" for status, n in summary.statuses.items() if status != "ok"]
    return found


def _cell_row(name: str, summary: CellSummary) -> list[str]:
    ok = summary.ok
    accuracies = [line["eval"]["accuracy"] for line in ok if line.get("eval")]
    accuracy = statistics.median(accuracies) if accuracies else None
    return [
        name,
        str(summary.cell["processes"]),
        str(len(ok)),
        _estimate(summary.step_seconds, scale=1e3),
        _estimate(summary.items_per_second),
        _ratio(summary.speedup),
        _ratio(summary.efficiency, scale=100, digits=0),
        _estimate(summary.latency_seconds, scale=1e3),
        _number(_median(ok, "peak_memory_bytes"), scale=2**-20, digits=0),
        _number(_median(ok, "compile_seconds"), digits=2),
        _number(_median(ok, "loss_first"), digits=5),
        _number(_median(ok, "loss_last"), digits=5),
        _number(accuracy, scale=100, digits=1),
        "; ".join(marks(summary)),
    ]


def _verdict_row(verdict: Verdict) -> tuple[str, str, str, str]:
    return (
        f"{verdict.subject} against {verdict.other}",
        ratio_text(verdict.ratio),
        evidence_text(verdict.ratio, verdict.p),
        verdict.outcome,
    )


def _loss_remarks(setting: Setting) -> list[str]:
    """Says whether all cells of a setting started at the same loss: they should."""
    spreads: list[float] = []
    last: list[float] = []
    runs = {line["run"] for _, cell in setting.cells for line in cell.ok}
    for run in sorted(runs):
        lines = [line for _, cell in setting.cells for line in cell.ok if line["run"] == run]
        for key, found in (("loss_first", spreads), ("loss_last", last)):
            losses = [line[key] for line in lines if line.get(key) is not None]
            if len(losses) > 1 and max(losses) > 0:
                found.append((max(losses) - min(losses)) / max(losses))
    if not spreads:
        return []
    bound = LOSS_TOLERANCE.get(setting.cells[0][1].cell["dtype"])
    text = (
        f"Runs with the same seed: the first losses differ by {max(spreads):.1e} of their size at "
        f"most, the last by {max(last):.1e}."
    )
    if bound is None or max(spreads) <= bound:
        return [text]
    return [
        f"! {text} That is more than {bound:.0e}: these cells do not compute the same thing, and "
        "their times must not be compared."
    ]


def _steps_remark(study: StudyData, setting: Setting) -> list[str]:
    """Says what a run of the setting consists of, from the first whose record is there."""
    for _, cell in setting.cells:
        for line in cell.ok[:1]:
            config = study.config(line)
            if config is not None:
                return [
                    f"A run: 1 compiling step, {config['warmup_steps']} to warm up, "
                    f"{config['steps']} measured in windows of {config['window_steps']}, "
                    f"{config['latency_steps']} windows of one step between them; at most "
                    f"{config['max_in_flight']} steps in flight."
                ]
    return []


def _section(
    study: StudyData, setting: Setting, frameworks: Sequence[str], *, anchor: str, drawn: bool
) -> Section:
    return Section(
        title=setting.title,
        anchor=anchor,
        sentences=answer(study, setting),
        verdicts=[_verdict_row(verdict) for verdict in study.verdicts[setting.title]],
        rows=[_cell_row(name, cell) for name, cell in setting.cells],
        remarks=[*_steps_remark(study, setting), *_loss_remarks(setting)],
        plots=setting_plots(study, setting, frameworks) if drawn else [],
    )


def _headline(study: StudyData) -> list[str]:
    """Returns sentences about the study as a whole: how much of it may be relied upon."""
    counts = [len(summary.ok) for summary in study.summaries if summary.ok]
    sentences = []
    if not counts:
        return ["No run was successful: there is nothing to compare."]
    if max(counts) < 3:
        runs = "One run" if max(counts) == 1 else "At most two runs"
        sentences.append(
            f"{runs} of each cell: there is no interval and no verdict. The figures below were "
            "measured, but nothing says how far another run would be from them; with six runs "
            "(--resume --runs=6) there would be."
        )
    elif min(counts) < 3:
        sentences.append("Some cells have fewer than 3 runs: for those there is no verdict.")
    verdicts = [verdict for found in study.verdicts.values() for verdict in found]
    decided = [verdict for verdict in verdicts if verdict.outcome != "no verdict"]
    if decided:
        even = sum(verdict.outcome == "no difference shown" for verdict in decided)
        sentences.append(
            f"Of {len(decided)} comparisons, {len(decided) - even} show a difference and {even} "
            "show none."
        )
    wins: dict[str, int] = {}
    for row in [_first_choice(study, setting) for setting in study.settings]:
        if row is not None:
            wins[row] = wins.get(row, 0) + 1
    if wins and decided:
        listed = ", ".join(f"{name} for {count}" for name, count in wins.items())
        sentences.append(f"Shown to be fastest at any number of devices: {listed} setting(s).")
    return sentences


def _first_choice(study: StudyData, setting: Setting) -> str | None:
    """Returns the framework that is shown to be faster than all others, if one is."""
    if not champions(setting):
        return None
    asked = overall(setting, study.verdicts[setting.title])
    shown = asked and all(verdict.outcome == "faster" for verdict in asked)
    return asked[0].subject_cell.cell["framework"] if shown else None


def _problems(study: StudyData) -> list[tuple[str, list[str]]]:
    """Returns all that failed, was skipped, disturbed or oversubscribed, by kind."""
    names = {
        id(cell): f"{cell_name(series, cell.cell['devices'])} ({setting.title})"
        for setting in study.settings
        for series, cells in setting.series.items()
        for cell in cells
    }
    kinds: dict[str, list[str]] = {
        "Failed": [],
        "Diverged": [],
        "Skipped": [],
        "Disturbed by other programs": [],
        "Load from outside unknown": [],
        "Oversubscribed: devices shared cores, so these show overhead, not scaling": [],
        "Outliers (modified z-score above 3.5; kept in all figures)": [],
        "Left with a warning after the result was complete": [],
    }
    failed, diverged, skipped, disturbed, unknown, shared, far, warned = kinds.values()
    by_status = {"failed": failed, "diverged": diverged, "skipped": skipped}
    lines_of: dict[str, list[dict[str, Any]]] = {}
    for line in study.lines:
        if line["status"] != "ok":
            key = json.dumps(line["cell"], sort_keys=True)
            lines_of.setdefault(key, []).append(line)
    for summary in study.summaries:
        name = names[id(summary)]
        for line in lines_of.get(json.dumps(summary.cell, sort_keys=True), []):
            by_status.get(line["status"], failed).append(
                f"{name}, run {line['run']}: {line['error']}"
            )
        for line in summary.ok:
            if line.get("disturbed"):
                share = 100 * (line.get("outside_load_share") or 0)
                disturbed.append(
                    f"{name}, run {line['run']}: others used {share:.0f} % of one of its cores"
                )
            if line.get("exit_warning"):
                warned.append(f"{name}, run {line['run']}: {line['exit_warning']}")
        quiet = [str(line["run"]) for line in summary.ok if line.get("disturbed") is None]
        if quiet:
            unknown.append(f"{name}: run {', '.join(quiet)} (measured for too short a time)")
        if summary.cell["oversubscribed"]:
            shared.append(name)
        if summary.outliers:
            far.append(
                f"{name}: run {', '.join(map(str, summary.outliers))}; median "
                f"{_number(summary.items_per_second.median if summary.items_per_second else None)} "
                "examples/s with, "
                f"{_number(summary.items_per_second_without_outliers)} without"
            )
    return [(kind, entries) for kind, entries in kinds.items() if entries]


def _drift(study: StudyData) -> str | None:
    """Returns how run times changed over the study, cells with several runs taken together."""
    from scipy import stats

    xs, ys = [], []
    for summary in study.summaries:
        if len(summary.ok) < 2 or summary.step_seconds is None:
            continue
        for line in summary.ok:
            xs.append(line["sequence"])
            ys.append(math.log(line["step_seconds"]["median"] / summary.step_seconds.median))
    if len(xs) < 6 or len(set(xs)) < 3:
        return None
    fit = stats.linregress(xs, ys)
    span = max(xs) - min(xs)
    half = fit.stderr * stats.t.ppf(0.975, len(xs) - 2)
    low, high = (100 * math.expm1(span * (fit.slope + sign * half)) for sign in (-1, 1))
    change = 100 * math.expm1(span * fit.slope)
    return (
        f"Drift over the study, from first to last run: {change:+.1f} % time per step "
        f"[{low:+.1f}, {high:+.1f}] (regression of log time on order, {len(xs)} runs)."
    )


def _method(study: StudyData) -> list[str]:
    count = sum(verdict.p is not None for found in study.verdicts.values() for verdict in found)
    clocks = [
        line["clock_reading_seconds"]
        for line in study.lines
        if line.get("clock_reading_seconds") is not None
    ]
    paragraphs = [
        "Every run is a fresh process (or one per device). Runs of all cells are interleaved in a "
        f"random order from seed {study.record['order_seed']}; the run, not the step, is the unit "
        "of statistics.",
        "A window is whole training steps between two synchronised clock readings, nothing else. "
        "Windows of many steps give time per step and throughput (examples / seconds over all "
        "windows), windows of one step give latency. With several ranks the slowest counts. The "
        "first step (compile) and the warm-up are excluded and reported apart.",
        "Medians over runs with a 95 % interval: order statistics from 6 runs on; for 3 to 5 runs "
        "a t interval on log time, marked (t); none below 3.",
        RULE.format(n=count)
        + " 'A is 1.20x faster than B' means that A does 1.20 times the examples per second of B. "
        "The fastest strategy of each framework takes part in the comparison of frameworks.",
        "Speedup is throughput against the same framework's bare step on one device (no "
        "distribution wrapper); efficiency is speedup / devices. Both are derived; all else is "
        "measured. Nothing in this report is estimated.",
    ]
    if study.machines and not any(machine["gpus"] for machine in study.machines):
        paragraphs.append(
            "CPU devices of one machine share caches and memory bandwidth, which a second machine "
            "or accelerator would not."
        )
    if any(summary.cell["strategy"] == "pmap" for summary in study.summaries):
        paragraphs.append(
            "pmap is built on jit and shard_map in current JAX: a gap to pjit is API overhead."
        )
    if clocks:
        paragraphs.append(
            f"Reading the clock took {1e9 * statistics.median(clocks):.0f} ns (median over runs)."
        )
    drift = _drift(study)
    return [*paragraphs, *([drift] if drift else [])]


def _run_rows(study: StudyData) -> Iterator[list[str]]:
    names = {
        json.dumps(cell.cell, sort_keys=True): (
            cell_name(series, cell.cell["devices"]),
            setting.title,
        )
        for setting in study.settings
        for series, cells in setting.series.items()
        for cell in cells
    }
    for line in study.lines:
        name, setting = names[json.dumps(line["cell"], sort_keys=True)]
        step = line.get("step_seconds") or {}
        latency = line.get("latency_seconds") or {}
        spread = NO_VALUE
        if step.get("p10") is not None:
            spread = f"{_number(step['p10'], scale=1e3)} to {_number(step['p90'], scale=1e3)}"
        yield [
            str(line.get("sequence", NO_VALUE)),
            name,
            setting,
            str(line["run"]),
            str(line.get("seed", NO_VALUE)),
            line["status"],
            _number(step.get("median"), scale=1e3),
            spread,
            _number(latency.get("median"), scale=1e3),
            _number(line.get("items_per_second")),
            _number(line.get("compile_seconds"), digits=2),
            _number(line.get("peak_memory_bytes"), scale=2**-20, digits=0),
            _number(line.get("loss_first"), digits=5),
            _number(line.get("loss_last"), digits=5),
            _number(line.get("outside_load_share"), scale=100, digits=1),
        ]


def make_document(study: StudyData, *, command: str, most_drawn: int | None) -> Document:
    """Returns the contents of a study's report.

    Args:
      study: what was measured.
      command: the command that made the study.
      most_drawn: how many settings get plots of their own; None: all.
    """
    frameworks = sorted({summary.cell["framework"] for summary in study.summaries})
    limit = len(study.settings) if most_drawn is None else most_drawn
    sections = [
        _section(study, setting, frameworks, anchor=f"s{index}", drawn=index < limit)
        for index, setting in enumerate(study.settings)
    ]
    compared = [setting for setting in study.settings if champions(setting)]
    overview = []
    for first in range(0, len(compared), OVERVIEW_ROWS):
        page = compared[first : first + OVERVIEW_ROWS]
        overview.append(
            Plot(
                slug=f"overview{f'_{first // OVERVIEW_ROWS + 1}' if first else ''}",
                kind="overview",
                title="The fastest cell of each framework",
                caption="For each setting, the throughput of each framework's fastest strategy "
                "and device count, relative to the fastest of all. Differences are verdicts only "
                "where the text says so.",
                draw=partial(draw_overview, page, frameworks),
            )
        )
    started = sorted(line["started"] for line in study.lines if line.get("started"))
    measured = f"{_minute(started[0])} to {_minute(started[-1])} UTC" if started else "unknown"
    statuses: dict[str, int] = {}
    for line in study.lines:
        statuses[line["status"]] = statuses.get(line["status"], 0) + 1
    counts = (
        f"{len(study.summaries)} cells in {len(study.settings)} setting(s), {len(study.lines)} "
        f"runs: {', '.join(f'{n} {status}' for status, n in statuses.items())}"
    )
    return Document(
        name=study.name,
        command=command,
        measured=measured,
        counts=counts,
        headline=_headline(study),
        glances=[glance(study, setting) for setting in study.settings],
        overview=overview,
        sentences_first=len(sections) <= SENTENCES_FIRST,
        sections=sections,
        undrawn=max(0, len(study.settings) - limit),
        manifest=make_manifest(
            study.summaries,
            study.machines,
            scaling=study.scaling,
            framework_facts=study.framework_facts(),
        ),
        method=_method(study),
        problems=_problems(study),
        run_rows=list(_run_rows(study)),
    )


def _minute(timestamp: str) -> str:
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d).*", r"\1 \2", timestamp)
