"""The windows of a run, as the views of a study read them."""

from pathlib import Path

import pytest

from isoscale.common.report.study.data import load_study
from tests.common.report.fake_study import grid_lines, write_study


def test_a_window_with_a_negative_duration_is_refused(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "s", grid_lines(devices=(1,))))
    line = study.lines[0]
    path = study.folder / str(line.result.run_dir) / "windows.jsonl"
    path.write_text('{"seconds": 0.5}\n')
    assert study.windows(line) == [{"seconds": 0.5}]
    path.write_text('{"seconds": 0.5}\n{"seconds": -3600.0}\n')
    with pytest.raises(ValueError, match="negative duration"):
        study.windows(line)
