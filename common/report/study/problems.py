"""The problems of a study: failed, skipped, disturbed and oversubscribed runs, and more."""

import os

from isoscale.common.config.cell import Cell
from isoscale.common.config.counts import counted
from isoscale.common.measure.conditions import DISTURBED, LOAD_UNKNOWN
from isoscale.common.report.study.data import StudyData
from isoscale.common.report.words import number
from isoscale.common.study.records import ResultLine

_NO_REASON = "no reason recorded"


def failures(study: StudyData) -> list[str]:
    """Returns one line for each reason why runs of a cell did not succeed, with the path of a log.

    Runs are skipped because a framework is missing: one line for all cells of the framework.
    """
    names = study.names()
    found: dict[tuple[str, str, str], list[ResultLine]] = {}
    for line in study.lines:
        if not line.ok:
            name, title = names[line.cell]
            skipped = line.result.status == "skipped"
            who = line.cell.framework if skipped else f"{name} ({title})"
            key = who, line.result.status, line.result.error or _NO_REASON
            found.setdefault(key, []).append(line)
    texts = []
    for (who, status, error), lines in found.items():
        log = next((path for line in lines if (path := study.log(line))), None)
        where = f" (log: {os.path.relpath(log)})" if log else ""
        texts.append(f"! {who}: {counted(len(lines), 'run')} {status}: {error}{where}")
    return texts


def problems(study: StudyData) -> list[tuple[str, list[str]]]:
    """Returns (kind, entries) for every kind of problem that the study has."""
    names = {key: f"{name} ({title})" for key, (name, title) in study.names().items()}
    kinds: dict[str, list[str]] = {
        "Failed": [],
        "Diverged": [],
        "Skipped": [],
        "Runs of one cell under different conditions: the cell has no interval and no verdict": [],
        f"Disturbed: {DISTURBED}": [],
        f"Outside load unknown: {LOAD_UNKNOWN}": [],
        "Oversubscribed: devices shared cores; these cells show overhead, not scaling": [],
        "Outliers: modified z-score above 3.5, kept in all figures (about one in six cells with 6 "
        "undisturbed runs has one)": [],
        "Exited with a warning after the result was complete": [],
        "Earlier attempts of repeated runs": study.earlier_attempts(),
        "Damaged or repeated lines of results.jsonl": list(study.notes),
    }
    failed, diverged, skipped, mixed, disturbed, unknown, shared, far, warned, *_ = kinds.values()
    by_status = {"failed": failed, "diverged": diverged, "skipped": skipped}
    lines_of: dict[Cell, list[ResultLine]] = {}
    for line in study.lines:
        if not line.ok:
            lines_of.setdefault(line.cell, []).append(line)
    for summary in study.measured:
        name = names[summary.cell]
        mixed += [f"{name}: {text}" for text in summary.mixed]
        for line in lines_of.get(summary.cell, []):
            log = study.log(line)
            where = f" (log: {log.relative_to(study.folder)})" if log else ""
            by_status.get(line.result.status, failed).append(
                f"{name}, run {line.run}: {line.result.error or _NO_REASON}{where}"
            )
        for line in summary.ok:
            if line.result.disturbed:
                share = number(line.result.outside_load_share, scale=100, digits=0)
                disturbed.append(f"{name}, run {line.run}: {share} %")
            if line.exit_warning:
                warned.append(f"{name}, run {line.run}: {line.exit_warning}")
        quiet = [str(line.run) for line in summary.ok if line.result.disturbed is None]
        if quiet:
            unknown.append(f"{name}: run {', '.join(quiet)}")
        if summary.cell.oversubscribed:
            shared.append(name)
        if summary.outliers:
            typical = summary.examples_per_second
            far.append(
                f"{name}: run {', '.join(map(str, summary.outliers))}; median "
                f"{number(typical.median if typical else None)} examples/s with outliers, "
                f"{number(summary.examples_per_second_without_outliers)} without"
            )
    return [(kind, entries) for kind, entries in kinds.items() if entries]
