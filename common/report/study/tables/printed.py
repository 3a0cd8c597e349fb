"""The tables that ``isoscale compare`` and ``isoscale explain`` print, with notes on all marks."""

from collections.abc import Sequence
from typing import Any

from isoscale.common.analysis.estimates import Estimate
from isoscale.common.analysis.scaling import SCALINGS, CellSummary
from isoscale.common.analysis.settings import split_into_settings
from isoscale.common.analysis.waterfall import Lanes
from isoscale.common.measure.conditions import DISTURBED, LOAD_UNKNOWN
from isoscale.common.registry import lookup
from isoscale.common.report.formats.terminal import Column, print_paragraphs, print_tables
from isoscale.common.report.study.answers.crossovers import sentences as of_sweep
from isoscale.common.report.study.answers.lanes import INTRODUCTION, sentences
from isoscale.common.report.study.answers.limits import limit_sentence
from isoscale.common.report.study.answers.recommend import recommendations
from isoscale.common.report.study.answers.setting import glance
from isoscale.common.report.study.answers.shared import shared_cells
from isoscale.common.report.study.conditions import make_conditions
from isoscale.common.report.study.data import StudyData
from isoscale.common.report.study.problems import failures
from isoscale.common.report.study.tables.lanes import COLUMNS as LANE_COLUMNS
from isoscale.common.report.study.tables.lanes import rows
from isoscale.common.report.words import (
    NO_VALUE,
    NOT_THE_QUOTIENT,
    RATE_AND_TIME,
    accuracy,
    base_text,
    estimate,
    joined,
    marks,
    median_of,
    number,
    ratio,
)
from isoscale.common.study.records import Scalings


def _two_lines(step: Estimate | None) -> str:
    """Returns a time per step with its interval below; the mark of a t interval stands above."""
    text, _, interval = estimate(step, scale=1e3, separator="\n").partition("\n")
    bare = interval.removesuffix(" (t)")
    return "\n".join([text + interval[len(bare) :], bare] if bare else [text])


def _rate(found: Estimate | None, *, scale: float = 1.0) -> str:
    return number(found.median, scale=scale) if found else ""


def _row(name: str, summary: CellSummary) -> list[str]:
    cell, ok = summary.cell, summary.ok
    loss = f"{number(median_of(ok, lambda result: result.loss_first), digits=5)}\n"
    loss += number(median_of(ok, lambda result: result.loss_last), digits=5)
    right = median_of(ok, accuracy)
    if right is not None:
        loss += f"\n{100 * right:.1f} % correct"
    return [
        name.rsplit(" on ", 1)[0],
        f"{cell.devices} / {cell.processes}",
        str(len(ok)),
        _two_lines(summary.step_seconds),
        number(summary.examples_per_second.median if summary.examples_per_second else None),
        _rate(summary.tokens_per_second),
        _rate(summary.flops_per_second, scale=1e-9),
        ratio(summary.speedup, separator="\n"),
        ratio(summary.efficiency, scale=100, digits=0, separator="\n"),
        number(median_of(ok, lambda result: result.peak_memory_bytes), scale=2**-20, digits=0),
        number(median_of(ok, lambda result: result.compile_seconds), digits=2),
        loss if ok else NO_VALUE,
        "\n".join(marks(summary)),
    ]


# The rank says which figures a narrow terminal shows: those that answer the question stay longest.
COLUMNS = (
    Column("strategy", wraps=12),
    Column("devices\n/ proc.", "right"),
    Column("runs", "right", rank=1),
    Column("ms/step", "right"),
    Column("examples\n/s", "right", rank=3, called="examples/s"),
    Column("tokens\n/s", "right", rank=8, called="tokens/s"),
    Column("GFLOP/s,\ncomputed", "right", rank=9, called="GFLOP/s"),
    Column("speedup", "right", rank=2),
    Column("efficiency\n%", "right", rank=4, called="efficiency"),
    Column("memory\nMiB", "right", rank=5, called="memory"),
    Column("compile\ns", "right", rank=7, called="compile time"),
    Column("loss first\nand last", "right", rank=6, called="losses"),
    Column("marks", wraps=12),
)
_LANE_COLUMNS = tuple(
    Column(name, wraps=10, rank=1 if name == "runs" else 0) for name in LANE_COLUMNS
)


def print_lanes(found: Sequence[Lanes]) -> None:
    """Prints the steps from stock to tuned: a table and sentences for each setting."""
    for lanes in found:
        # Text in brackets goes onto a second line, so that the table fits a terminal.
        listed = [
            [text.replace(" (", "\n(").replace(" [", "\n[") for text in row] for row in rows(lanes)
        ]
        print_tables(_LANE_COLUMNS, [(lanes.setting.title, listed)])
        print_paragraphs([*(f"- {sentence}" for sentence in sentences(lanes)), ""])
    print_paragraphs([INTRODUCTION])


