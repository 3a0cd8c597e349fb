"""The contents of a report, as plain values that both templates show."""

import dataclasses
import math
import re
import shlex
import statistics
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from isoscale.common.analysis.estimates import LEAST_RUNS
from isoscale.common.analysis.losses import LossSpread
from isoscale.common.analysis.scaling import CellSummary, cell_key
from isoscale.common.analysis.settings import Setting
from isoscale.common.analysis.verdicts import (
    RULE,
    Verdict,
    champions,
    evidence_text,
    overall,
    ratio_text,
)
from isoscale.common.measure.session import DISTURBED_SHARE
from isoscale.common.registry import lookup
from isoscale.common.report.study.answers import Glance, answer, glance
from isoscale.common.report.study.data import StudyData
from isoscale.common.report.study.lanes import introduction, rows, sentences
from isoscale.common.report.study.manifest import Manifest
from isoscale.common.report.study.plots import (
    Plot,
    draw_overview,
    loss_curves,
    setting_plots,
    waterfall_plots,
)
from isoscale.common.report.words import (
    NO_VALUE,
    accuracy_of,
    estimate,
    marks,
    median_of,
    number,
    ratio,
)

OVERVIEW_ROWS = 40
SENTENCES_FIRST = 8
"""With more settings than that the sentences stand with their setting, and a table comes first."""
NOTABLE_DRIFT = 0.03
"""A change over the study that is told with the answer, if its interval excludes none."""

Drift = tuple[float, float, float, int]
"""(relative change of time per step, ends of its 95 % interval, runs)."""

