"""The exports of a study: cells.csv and verdicts.json, beside results.csv."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.commands.main import main
from isoscale.common.config.records import SCHEMA_VERSION
from isoscale.common.report.study.data import StudyData, load_study
from isoscale.common.report.study.exports import cells_csv, verdicts_record
from isoscale.common.report.study.write import write_report
from tests.common.report.fake_study import grid_lines, ladder_lines, make_cell, write_study

SECONDS = {"jax": 0.012, "tensorflow": 0.010, "torch": 0.008}
TOKENS = 16


def seconds(cell: dict[str, Any]) -> float:
    return SECONDS[cell["framework"]] / (1.6 if cell["devices"] == 2 else 1)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyData:
    """Six runs of a model with tokens and of one without, with a failed run; and its report."""
    lines = grid_lines(models=("gpt_tiny", "mlp_medium"), seconds=seconds)
    for line in lines:
        line["isoscale"] = "1.0 (abc)"
        if line["cell"]["model"] == "gpt_tiny":
            line["tokens_per_second"] = TOKENS * line["examples_per_second"]
    failed = {"status": "failed", "error": "=broke()", "run": 6, "sequence": len(lines)}
    lines.append({**lines[0], **failed})
    found = load_study(write_study(tmp_path_factory.mktemp("e") / "s", lines, steps=0))
    write_report(found, most_drawn=0)
    return found


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def read(study: StudyData, name: str) -> str:
    return (study.folder / name).read_text(encoding="utf-8")


def test_cells_csv_has_the_figures_of_every_cell(study: StudyData) -> None:
    table = rows(read(study, "cells.csv"))
    assert len(table) == len(study.summaries) == 22
    for row, cell in zip(table, study.summaries, strict=True):
        assert row["cell_id"] == cell.cell.id
        assert row["framework"] == cell.cell.framework
        assert int(row["runs_ok"]) == len(cell.ok) == 6
        for name, found in (
            ("examples_per_second", cell.examples_per_second),
            ("flops_per_second_computed", cell.flops_per_second),
            ("speedup", cell.speedup),
        ):
            assert found is not None
            middle = found.value if name == "speedup" else found.median
            ends = (row[f"{name}_low"], row[f"{name}_high"])
            assert float(row[name]) == middle
            assert [float(end) if end else None for end in ends] == [found.low, found.high]
        assert float(row["step_seconds_median"]) == cell.step_seconds.median
        # 1e8 FLOPs in a step of 64 examples.
        rate = float(row["examples_per_second"])
        assert float(row["flops_per_second_computed"]) == pytest.approx(rate * 1e8 / 64)
        tokens = row["tokens_per_second"]
        expected = TOKENS * rate if cell.cell.model == "gpt_tiny" else None
        assert (float(tokens) if tokens else None) == pytest.approx(expected)
        assert float(row["efficiency_fraction"]) == cell.efficiency.value
        assert row["isoscale"] == "1.0 (abc)"
        assert row["loss_first_nats"] == "5.25"
    assert table[0]["marks"] == "1 failed"
    assert table[0]["runs_not_ok"] == "1"


def test_a_figure_has_one_name_in_all_exports(study: StudyData) -> None:
    cells, runs = (set(rows(read(study, name))[0]) for name in ("cells.csv", "results.csv"))
    assert {
        *make_cell("jax", "bare", 1), "examples_per_second", "tokens_per_second",
        "step_seconds_median", "compile_seconds", "peak_memory_bytes", "loss_first_nats",
        "loss_last_nats", "parameters", "flops_per_step_analytic", "isoscale",
    } <= cells & runs  # fmt: skip
    assert verdicts_record(study)["ratio_of"] in cells & runs
    for name in ("results.csv", "cells.csv", "verdicts.json", "report.html"):
        assert "items_per_second" not in read(study, name), name


def test_verdicts_json_has_every_verdict_with_the_ids_of_its_cells(study: StudyData) -> None:
    record = json.loads(read(study, "verdicts.json"))
    assert record["schema_version"] == SCHEMA_VERSION
    assert record["rule_of_lanes"] is None
    expected = [(title, v) for title, found in study.verdicts.items() for v in found]
    assert f"all {len(expected)} tests" in record["rule"]
    ids = {row["cell_id"]: row for row in rows(read(study, "cells.csv"))}
    assert len(record["verdicts"]) == len(expected) > 20
    for found, (title, verdict) in zip(record["verdicts"], expected, strict=True):
        assert found["setting"] == title
        assert found["question"] == verdict.question
        assert (found["subject"], found["other"]) == (verdict.subject, verdict.other)
        assert found["ratio"] == verdict.ratio.value
        assert [found["ratio_low"], found["ratio_high"]] == [verdict.ratio.low, verdict.ratio.high]
        assert found["p_corrected"] == verdict.p
        assert found["ratio_method"] == verdict.ratio.method != ""
        assert found["outcome"] == verdict.outcome
        assert (found["subject_runs"], found["other_runs"]) == verdict.ratio.n
        assert found["reason_without_verdict"] is None
        subject, other = (ids[found[f"{side}_cell_id"]] for side in ("subject", "other"))
        assert subject["cell"] == verdict.subject
        assert other["cell"] == verdict.other
        assert subject["setting"] == other["setting"] == title


def test_a_missing_verdict_has_a_reason(tmp_path: Path) -> None:
    lines = grid_lines(runs=2)
    lines[0]["loss_first"] *= 1.01
    found = load_study(write_study(tmp_path / "s", lines, steps=0))
    verdicts = verdicts_record(found)["verdicts"]
    assert {v["outcome"] for v in verdicts} == {"no verdict"}
    assert {v["reason_without_verdict"] for v in verdicts} == {
        "a verdict needs 3 runs of each cell"
    }
    assert all("do not compute the same thing" in v["alarm"] for v in verdicts)
    assert {v["p_corrected"] for v in verdicts} == {None}


def test_verdicts_of_lanes_are_exported_each_pair_once(tmp_path: Path) -> None:
    tweaks = {"jax": {"a": 0.5, "b": 0.8}, "torch": {"c": 0.9}}
    lines = ladder_lines(tweaks, {"jax": 0.02, "torch": 0.01})
    found = load_study(write_study(tmp_path / "s", lines, steps=0))
    record = verdicts_record(found)
    assert f"corrected for all {found.tests} tests of this report" in record["rule"]
    assert "corrected for all tests of this report together" in record["rule_of_lanes"]
    questions = [v["question"] for v in record["verdicts"] if "lane" not in v["setting"]]
    for question, count in {
        "against the rung before": 3,
        "tuned against stock": 1,
        "between frameworks, stock": 1,
        "between frameworks, tuned": 1,
    }.items():
        assert questions.count(question) == count, question
    cells = {row["cell_id"]: row for row in rows(cells_csv(found))}
    assert len(cells) == 5
    (total,) = (v for v in record["verdicts"] if v["question"] == "tuned against stock")
    assert total["ratio"] == pytest.approx(2.5)
    assert cells[total["subject_cell_id"]]["tweaks"] == "a,b"
    assert cells[total["other_cell_id"]]["tweaks"] == ""


def test_a_study_without_a_result_has_exports(tmp_path: Path) -> None:
    lines = grid_lines(runs=1)
    for line in lines:
        line |= {"status": "failed", "error": "broke"}
        line |= dict.fromkeys(("step_seconds", "latency_seconds", "examples_per_second"))
    found = load_study(write_study(tmp_path / "s", lines, steps=0))
    assert verdicts_record(found)["verdicts"] == []
    table = rows(cells_csv(found))
    assert len(table) == 11
    assert {row["examples_per_second"] for row in table} == {""}


def test_rates_that_no_run_can_have_are_unknown(tmp_path: Path) -> None:
    """A damaged record may hold them; an interval on their logarithms would fail."""
    lines = grid_lines(runs=3)
    for line, rate in zip(lines, [0, -1, 1e308] * len(lines), strict=False):
        line |= {"flops_per_step": rate, "tokens_per_second": min(rate, 0)}
        line["examples_per_second"] *= 1e9
    found = load_study(write_study(tmp_path / "s", lines, steps=0))
    table = rows(cells_csv(found))
    assert {row["tokens_per_second"] for row in table} == {""}
    assert {row["flops_per_second_computed"] for row in table} == {""}


def test_no_value_of_an_export_is_a_formula(tmp_path: Path) -> None:
    lines = grid_lines(runs=1, dataset="=HYPERLINK(1)")
    found = load_study(write_study(tmp_path / "s", lines, steps=0))
    assert {row["dataset"] for row in rows(cells_csv(found))} == {"'=HYPERLINK(1)"}


def test_repair_writes_the_exports_of_an_earlier_report_again(tmp_path: Path) -> None:
    lines = grid_lines(runs=1)
    store = write_study(tmp_path / "s", lines, steps=5)
    names = ("results.csv", "cells.csv", "verdicts.json")
    assert main(["repair", str(store.folder)]) == 0
    assert not any((store.folder / name).exists() for name in names)  # there was no report
    text = (store.folder / "results.jsonl").read_text().splitlines(True)
    (store.folder / "results.jsonl").write_text("".join(text[:-1]))
    write_report(load_study(store), most_drawn=0)
    before = [(store.folder / name).read_text() for name in names]
    assert main(["repair", str(store.folder)]) == 0
    after = [(store.folder / name).read_text() for name in names]
    assert all(len(new) > len(old) for new, old in zip(after, before, strict=True))


def test_tables_show_tokens_for_models_with_tokens_only(study: StudyData) -> None:
    markdown = read(study, "report.md")
    tokens, other = (
        markdown.partition(f"\n## {setting.title}\n")[2].partition("\n## ")[0]
        for setting in study.settings
    )
    assert "| tokens/s | GFLOP/s, computed |" in tokens
    assert "tokens/s" not in other
    assert "| GFLOP/s, computed |" in other
