"""Tests the summary of ``isoscale parity``: its last lines, and the width of its table."""

import dataclasses
import json
from pathlib import Path

import pytest

from isoscale.common.parity.checks import ITSELF
from isoscale.common.parity.compare import GRADIENTS, LOSS, PARAMETERS, Comparison
from isoscale.common.parity.documents import ParityDocument, ParityRun
from isoscale.common.parity.reference import NUMPY
from isoscale.common.report.parity import page

VERSION_1 = Path(__file__).parents[2] / "parity" / "version_1" / "parity.json"
LONG = "transformer_encoder_unpadded/large"
TENSOR = "block_0/attention/query/kernel"


def run(against: str, *, value: float = 1e-16, error: str | None = None, **about) -> ParityRun:
    """Returns a run that was compared with one other side; a failed run has no comparison."""
    comparison = Comparison(against)
    for kind in (LOSS, GRADIENTS, PARAMETERS):
        comparison.add(kind, 24, {"loss" if kind == LOSS else TENSOR: value}, 1e-12)
    known = {"case": LONG, "framework": "tensorflow", "strategy": "bare", "devices": 1}
    return ParityRun(
        **{**known, **about},
        dtype="float64",
        comparisons=() if error else (comparison,),
        error=error,
        seconds=None if error else 1.0,
        log="runs/out/parity/.work/tensorflow-1-single-0/log.txt",
    )


def document(*runs: ParityRun) -> ParityDocument:
    known = ParityDocument.from_json(json.loads(VERSION_1.read_text()))
    return dataclasses.replace(known, runs=runs)


SEVERAL = [
    run(ITSELF),
    run(NUMPY),
    run("jax bare"),
    run("tensorflow bare", strategy="mirrored", devices=2),
    run("tensorflow bare", strategy="mirrored", devices=4, value=2e-12),
    run("jax bare", case="mlp", value=float("inf")),
]


def printed(capsys, found: ParityDocument, *, columns: int, monkeypatch) -> list[str]:
    monkeypatch.setattr(page, "terminal_width", lambda default: columns)
    page.print_summary(found, Path("parity.html"))
    return capsys.readouterr().out.splitlines()


def table_of(lines: list[str]) -> list[str]:
    return lines[: next(i for i, line in enumerate(lines) if line.startswith("@N:"))]


@pytest.mark.parametrize("columns", [60, 80, 109, 110, 120, 200])
def test_the_table_fits_the_terminal_and_keeps_all_texts(columns, capsys, monkeypatch) -> None:
    found = document(*SEVERAL)
    lines = table_of(printed(capsys, found, columns=columns, monkeypatch=monkeypatch))
    assert max(map(len, lines)) <= columns
    text = "".join("".join(lines).split())  # without the spaces and the breaks of lines
    assert "…" not in text
    for pair in page.pairs(found):
        assert "".join(pair.name.split()) in text or columns < 80
        assert pair.model in text
    assert text.count("OUTOFBOUNDS") == 2 or columns < 80
    assert ("parameters" in lines[0] + lines[1]) is (columns >= 110)
    if columns >= 110:
        assert "1.0e-16 @24" in " ".join(lines)


def test_120_columns_are_the_width_without_a_terminal(capsys) -> None:
    page.print_summary(document(*SEVERAL), Path("parity.html"))
    lines = table_of(capsys.readouterr().out.splitlines())
    assert 100 < max(map(len, lines)) <= 120


def last_lines(*runs: ParityRun) -> list[str]:
    found = document(*runs)
    return page.sentences(found, page.pairs(found))


def test_without_a_failure_the_last_line_says_where_pairs_are_equal() -> None:
    *_, last = last_lines(*SEVERAL[:4])
    assert last == "All 5 pairs of 4 runs are within their bounds at the inputs visited."


def test_a_single_pair_and_a_single_run_are_not_in_the_plural() -> None:
    *_, last = last_lines(run(NUMPY))
    assert last.startswith("All 2 pairs of 1 run are within their bounds")
    known = dataclasses.replace(document(run(NUMPY)), initializers=())
    session, last = page.sentences(known, page.pairs(known))
    assert session.startswith("1 run in ")
    assert last == "The only pair of 1 run is within its bounds at the inputs visited."


def test_every_failed_run_is_listed_at_the_end() -> None:
    failed = [
        run(NUMPY, strategy=strategy, error=f"ValueError: no gradient for {TENSOR}")
        for strategy in ("bare", "mirrored")
    ]
    lines = last_lines(*SEVERAL[:2], *failed)
    for line, strategy in zip(lines[-3:], ("bare", "mirrored"), strict=False):
        assert line.startswith(f"FAILED: {LONG} tensorflow {strategy} devices=1 float64: ")
        assert TENSOR in line
    assert lines[-1] == "FAILED: 2 of 4 runs."
    assert not any("within" in line for line in lines)


def test_a_pair_that_lacks_a_side_is_not_called_equal() -> None:
    alone = Comparison("torch bare")
    alone.missing = "torch bare failed"
    jax = dataclasses.replace(run(NUMPY, framework="jax"), comparisons=(alone,))
    found = document(jax, run(NUMPY, framework="torch", error="ValueError: broken"))
    rows = [page.row(pair) for pair in page.pairs(found)]
    assert [row[-2:] for row in rows if row[2] == "jax - torch"] == [
        ["torch bare failed", "NOT COMPARED"]
    ]
    *_, last = page.sentences(found, page.pairs(found))
    assert last == "FAILED: 1 of 2 runs; 1 pair was not compared."


def test_differences_out_of_bounds_come_before_failed_runs() -> None:
    lines = last_lines(*SEVERAL, run(NUMPY, framework="torch", error="ValueError: broken"))
    assert lines[-3].startswith("OUT OF BOUNDS: 2 of ")
    assert lines[-2].startswith("FAILED: ")
    assert not any("within" in line for line in lines)
