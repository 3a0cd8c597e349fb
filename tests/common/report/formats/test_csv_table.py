import csv
import io

import pytest

from isoscale.common.report.formats.csv_table import to_csv
from tests.common.report.fake_study import make_cell, make_line, read_line


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r\n@"])
def test_no_csv_cell_is_a_formula(start: str) -> None:
    line = make_line(make_cell("jax", "bare", 1), 0, 0.01, sequence=0)
    line |= {"status": "failed", "error": f"{start}HYPERLINK(1)"}
    (row,) = csv.DictReader(io.StringIO(to_csv([read_line(line)])))
    assert row["error"] == f"'{start.strip()}HYPERLINK(1)"
    assert row["loss_last_nats"] == "0.5"
