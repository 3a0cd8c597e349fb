"""The contents of a report as plain values, shared by all formats."""

import dataclasses
import re
import shlex
from collections.abc import Sequence

from isoscale.common.analysis.crossover import SweepCurves
from isoscale.common.analysis.losses import LossSpread
from isoscale.common.analysis.settings import Setting
from isoscale.common.config.counts import counted
from isoscale.common.report.drawing.plot import Plot
from isoscale.common.report.study import turns
from isoscale.common.report.study.answers import crossovers
from isoscale.common.report.study.answers.headline import headline
from isoscale.common.report.study.answers.lanes import INTRODUCTION, sentences
from isoscale.common.report.study.answers.limits import limit_sentence
from isoscale.common.report.study.answers.matrix import EXPLANATION, Matrix, make_matrix
from isoscale.common.report.study.answers.recommend import recommendations
from isoscale.common.report.study.answers.setting import Glance, answer, glance
from isoscale.common.report.study.conditions import Conditions
from isoscale.common.report.study.data import StudyData
from isoscale.common.report.study.drift import drift
from isoscale.common.report.study.method import method
from isoscale.common.report.study.plots.crossovers import crossover_plots
from isoscale.common.report.study.plots.loss import loss_curves
from isoscale.common.report.study.plots.overview import overview_plots
from isoscale.common.report.study.plots.setting import setting_plots
from isoscale.common.report.study.plots.source import with_source
from isoscale.common.report.study.plots.waterfall import waterfall_plots
from isoscale.common.report.study.problems import problems
from isoscale.common.report.study.tables import cells as cell_table
from isoscale.common.report.study.tables import crossovers as threshold_table
from isoscale.common.report.study.tables import factors as factor_table
from isoscale.common.report.study.tables import laws as law_table
from isoscale.common.report.study.tables.comparisons import comparison_row
from isoscale.common.report.study.tables.lanes import rows
from isoscale.common.report.study.tables.runs import run_rows

