from pathlib import Path

import pytest

from isoscale.common.report.study.data import load_study
from isoscale.common.report.study.drift import drift
from isoscale.common.report.study.write import write_report
from tests.common.report.fake_study import make_cell, make_line, write_study


@pytest.mark.parametrize("sessions", [1, 2, 3])
def test_drift_is_found_across_sessions_with_different_cells(tmp_path: Path, sessions: int) -> None:
    """Each session of the study has its own cells; the drift covers all sessions."""
    cells = [
        make_cell("torch", "ddp", 1, model=f"m{session}_{i}")
        for session in range(sessions)
        for i in range(5)
    ]
    total = 6 * len(cells)
    lines = []
    for session in range(sessions):
        for run in range(6):
            for cell in cells[5 * session : 5 * session + 5]:
                order = len(lines)
                step = 0.01 * (1 + session) * 1.2 ** (order / (total - 1))
                lines.append(make_line(cell, run, step, sequence=order))
    loaded = load_study(write_study(tmp_path / "s", lines, steps=0))
    found = drift(loaded)
    assert found is not None
    change, low, high, runs = found
    write_report(loaded)
    assert (
        "Time per step changed by +20.0 % [+20.0, +20.0]"
        in (loaded.folder / "report.html").read_text()
    )
    assert change == pytest.approx(0.2, abs=1e-6)
    assert low <= change <= high
    assert runs == total
