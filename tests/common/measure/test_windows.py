import json

import numpy as np
import pytest

from isoscale.common.disk.json_files import to_json, write_atomically
from isoscale.common.measure.result import Summary
from isoscale.common.measure.windows import summarize


def test_json_is_strict() -> None:
    record = {"a": float("nan"), "b": [np.float32(1.5), float("inf")], "c": (np.int64(3), True)}
    assert json.loads(to_json(record)) == {"a": None, "b": [1.5, None], "c": [3, True]}
    with pytest.raises(TypeError, match="object"):
        to_json({"a": object()})


def test_summary_of_nothing_is_unknown() -> None:
    assert summarize([]) == Summary(median=None, mean=None, p10=None, p90=None, n=0)
    assert summarize([1.0, 2.0, 6.0]).mean == 3.0
    assert summarize([1.0, 2.0, 6.0]).median == 2.0


def test_a_failed_write_leaves_the_old_file(tmp_path) -> None:
    path = tmp_path / "x.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