SENTENCES_FIRST = 8
"""Up to this many settings, all sentences stand at the top; otherwise each in its setting."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """The part of a report about one setting.

    Attributes:
      title, anchor: of the setting.
      short: the title without what all settings of the study share.
      sentences: the answer.
      verdicts: (comparison, ratio, evidence, outcome) rows.
      factors: rows of the table of factors of efficiency; [] without cells on several devices.
      limits: what limits each cell on several devices, one sentence each.
      advice: how many devices to use, one recommendation for each framework.
      laws: rows of the table of laws of scaling; [] without cells on several devices.
      columns, rows: of the table of cells.
      remarks: sentences about the steps of a run and about the losses.
      alarm: the reason why the cells must not be compared; None if they may be compared.
      plots: of the setting; [] if left out.
    """

    title: str
    short: str
    anchor: str
    sentences: list[str]
    verdicts: list[tuple[str, str, str, str]]
    factors: list[list[str]]
    limits: list[str]
    advice: list[str]
    laws: list[list[str]]
    columns: list[str]
    rows: list[list[str]]
    remarks: list[str]
    alarm: str | None
    plots: list[Plot]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaneSection:
    """The part of a report about one setting that was measured in several lanes.

    Attributes:
      title: of the setting.
      sentences: the answer.
      rows: of the table of steps, under the columns of ``tables/lanes.py``.
      alarm: the reason why the cells must not be compared; None if they may be compared.
      plots: of the setting; [] if left out.
    """

    title: str
    sentences: list[str]
    rows: list[list[str]]
    alarm: str | None
    plots: list[Plot]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepSection:
    """The part of a report about settings that differ in the batch or the size only.

    Attributes:
      title: of the sweep.
      sentences: from which size on several devices beat one, for each series.
      columns, rows: of the threshold table; no rows if the cells must not be compared.
      alarm: the reason why the cells must not be compared; None if they may be compared.
      plots: of the sweep; [] if left out.
    """

    title: str
    sentences: list[str]
    columns: list[str]
    rows: list[list[str]]
    alarm: str | None
    plots: list[Plot]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contents:
    """A whole report.

    Attributes:
      about_matrix, about_lanes: explain ``matrix`` and ``lanes``.
      matrix: None for a study with many settings.
    """

    name: str
    commands: list[str]
    again: str
    measured: str
    counts: str
    headline: list[str]
    about_matrix: str
    matrix: Matrix | None
    glances: list[Glance]
    overview: list[Plot]
    sentences_first: bool
    about_lanes: str
    lanes: list[LaneSection]
    sweeps: list[SweepSection]
    sections: list[Section]
    undrawn: int
    conditions: Conditions
    method: list[str]
    problems: list[tuple[str, list[str]]]
    trouble: list[str]
    run_rows: list[list[str]]


def _loss_remark(spread: LossSpread) -> list[str]:
    """Returns a sentence about the largest difference between losses of equal cells."""
    if spread.first is None or spread.alarm:
        return []  # the answer shows the alarm
    text = f"With the same seed, first losses differ by at most {spread.first:.1e} of their size"
    if spread.last is not None:
        text += f", and last losses by at most {spread.last:.1e} of the first loss"
    return [f"{text}."]


def _steps_remark(study: StudyData, setting: Setting) -> list[str]:
    """Returns a sentence about the steps of a run, from the first run with a ``config.json``."""
    for _, cell in setting.cells:
        for line in cell.ok[:1]:
            config = study.config(line)
            if config is None:
                continue
            limit = (
                f"; at most {config.max_in_flight} calls (one step or one block of steps) "
                "unfinished at a time."
            )
            if config.min_seconds:
                return [
                    "Steps of a run: 1 compile step, warm-up until the step time is stable, and "
                    f"windows of at least {config.min_seconds:g} s{limit}"
                ]
            if None not in (config.steps, config.window_steps, config.latency_steps):
                return [
                    f"Steps of a run: 1 compile step, {config.warmup_steps} warm-up steps, "
                    f"{config.steps} measured steps in windows of {config.window_steps}, and "
                    f"between them {config.latency_steps} windows of one step{limit}"
                ]
    return []


def _section(
    study: StudyData,
    setting: Setting,
    frameworks: Sequence[str],
    conditions: Conditions,
    *,
    short: str,
    anchor: str,
    drawn: bool,
) -> Section:
    curves, unreadable = loss_curves(study, setting) if drawn else ([], [])
    laws = study.laws[setting.title]
    factors = study.factors[setting.title]
    plots = setting_plots(setting, frameworks, curves, laws, factors) if drawn else []
    losses = study.losses[setting.title]
    columns, table = cell_table.table([*setting.cells, *setting.base_cases])
    return Section(
        title=setting.title,
        short=short,
        anchor=anchor,
        sentences=answer(study, setting),
        verdicts=[
            comparison_row(v, more=turns.minutes(setting, v, planned=study.planned))
            for v in study.verdicts[setting.title]
        ],
        factors=factor_table.rows(factors),
        limits=[limit_sentence(found) for found in factors],
        advice=recommendations(study, setting),
        laws=law_table.rows(laws),
        columns=columns,
        rows=table,
        remarks=[
            *turns.rounds_remark([cell for _, cell in setting.all_cells]),
            *turns.noise_remark(setting),
            *_steps_remark(study, setting),
            *_loss_remark(losses),
            *unreadable,
        ],
        alarm=losses.alarm,
        plots=with_source(plots, [cell for _, cell in setting.cells], conditions),
    )


def _sweep(
    study: StudyData,
    found: SweepCurves,
    frameworks: Sequence[str],
    conditions: Conditions,
    *,
    drawn: bool,
) -> SweepSection:
    alarm = crossovers.alarm_of(study, found)
    cells = [c for curve in found.curves for p in curve.points for c in (p.cell, p.base)]
    return SweepSection(
        title=found.sweep.title,
        sentences=crossovers.sentences(study, found),
        columns=threshold_table.columns(found),
        rows=[] if alarm else threshold_table.rows(found),
        alarm=alarm,
        plots=with_source(
            crossover_plots(found, frameworks) if drawn and not alarm else [], cells, conditions
        ),
    )


def make_contents(study: StudyData, *, most_drawn: int) -> Contents:
    """Returns the contents of a study's report.

    Args:
      study: the study.
      most_drawn: largest number of settings with plots.
    """
    found_problems, drifted = problems(study), drift(study)
    frameworks = sorted({summary.cell.framework for summary in study.measured})
    conditions = study.conditions()
    anchors = [(f"s{index}", setting) for index, setting in enumerate(study.settings)]
    short = _short([setting.title for setting in study.settings])
    sections = [
        _section(
            study,
            setting,
            frameworks,
            conditions,
            short=short[index],
            anchor=anchor,
            drawn=index < most_drawn,
        )
        for index, (anchor, setting) in enumerate(anchors)
    ]
    started = sorted(line.result.started for line in study.lines if line.result.started)
    measured = f"{_minute(started[0])} to {_minute(started[-1])} UTC" if started else "unknown"
    statuses: dict[str, int] = {}
    for line in study.lines:
        statuses[line.result.status] = statuses.get(line.result.status, 0) + 1
    between = f" and {len(study.ladder)} between stock and tuned" if study.ladder else ""
    counts = (
        f"{counted(len(study.measured) - len(study.ladder), 'cell')} in "
        f"{counted(len(study.settings), 'setting')}{between}, "
        f"{counted(len(study.lines), 'run')}: "
        + ", ".join(f"{n} {status}" for status, n in statuses.items())
    )
    return Contents(
        name=study.name,
        commands=study.commands,
        again=shlex.join(["isoscale", "report", str(study.folder), "--plots=all"]),
        measured=measured,
        counts=counts,
        headline=headline(study, drifted),
        about_matrix=EXPLANATION,
        matrix=make_matrix(study, anchors) if len(anchors) <= SENTENCES_FIRST else None,
        glances=[glance(study, setting) for setting in study.settings],
        overview=with_source(
            overview_plots(study.settings, frameworks), study.summaries, conditions
        ),
        sentences_first=len(sections) <= SENTENCES_FIRST,
        about_lanes=INTRODUCTION,
        lanes=[
            LaneSection(
                title=found.setting.title,
                sentences=sentences(found),
                rows=rows(found),
                alarm=found.alarm,
                plots=with_source(
                    waterfall_plots(found, frameworks) if index < most_drawn else [],
                    [cell for _, cell in found.setting.cells],
                    conditions,
                ),
            )
            for index, found in enumerate(study.lanes)
        ],
        sweeps=[
            _sweep(study, found, frameworks, conditions, drawn=index < most_drawn)
            for index, found in enumerate(study.sweeps)
        ],
        sections=sections,
        undrawn=max(0, len(study.settings) - most_drawn),
        conditions=conditions,
        method=method(study, drifted),
        problems=found_problems,
        # The other problems, outliers for example, are no reason to doubt the study.
        trouble=[
            f"{kind.split(':')[0].lower()}: {len(entries)}"
            for kind, entries in found_problems
            if kind.startswith(("Failed", "Diverged", "Skipped", "Disturbed", "Oversubscribed"))
        ],
        run_rows=list(run_rows(study)),
    )


def _short(titles: Sequence[str]) -> list[str]:
    """Returns the titles without the parts that all have; the model stays."""
    split = [title.split(", ") for title in titles]
    shared = set.intersection(*map(set, split)) if split else set()
    return [", ".join([p[0], *(part for part in p[1:] if part not in shared)]) for p in split]


def _minute(timestamp: str) -> str:
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d).*", r"\1 \2", timestamp)