def print_comparison(
    summaries: list[CellSummary], *, scaling: Scalings, machines: list[dict[str, Any]]
) -> None:
    """Prints a table for each setting, the conditions, and notes on the tables.

    Args:
      summaries: the cells, each once for each of its settings.
      scaling: that of the study.
      machines: of the study's sessions, in order.
    """
    settings = split_into_settings(summaries, scaling=scaling)
    left_out = print_tables(
        COLUMNS,
        [(found.title, [_row(name, cell) for name, cell in found.cells]) for found in settings],
    )
    if left_out:
        print_paragraphs([f"Not shown, for lack of width: {joined(left_out)}.", ""])
    conditions = make_conditions(summaries, machines, scaling=scaling)
    print_paragraphs([*conditions.lines(), "", *_notes(summaries, scaling)], hanging=True)


def print_failures(study: StudyData) -> None:
    """Prints why runs did not succeed, each reason once."""
    print_paragraphs(failures(study), hanging=True)


def print_in_short(study: StudyData) -> None:
    """Prints one entry for each setting: the fastest cell, how certain, and what devices add."""
    rows = [glance(study, setting) for setting in study.settings]
    entries = [
        f"- {row.setting}: {row.choice}; {row.sure}; more devices: {row.scaling}" for row in rows
    ]
    print_paragraphs(["In short: the fastest; how certain; whether more devices help:", *entries])
    print_paragraphs([f"- {sentence}" for sentence in shared_cells(study)])
    for found in study.sweeps:
        print_paragraphs([f"{found.sweep.title}:", *(f"- {s}" for s in of_sweep(study, found))])


def print_limits(study: StudyData) -> None:
    """Prints how many devices to use, and what limits each cell on several devices."""
    for setting in study.settings:
        limits = [limit_sentence(found) for found in study.factors[setting.title]]
        entries = [*recommendations(study, setting), *limits]
        if entries:
            title = f"How many devices, and what limits them: {setting.title}"
            print_paragraphs(["", title, *(f"- {entry}" for entry in entries)])


def _notes(summaries: list[CellSummary], scaling: Scalings) -> list[str]:
    in_turns = any(summary.rounds for summary in summaries if summary.ok)
    notes = [
        "ms/step and examples/s: medians over groups of runs that took turns; in a group, the "
        "trimmed mean over its rounds."
        if in_turns
        else f"ms/step and examples/s: medians over runs. {RATE_AND_TIME}",
        "Measured: ms/step; examples/s; memory (peak resident, summed over processes, including "
        "the framework; on GPUs the largest device); compile (first step minus a median step; with "
        "blocks of steps, plus a block's first run); loss. Derived from these figures: speedup and "
        "efficiency. Computed: GFLOP/s (the formula's operations of a step x measured steps per "
        "second).",
    ]
    counts = [len(summary.ok) for summary in summaries if summary.ok]
    if counts and min(counts) < 3:
        notes.append(
            "A cell with fewer than 3 runs has no interval and no verdict on differences. To add "
            "runs: isoscale compare --study=NAME --resume --runs=6."
        )
    if counts and max(counts) >= 3:
        notes.append(
            f"[low, high]: 95 % interval over {'groups' if in_turns else 'runs'}; for ratios "
            + (
                "within rounds, over groups"
                if in_turns
                else "over pairs of runs, or by Welch, on logarithms"
            )
            + ". '(t)': t interval on log time, because the cell has fewer than 6."
        )
    if any(summary.speedup is not None for summary in summaries):
        kinds = [kind for kind in SCALINGS if kind in scaling]
        notes.append(
            f"speedup: {' or '.join(kinds)} scaling, throughput / throughput of the same "
            "framework's 'bare' (one device, no distribution wrapper) at "
            f"{base_text(scaling)}. efficiency: speedup / devices. {NOT_THE_QUOTIENT}."
        )
    if any(summary.speedup is None and summary.ok for summary in summaries):
        notes.append("speedup '-': the study has no successful run of the framework's 'bare' cell.")
    if any(summary.cell.platform == "cpu" for summary in summaries):
        apart = lookup.strategies_of("per_device")
        verb = "has" if len(apart) == 1 else "have"
        notes.append(
            "CPU devices are cores that share caches and memory bandwidth. In-process strategies "
            f"drive all devices from one process; {joined(apart)} {verb} one process per device."
        )
    if any(summary.cell.oversubscribed for summary in summaries):
        notes.append(
            "oversubscribed: devices shared cores; these figures show overhead and correctness, "
            "not scaling."
        )
    if any(line.result.disturbed for summary in summaries for line in summary.ok):
        notes.append(f"disturbed: {DISTURBED}.")
    if any(line.result.disturbed is None for summary in summaries for line in summary.ok):
        notes.append(f"outside load unknown: {LOAD_UNKNOWN}.")
    pairs = ((summary.cell.framework, summary.cell.strategy) for summary in summaries)
    notes += lookup.strategy_notes(pairs)
    for summary in summaries:
        cell = summary.cell
        for line in summary.ok:
            if line.exit_warning:
                notes.append(
                    f"! {cell.model} {cell.framework} {cell.strategy} "
                    f"devices={cell.devices} run {line.run} (result complete): "
                    f"{line.exit_warning}"
                )
    return list(dict.fromkeys(notes))
