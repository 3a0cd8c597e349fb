"""The files for other programs: ``results.csv``, ``cells.csv`` and ``verdicts.json``."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isoscale.common.analysis.correction import Tested
from isoscale.common.analysis.crossover import Curve, SweepCurves
from isoscale.common.analysis.estimates import CONFIDENCE, Estimate, Ratio
from isoscale.common.analysis.factors import Factors
from isoscale.common.analysis.scaling import CellSummary
from isoscale.common.analysis.verdicts import Outcome, Verdict, why_no_verdict
from isoscale.common.analysis.waterfall import Change, LaneGap, Lanes, Waterfall
from isoscale.common.config.cell import Cell
from isoscale.common.config.records import with_version
from isoscale.common.disk.json_files import write_atomically, write_json
from isoscale.common.machine.own_version import own_version
from isoscale.common.report.formats import csv_table
from isoscale.common.report.study.answers.crossovers import alarm_of, base_name
from isoscale.common.report.study.answers.lanes import INTRODUCTION
from isoscale.common.report.study.data import StudyData
from isoscale.common.report.study.method import rule_of
from isoscale.common.report.words import SAME_CONFIGURATION, accuracy, marks, median_of

CELLS = "cells.csv"
VERDICTS = "verdicts.json"
FILES = (csv_table.FILE, CELLS, VERDICTS)


def write_exports(study: StudyData) -> None:
    """Writes the exports into the study's folder; replaces each file atomically.

    Raises:
      FolderError: the disk is full, or the folder cannot be written.
    """
    write_atomically(study.folder / csv_table.FILE, csv_table.to_csv(study.lines))
    write_atomically(study.folder / CELLS, cells_csv(study))
    write_json(study.folder / VERDICTS, verdicts_record(study))


def has_exports(folder: Path) -> bool:
    """Returns whether a study's folder holds any export."""
    return any((folder / name).exists() for name in FILES)


def cells_csv(study: StudyData) -> str:
    """Returns one row per cell, those of the ladder too; columns that ``results.csv`` has, too,
    have the same names.

    A cell that a setting of strong and one of weak scaling show has a row for each: speedup and
    efficiency have another base there.

    A figure is the median over the runs of the cell, with its 95 % interval; unknown values are
    empty. A tuned cell that is the same configuration as its stock cell has the figures of that
    cell, and its id in ``same_configuration_as_cell_id``: its runs must not be counted twice.
    """
    places = study.places()
    cells = study.entries
    records = [cell.cell.to_record() for cell in cells]
    fields = csv_table.cell_fields(records)
    rows = []
    for cell, record in zip(cells, records, strict=True):
        name, setting = places[cell.cell, cell.scaling]
        own = {
            "setting": setting,
            "scaling": cell.scaling,
            "cell": name,
            "cell_id": cell.cell.id,
            "same_configuration_as_cell_id": cell.measured.id if cell.shared else None,
        }
        rows.append({**own, **{field: record.get(field) for field in fields}, **_figures(cell)})
    header = list(rows[0]) if rows else []
    return csv_table.text(header, (row.values() for row in rows))


def _figures(cell: CellSummary) -> dict[str, Any]:
    """Returns column -> value of the figures of a cell."""
    ok = cell.ok
    figures: dict[str, Any] = {
        "runs_ok": len(ok),
        "runs_not_ok": sum(cell.statuses.values()) - len(ok),
        **_interval("step_seconds", cell.step_seconds, median="step_seconds_median"),
        **_interval("latency_seconds", cell.latency_seconds, median="latency_seconds_median"),
        **_interval("examples_per_second", cell.examples_per_second),
        **_interval("tokens_per_second", cell.tokens_per_second),
        **_interval("flops_per_second_computed", cell.flops_per_second),
        "interval_method": cell.step_seconds.method if cell.step_seconds else None,
        **_ratio("speedup", cell.speedup),
        "speedup_method": cell.speedup.method if cell.speedup else None,
        **_ratio("efficiency_fraction", cell.efficiency),
        "base_cell_id": cell.base.cell.id if cell.base else None,
        "peak_memory_bytes": median_of(ok, lambda result: result.peak_memory_bytes),
        "compile_seconds": median_of(ok, lambda result: result.compile_seconds),
        "loss_first_nats": median_of(ok, lambda result: result.loss_first),
        "loss_last_nats": median_of(ok, lambda result: result.loss_last),
        "accuracy_fraction": median_of(ok, accuracy),
        "parameters": median_of(ok, lambda result: result.parameters),
        "flops_per_step_analytic": median_of(ok, lambda result: result.flops_per_step),
        "marks": "; ".join(marks(cell)),
        "isoscale": "; ".join(
            dict.fromkeys(line.result.isoscale for line in ok if line.result.isoscale)
        ),
    }
    return figures