CELL_COLUMNS = (
    "cell",
    "marks",
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
      alarm: why its cells must not be compared, if they must not.
      plots: of the setting; [] if they are left out.
    """

    title: str
    anchor: str
    sentences: list[str]
    verdicts: list[tuple[str, str, str, str]]
    rows: list[list[str]]
    remarks: list[str]
    alarm: str | None
    plots: list[Plot]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaneSection:
    """What a report says about one setting that was measured in several lanes.

    Attributes:
      title: of the setting.
      sentences: the answer.
      rows: of the table of steps, under the columns of ``common/report/study/lanes.py``.
      alarm: why its cells must not be compared, if they must not.
      plots: of the setting; [] if they are left out.
    """

    title: str
    sentences: list[str]
    rows: list[list[str]]
    alarm: str | None
    plots: list[Plot]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Document:
    """A whole report; ``about_lanes`` says how to read ``lanes``, if there are any."""

    name: str
    commands: list[str]
    again: str
    measured: str
    counts: str
    headline: list[str]
    glances: list[Glance]
    overview: list[Plot]
    sentences_first: bool
    about_lanes: str
    lanes: list[LaneSection]
    sections: list[Section]
    undrawn: int
    manifest: Manifest
    method: list[str]
    problems: list[tuple[str, list[str]]]
    trouble: list[str]
    run_rows: list[list[str]]


def _cell_row(name: str, summary: CellSummary) -> list[str]:
    ok = summary.ok
    return [
        name,
        "; ".join(marks(summary)),
        str(summary.cell["processes"]),
        str(len(ok)),
        estimate(summary.step_seconds, scale=1e3),
        estimate(summary.items_per_second),
        ratio(summary.speedup),
        ratio(summary.efficiency, scale=100, digits=0),
        estimate(summary.latency_seconds, scale=1e3),
        number(median_of(ok, "peak_memory_bytes"), scale=2**-20, digits=0),
        number(median_of(ok, "compile_seconds"), digits=2),
        number(median_of(ok, "loss_first"), digits=5),
        number(median_of(ok, "loss_last"), digits=5),
        number(accuracy_of(ok), scale=100, digits=1),
    ]


def _verdict_row(verdict: Verdict) -> tuple[str, str, str, str]:
    return (
        f"{verdict.subject} against {verdict.other}",
        ratio_text(verdict.ratio),
        evidence_text(verdict.ratio, verdict.p),
        verdict.outcome,
    )


def _loss_remark(spread: LossSpread) -> list[str]:
    """Says how far the losses of cells that should compute the same thing lie apart."""
    if spread.first is None or spread.alarm:
        return []  # an alarm stands with the answer
    text = f"With the same seed, the first losses differ by {spread.first:.1e} of their size"
    if spread.last is not None:
        text += f", the last by {spread.last:.1e} of the first"
    return [f"{text}, at most."]


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
    curves, unreadable = loss_curves(study, setting) if drawn else ([], [])
    losses = study.losses[setting.title]
    return Section(
        title=setting.title,
        anchor=anchor,
        sentences=answer(study, setting),
        verdicts=[_verdict_row(verdict) for verdict in study.verdicts[setting.title]],
        rows=[_cell_row(name, cell) for name, cell in setting.cells],
        remarks=[*_steps_remark(study, setting), *_loss_remark(losses), *unreadable],
        alarm=losses.alarm,
        plots=setting_plots(setting, frameworks, curves) if drawn else [],
    )


def _headline(study: StudyData, drifted: Drift | None) -> list[str]:
    """Returns sentences about the study as a whole: how much of it may be relied upon."""
    counts = [len(summary.ok) for summary in study.summaries if summary.ok]
    sentences = []
    if not counts:
        return ["No run was successful: there is nothing to compare."]
    if max(counts) < LEAST_RUNS:
        runs = "One run" if max(counts) == 1 else f"At most {max(counts)} runs"
        sentences.append(
            f"{runs} of each cell: there is no interval and no verdict. The figures below were "
            "measured, but nothing says how far another run would be from them; with six runs "
            "(--resume --runs=6) there would be."
        )
    elif min(counts) < LEAST_RUNS:
        sentences.append(
            f"Some cells have fewer than {LEAST_RUNS} runs: on those there is no verdict."
        )
    verdicts = [verdict for found in study.verdicts.values() for verdict in found]
    decided = [verdict for verdict in verdicts if verdict.outcome != "no verdict"]
    if decided:
        even = sum(verdict.outcome == "no difference shown" for verdict in decided)
        sentences.append(
            f"Of {len(decided)} comparisons of two cells, {len(decided) - even} show a difference "
            f"and {even} show none."
        )
    if drifted is not None and drifted[1] * drifted[2] > 0 and abs(drifted[0]) >= NOTABLE_DRIFT:
        change, low, high, _ = drifted
        sentences.append(
            f"Time per step changed by {100 * change:+.1f} % [{100 * low:+.1f}, {100 * high:+.1f}] "
            "from the first run to the last. Runs of all cells are interleaved, so that it favours "
            "none of them, but it makes intervals wide."
        )
    wins: dict[str, list[str]] = {}
    for setting in study.settings:
        winner = _winner(study, setting)
        if winner is not None:
            wins.setdefault(winner, []).append(setting.title)
    for winner, titles in wins.items():
        few = f": {'; '.join(titles)}" if len(titles) <= 3 else ""
        sentences.append(
            f"{winner} is shown to be the fastest framework, each with the number of devices that "
            f"suits it best, for {len(titles)} of {len(study.settings)} settings{few}."
        )
    return sentences


def _winner(study: StudyData, setting: Setting) -> str | None:
    """Returns the framework that is shown to be faster than all others, if one is."""
    best = champions(setting)
    if len({cell.cell["framework"] for _, cell in best}) < 2 or study.losses[setting.title].alarm:
        return None
    asked = overall(setting, study.verdicts[setting.title])
    shown = len(asked) == len(best) - 1 and all(v.outcome == "faster" for v in asked)
    return best[0][1].cell["framework"] if shown else None


def _problems(study: StudyData) -> list[tuple[str, list[str]]]:
    """Returns all that failed, was skipped, disturbed or oversubscribed, by kind."""
    names = {key: f"{name} ({title})" for key, (name, title) in study.names().items()}
    kinds: dict[str, list[str]] = {
        "Failed": [],
        "Diverged": [],
        "Skipped": [],
        f"Disturbed: others used more than {100 * DISTURBED_SHARE:.0f} % of one of its cores": [],
        "Load from outside unknown": [],
        "Oversubscribed: devices shared cores, so these show overhead, not scaling": [],
        "Outliers: modified z-score above 3.5, kept in all figures (of clean cells with 6 runs "
        "about one in six has one)": [],
        "Left with a warning after the result was complete": [],
        "Earlier attempts, run again since": study.earlier_attempts(),
    }
    failed, diverged, skipped, disturbed, unknown, shared, far, warned, _ = kinds.values()
    by_status = {"failed": failed, "diverged": diverged, "skipped": skipped}
    lines_of: dict[str, list[dict[str, Any]]] = {}
    for line in study.lines:
        if line["status"] != "ok":
            lines_of.setdefault(cell_key(line["cell"]), []).append(line)
    for summary in (*study.summaries, *study.ladder):
        name = names[cell_key(summary.cell)]
        for line in lines_of.get(cell_key(summary.cell), []):
            by_status.get(line["status"], failed).append(
                f"{name}, run {line['run']}: {line.get('error') or 'no reason recorded'}"
            )
        for line in summary.ok:
            if line.get("disturbed"):
                share = number(line.get("outside_load_share"), scale=100, digits=0)
                disturbed.append(f"{name}, run {line['run']}: {share} %")
            if line.get("exit_warning"):
                warned.append(f"{name}, run {line['run']}: {line['exit_warning']}")
        quiet = [str(line["run"]) for line in summary.ok if line.get("disturbed") is None]
        if quiet:
            unknown.append(
                f"{name}: run {', '.join(quiet)} (measured for too short a time, or the system "
                "does not count it)"
            )
        if summary.cell["oversubscribed"]:
            shared.append(name)
        if summary.outliers:
            far.append(
                f"{name}: run {', '.join(map(str, summary.outliers))}; median "
                f"{number(summary.items_per_second.median if summary.items_per_second else None)} "
                "examples/s with, "
                f"{number(summary.items_per_second_without_outliers)} without"
            )
    return [(kind, entries) for kind, entries in kinds.items() if entries]


def drift(study: StudyData) -> Drift | None:
    """Returns how time per step changed from the first run to the last, other things equal.

    A regression of log time on the order of runs, both less their mean in the cell: cells need not
    span the whole study.

    None if there are too few runs to tell.
    """
    xs: list[float] = []
    ys: list[float] = []
    cells = 0
    for summary in (*study.summaries, *study.ladder):
        if len(summary.ok) < 2:
            continue
        cells += 1
        order = [line["sequence"] for line in summary.ok]
        logs = [math.log(line["step_seconds"]["median"]) for line in summary.ok]
        xs += [x - statistics.fmean(order) for x in order]
        ys += [y - statistics.fmean(logs) for y in logs]
    degrees = len(xs) - cells - 1
    if degrees < 3 or len(set(xs)) < 2:
        return None
    from scipy import stats

    fit = stats.linregress(xs, ys)
    # linregress does not know that a mean was taken from each cell.
    error = fit.stderr * math.sqrt((len(xs) - 2) / degrees)
    half = error * stats.t.ppf(0.975, degrees)
    sequences = [line["sequence"] for line in study.lines]
    span = max(sequences) - min(sequences)
    change, low, high = (math.expm1(span * (fit.slope + d)) for d in (0.0, -half, half))
    return change, low, high, len(xs)


def _method(study: StudyData, drifted: Drift | None) -> list[str]:
    count = sum(verdict.p is not None for found in study.verdicts.values() for verdict in found)
    clocks = [
        line["clock_reading_seconds"]
        for line in study.lines
        if line.get("clock_reading_seconds") is not None
    ]
    base = "the same global batch" if study.scaling == "strong" else "the batch of one device"
    paragraphs = [
        "Every run is a fresh process (or one per device). Runs of all cells are interleaved in a "
        f"random order from seed {study.record.get('order_seed', 'unknown')}; the run, not the "
        "step, is the unit of statistics.",
        "A window is whole training steps between two synchronised clock readings, nothing else. "
        "Windows of many steps give time per step and throughput (examples / seconds over all "
        "windows), windows of one step give latency. With several ranks the slowest counts. The "
        "first step (compile) and the warm-up are excluded and reported apart.",
        "Medians over runs with a 95 % interval: order statistics from 6 runs on; for 3 to 5 runs "
        "a t interval on log time, marked (t); none below 3.",
        RULE.format(n=count)
        + " 'A is 1.20x faster than B' means that A does 1.20 times the examples per second of B. "
        "The fastest strategy of each framework takes part in the comparison of frameworks; "
        "whether it is faster than its siblings is tested too. "
        + ("'Stock and tuned' corrects its tests apart from these. " if study.lanes else "")
        + "Ratios are of throughput, over all windows of a run; time per step is the median "
        "window.",
        "Speedup is throughput against the same framework's bare step on one device (no "
        f"distribution wrapper) at {base}; efficiency is speedup / devices. Derived from what was "
        "measured: speedup, efficiency, and the compile time (first step less a median step). "
        "Analytic: FLOPs (results.csv). All else is measured; nothing is estimated.",
    ]
    if study.machines and not any(machine["gpus"] for machine in study.machines):
        paragraphs.append(
            "CPU devices of one machine share caches and memory bandwidth, which a second machine "
            "or accelerator would not."
        )
    pairs = ((summary.cell["framework"], summary.cell["strategy"]) for summary in study.summaries)
    paragraphs += lookup.strategy_notes(pairs)
    if clocks:
        paragraphs.append(
            f"Reading the clock took {1e9 * statistics.median(clocks):.0f} ns (median over runs)."
        )
    if drifted is not None:
        change, low, high, runs = drifted
        paragraphs.append(
            f"Drift over the study, from the first run to the last: {100 * change:+.1f} % time per "
            f"step [{100 * low:+.1f}, {100 * high:+.1f}] (regression of log time on the order of "
            f"{runs} runs, both less their mean in the cell)."
        )
    return paragraphs


def _run_rows(study: StudyData) -> Iterator[list[str]]:
    names = study.names()
    for line in study.lines:
        name, setting = names[cell_key(line["cell"])]
        step = line.get("step_seconds") or {}
        latency = line.get("latency_seconds") or {}
        spread = NO_VALUE
        if step.get("p10") is not None:
            spread = f"{number(step['p10'], scale=1e3)} to {number(step['p90'], scale=1e3)}"
        yield [
            str(line["sequence"]),
            name,
            setting,
            str(line["run"]),
            str(line.get("seed", NO_VALUE)),
            line["status"],
            number(step.get("median"), scale=1e3),
            spread,
            number(latency.get("median"), scale=1e3),
            number(line.get("items_per_second")),
            number(line.get("compile_seconds"), digits=2),
            number(line.get("peak_memory_bytes"), scale=2**-20, digits=0),
            number(line.get("loss_first"), digits=5),
            number(line.get("loss_last"), digits=5),
            number(line.get("outside_load_share"), scale=100, digits=1),
        ]


def make_document(study: StudyData, *, most_drawn: int) -> Document:
    """Returns the contents of a study's report.

    Args:
      study: what was measured.
      most_drawn: how many settings get plots of their own, at most.
    """
    problems, drifted = _problems(study), drift(study)
    cells = (*study.summaries, *study.ladder)
    frameworks = sorted({summary.cell["framework"] for summary in cells})
    sections = [
        _section(study, setting, frameworks, anchor=f"s{index}", drawn=index < most_drawn)
        for index, setting in enumerate(study.settings)
    ]
    compared = [setting for setting in study.settings if champions(setting)]
    overview = []
    for first in range(0, len(compared), OVERVIEW_ROWS):
        page = compared[first : first + OVERVIEW_ROWS]
        overview.append(
            Plot(
                slug=f"overview{f'_{first // OVERVIEW_ROWS + 1}' if first else ''}",
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
    between = f" and {len(study.ladder)} between stock and tuned" if study.ladder else ""
    counts = (
        f"{len(study.summaries)} cells in {len(study.settings)} setting(s){between}, "
        f"{len(study.lines)} runs: {', '.join(f'{n} {status}' for status, n in statuses.items())}"
    )
    return Document(
        name=study.name,
        commands=study.commands,
        again=shlex.join(["isoscale", "report", str(study.folder), "--plots=all"]),
        measured=measured,
        counts=counts,
        headline=_headline(study, drifted),
        glances=[glance(study, setting) for setting in study.settings],
        overview=overview,
        sentences_first=len(sections) <= SENTENCES_FIRST,
        about_lanes=introduction(study.lanes),
        lanes=[
            LaneSection(
                title=found.setting.title,
                sentences=sentences(found),
                rows=rows(found),
                alarm=found.alarm,
                plots=waterfall_plots(found, frameworks) if index < most_drawn else [],
            )
            for index, found in enumerate(study.lanes)
        ],
        sections=sections,
        undrawn=max(0, len(study.settings) - most_drawn),
        manifest=study.manifest(),
        method=_method(study, drifted),
        problems=problems,
        # Outliers and the like are told with the rest; they are no reason to doubt the study.
        trouble=[
            f"{kind.split(':')[0].lower()}: {len(entries)}"
            for kind, entries in problems
            if kind.startswith(("Failed", "Diverged", "Skipped", "Disturbed", "Oversubscribed"))
        ],
        run_rows=list(_run_rows(study)),
    )


def _minute(timestamp: str) -> str:
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d).*", r"\1 \2", timestamp)
