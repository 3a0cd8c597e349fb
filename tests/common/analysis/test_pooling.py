"""Runs under different conditions are never pooled silently: shown, and without a verdict."""

from typing import Any

import pytest

from isoscale.common.analysis.scaling import CellSummary, summarize_cells
from isoscale.common.analysis.settings import split_into_settings
from isoscale.common.analysis.verdicts import judge
from isoscale.common.report.words import marks
from tests.common.report.fake_study import make_cell, read_lines

MACHINE = {
    "cpu_model": "A", "instruction_sets": ["avx2", "avx512f"], "memory_bytes": 24 * 2**30,
    "operating_system": "Linux-6.1", "usable_cores": 2, "cpu_quota": None, "gpus": [],
}  # fmt: skip
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}
VERSIONS = {"torch": "2.13.0", "python": "3.11.7"}
FRAMEWORK = {"torch": "torch", "jax": "jax"}


def lines(framework: str, rates: list[float], **of_last: Any) -> list[dict[str, Any]]:
    """Returns a cell's runs; the last run has other conditions."""
    cell = make_cell(framework, "bare", 1, model="m", global_batch_size=64, compile_mode="x",
                     oversubscribed=False)  # fmt: skip
    found = [
        {
            "cell": cell, "run": run, "status": "ok", "error": None, "examples_per_second": rate,
            "step_seconds": {"median": 64 / rate}, "machine": MACHINE, "environment": ENVIRONMENT,
            "versions": VERSIONS, "isoscale": "0.1.0 (commit 0123456789ab)",
        }
        for run, rate in enumerate(rates)
    ]  # fmt: skip
    found[-1] = {**found[-1], **of_last}
    return found


def summaries(*records: list[dict[str, Any]]) -> list[CellSummary]:
    return summarize_cells(
        read_lines([line for some in records for line in some]), scaling="strong"
    )


SLOW, FAST = [100.0, 101.0, 102.0], [200.0, 201.0, 202.0]
CHANGES = [
    ("cpu_model", {"machine": {**MACHINE, "cpu_model": "B"}}),
    ("instruction_sets", {"machine": {**MACHINE, "instruction_sets": ["avx2"]}}),
    ("memory_bytes", {"machine": {**MACHINE, "memory_bytes": 48 * 2**30}}),
    ("operating_system", {"machine": {**MACHINE, "operating_system": "Linux-6.2"}}),
    ("usable_cores", {"machine": {**MACHINE, "usable_cores": 4}}),
    ("cpu_quota", {"machine": {**MACHINE, "cpu_quota": 1.5}}),
    ("gpus", {"machine": {**MACHINE, "gpus": ["H100"]}}),
    ("torch", {"versions": {**VERSIONS, "torch": "2.12.0"}}),
    ("OMP_NUM_THREADS", {"environment": {"OMP_NUM_THREADS": "2"}}),
    ("isoscale", {"isoscale": "0.1.0 (commit 0123456789ab modified)"}),
    ("TF_X", {"environment": {**ENVIRONMENT, "TF_X": "1"}}),
]


@pytest.mark.parametrize("name, change", CHANGES, ids=[name for name, _ in CHANGES])
def test_a_cell_whose_runs_differ_has_no_interval_and_no_verdict(name: str, change) -> None:
    found = summaries(lines("torch", SLOW, **change), lines("jax", FAST))
    (mixed,) = (s for s in found if s.cell.framework == "torch")
    assert len(mixed.mixed) == 1
    assert mixed.mixed[0].startswith(f"{name}: ")
    assert "(run 0, run 1); " in mixed.mixed[0]
    assert f"runs differ in {name}" in marks(mixed)
    assert mixed.examples_per_second is not None
    assert mixed.examples_per_second.median == 101.0
    assert mixed.examples_per_second.low is None
    settings = split_into_settings(found, scaling="strong")
    (verdict,) = (v for verdicts in judge(settings).values() for v in verdicts)
    assert verdict.outcome == "no verdict"
    assert verdict.evidence.endswith(f"no interval: the runs differ in {name})")


def test_runs_under_the_same_conditions_are_compared() -> None:
    found = summaries(lines("torch", SLOW), lines("jax", FAST))
    assert not any(summary.mixed for summary in found)
    (verdict,) = (
        v for vs in judge(split_into_settings(found, scaling="strong")).values() for v in vs
    )
    assert verdict.outcome == "faster"


def test_cells_of_two_machines_are_not_compared() -> None:
    """Each cell is pure, but one was measured on another machine."""
    other = [{**line, "machine": {**MACHINE, "cpu_model": "B"}} for line in lines("jax", FAST)]
    found = summaries(lines("torch", SLOW), other)
    assert not any(summary.mixed for summary in found)
    (verdict,) = (
        v for vs in judge(split_into_settings(found, scaling="strong")).values() for v in vs
    )
    assert verdict.outcome == "no verdict"
    assert verdict.ratio.unsound == "the runs differ in cpu_model"


def test_two_frameworks_may_have_other_versions_and_variables() -> None:
    other = [
        {**line, "versions": {"jax": "0.10", "python": "3.13.0"}, "environment": {"XLA_FLAGS": "a"}}
        for line in lines("jax", FAST)
    ]
    found = summaries(lines("torch", SLOW), other)
    (verdict,) = (
        v for vs in judge(split_into_settings(found, scaling="strong")).values() for v in vs
    )
    assert verdict.outcome == "faster"


@pytest.mark.parametrize("part, unsound", [
    ("extra model mine", True), ("extra data mine", True), ("extra strategy mine", False),
])  # fmt: skip
def test_two_frameworks_share_the_files_of_the_users_model(part: str, unsound: bool) -> None:
    torch, jax = (
        [{**line, "versions": {part: digest}} for line in lines(framework, rates)]
        for framework, rates, digest in (("torch", SLOW, "a"), ("jax", FAST, "b"))
    )
    (verdict,) = (
        v
        for vs in judge(split_into_settings(summaries(torch, jax), scaling="strong")).values()
        for v in vs
    )
    assert (verdict.ratio.unsound == f"the runs differ in {part}") is unsound
    assert verdict.outcome == ("no verdict" if unsound else "faster")


def test_facts_that_a_run_did_not_record_differ_from_nothing() -> None:
    earlier = [
        {k: v for k, v in line.items() if k not in ("machine", "environment", "versions")}
        for line in lines("torch", SLOW)[:1]
    ]
    found = summaries([*earlier, *lines("torch", SLOW)[1:]])
    assert found[0].mixed == []


def test_a_few_pages_of_memory_are_no_difference() -> None:
    less = {**MACHINE, "memory_bytes": 24 * 2**30 - 4096}
    assert summaries(lines("torch", SLOW, machine=less))[0].mixed == []


@pytest.mark.parametrize("disturbed, outcome", [(3, "no verdict"), (2, "faster")])
def test_a_cell_whose_runs_were_all_disturbed_wins_nothing(disturbed: int, outcome: str) -> None:
    fast = [{**line, "disturbed": line["run"] < disturbed} for line in lines("jax", FAST)]
    found = summaries(lines("torch", SLOW), fast)
    (verdict,) = (
        v for vs in judge(split_into_settings(found, scaling="strong")).values() for v in vs
    )
    assert verdict.outcome == outcome
    reason = "all runs of a cell were disturbed from outside"
    assert (reason in verdict.evidence) == (outcome == "no verdict")