def _interval(
    name: str, found: Estimate | None, *, median: str | None = None
) -> dict[str, float | None]:
    return {
        median or name: found.median if found else None,
        f"{name}_low": found.low if found else None,
        f"{name}_high": found.high if found else None,
    }


def _ratio(name: str, found: Ratio | None) -> dict[str, float | None]:
    return {
        name: found.value if found else None,
        f"{name}_low": found.low if found else None,
        f"{name}_high": found.high if found else None,
    }


def verdicts_record(study: StudyData) -> dict[str, Any]:
    """Returns every verdict and every crossover of a study as plain JSON values.

    Each verdict divides the ``examples_per_second`` of its subject by those of the other cell. The
    outcome ``same configuration`` has no ratio: tuned is stock there, and nothing was compared.
    ``factors`` has the factors of efficiency of every cell on several devices.
    """
    return with_version(
        {
            "study": study.name,
            "isoscale": own_version(),
            "ratio_of": "examples_per_second",
            "confidence": CONFIDENCE,
            "rule": rule_of(study),
            "rule_of_lanes": INTRODUCTION if study.lanes else None,
            "verdicts": [
                *itertools.chain.from_iterable(
                    (
                        _of_verdict(title, verdict, alarm=study.losses[title].alarm)
                        for verdict in found
                    )
                    for title, found in study.verdicts.items()
                ),
                *itertools.chain.from_iterable(map(_of_lanes, study.lanes)),
            ],
            "factors": [
                _of_factors(setting.title, found)
                for setting in study.settings
                for found in study.factors[setting.title]
            ],
            "crossovers": [_of_curve(study, s, c) for s in study.sweeps for c in s.curves],
        }
    )


def _of_curve(study: StudyData, found: SweepCurves, curve: Curve) -> dict[str, Any]:
    """Returns what a sweep says about one series on one number of devices."""
    answer = curve.answer
    return {
        "sweep": found.sweep.title,
        "axis": found.sweep.axis,
        "series": curve.series,
        "devices": curve.devices,
        "base": base_name(curve),
        "answer": answer.kind,
        "crossover": answer.value,
        "crossover_low": answer.low if answer.value is not None else None,
        "crossover_high": answer.high if answer.value is not None else None,
        "slower_up_to": answer.low if answer.value is None else None,
        "faster_from": answer.high if answer.value is None else None,
        "alarm": alarm_of(study, found),
        "sizes": [
            {
                "size": point.member.size,
                "setting": point.member.setting.title,
                "cell_id": point.cell.cell.id,
                "base_cell_id": point.base.cell.id,
                **_ratio("ratio", point.tested.ratio),
                "p_corrected": point.tested.p,
                "pays": point.pays,
                "runs": point.tested.ratio.n[0],
                "base_runs": point.tested.ratio.n[1],
            }
            for point in curve.points
        ],
    }


def _of_verdict(setting: str, verdict: Verdict, *, alarm: str | None) -> dict[str, Any]:
    other = verdict.other_cell or verdict.subject_cell.base
    return _record(
        setting,
        verdict.question,
        (verdict.subject, verdict.subject_cell.cell),
        (verdict.other, other.cell if other else None),
        found=(verdict.ratio, verdict.p, verdict.outcome),
        alarm=alarm,
        answer=verdict.answer,
        tested=verdict.tested,
    )


def _of_factors(setting: str, found: Factors) -> dict[str, Any]:
    r = found.compute_to_communication
    return {
        "setting": setting,
        "cell": found.name,
        "cell_id": found.cell.cell.id,
        "base_cell_id": found.base.cell.id,
        **_ratio("efficiency_fraction", found.efficiency),
        "factors": [
            {
                "names": list(factor.names),
                **_ratio("factor", factor.ratio),
                "method": factor.ratio.method,
                "n": min(factor.ratio.n),
            }
            for factor in found.factors
        ],
        "product_of_factors": found.product,
        **_ratio("speedup_without_communication", found.without_communication),
        **_ratio("compute_per_exposed_communication", r),
        "no_exposed_communication_measured": r is not None and math.isinf(r.value),
        "fall_of_communication_needed_fraction": found.fall_needed,
    }


def _of_lanes(lanes: Lanes) -> Iterator[dict[str, Any]]:
    """Yields every change of a setting that was measured in several lanes, each pair once."""
    names = {cell.cell: name for name, cell in lanes.setting.cells}

    def change(question: str, a: CellSummary, b: CellSummary, found: Change) -> dict[str, Any]:
        return _record(
            lanes.setting.title,
            question,
            (names[a.cell], a.cell),
            (names[b.cell], b.cell),
            found=(found.ratio, found.p, found.outcome),
            alarm=lanes.alarm,
            answer=found.answer,
        )

    for waterfall in lanes.waterfalls:
        stock, tuned = waterfall.steps[0].cell, waterfall.steps[-1].cell
        if stock is not None and tuned is not None and waterfall.same:
            yield _record(
                lanes.setting.title,
                "tuned against stock",
                (names[tuned.cell], tuned.cell),
                (names[stock.cell], stock.cell),
                found=None,
                reason=waterfall.same,
                alarm=lanes.alarm,
            )
        for question, a, b, found in _steps(waterfall):
            yield change(question, a, b, found)
    for gap in lanes.gaps:
        for lane, changes in (("stock", gap.stock), ("tuned", gap.tuned)):
            for a, b, found in _pairs(gap.members, lane, changes):
                yield change(f"between frameworks, {lane}", a, b, found)


def _steps(
    waterfall: Waterfall,
) -> Iterator[tuple[str, CellSummary, CellSummary, Change]]:
    for before, step in itertools.pairwise(waterfall.steps):
        if step.change is not None and step.cell is not None and before.cell is not None:
            yield "against the rung before", step.cell, before.cell, step.change
    stock, tuned = waterfall.steps[0].cell, waterfall.steps[-1].cell
    if len(waterfall.steps) > 2 and waterfall.total is not None:
        assert stock is not None
        assert tuned is not None
        yield "tuned against stock", tuned, stock, waterfall.total


def _pairs(
    members: dict[str, Waterfall], lane: str, gap: LaneGap
) -> Iterator[tuple[CellSummary, CellSummary, Change]]:
    for (faster, slower), found in gap.changes.items():
        a, b = members[faster].cell(lane), members[slower].cell(lane)
        assert a is not None
        assert b is not None
        yield a, b, found


def _record(
    setting: str,
    question: str,
    subject: tuple[str, Cell],
    other: tuple[str, Cell | None],
    *,
    found: tuple[Ratio, float | None, Outcome] | None,
    alarm: str | None,
    reason: str | None = None,
    answer: str | None = None,
    tested: Tested | None = None,
) -> dict[str, Any]:
    """Returns one verdict.

    Args:
      setting: title.
      question: what is compared.
      subject, other: (name within the setting, cell).
      found: ratio, corrected p and outcome; None if both cells are the same configuration.
      alarm: the reason why the setting's cells must not be compared; None if they may be.
      reason: why both cells are the same configuration.
      answer: the outcome in words; one of four answers if the runs took turns.
      tested: the test of a verdict, with that of equivalence.
    """
    ratio, p, outcome = found or (None, None, SAME_CONFIGURATION)
    if ratio is not None and outcome == "no verdict":
        reason = why_no_verdict([ratio])
    other_name, other_cell = other
    return {
        "setting": setting,
        "question": question,
        "subject": subject[0],
        "subject_cell_id": subject[1].id,
        "other": other_name,
        "other_cell_id": other_cell.id if other_cell else None,
        **_ratio("ratio", ratio),
        "ratio_method": ratio.method if ratio else None,
        "p_corrected": p,
        "outcome": outcome,
        "answer": answer or outcome,
        "p_outside_margin_corrected": tested.p_same if tested else None,
        "planned": tested.planned if tested else None,
        "reason_without_verdict": reason,
        "alarm": alarm,
        "subject_runs": ratio.n[0] if ratio else None,
        "other_runs": ratio.n[1] if ratio else None,
    }
