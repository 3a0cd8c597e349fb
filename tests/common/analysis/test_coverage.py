"""Tests of what the simulation of studies stands on: the noise, its fit and its file."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks import coverage, plans, record
from tests.benchmarks.noise import Noise, draw, fit

NOISE = Noise(process=0.03, window=0.02, correlation=0.4, stalls=0.03, stall=0.3)


def windows(noise: Noise, groups: int = 40, rounds: int = 50, cells: int = 4) -> dict[str, Any]:
    times = np.exp(
        draw(
            noise,
            np.random.default_rng(0),
            studies=1,
            levels=[0.2 * c for c in range(cells)],
            groups=groups,
            rounds=rounds,
        )[0]
    )
    return {str(c): {g: times[c, g].tolist() for g in range(groups)} for c in range(cells)}


def test_the_fit_finds_the_parameters_of_synthetic_windows() -> None:
    found = fit(windows(NOISE))
    assert found.process == pytest.approx(0.03, rel=0.15)
    assert found.window == pytest.approx(0.02, rel=0.1)
    assert found.correlation == pytest.approx(0.4, abs=0.1)
    assert found.stalls == pytest.approx(0.03, rel=0.25)
    assert found.stall == pytest.approx(0.3, rel=0.2)


def test_the_fit_finds_no_stalls_and_no_process_effects_where_there_are_none() -> None:
    found = fit(windows(dataclasses.replace(NOISE, process=0.0, stalls=0.0, correlation=0.0)))
    assert found.process < 0.003
    assert found.stalls * found.stall < 0.0005  # what the tail of the normal noise adds to a window
    assert found.correlation < 0.1


def test_the_fit_needs_two_cells_two_groups_and_five_rounds() -> None:
    with pytest.raises(ValueError, match="2 cells"):
        fit(windows(NOISE, cells=1))
    for size in ({"groups": 1}, {"rounds": 4}):
        with pytest.raises(ValueError, match="2 groups of 5 rounds"):
            fit(windows(NOISE, **size))


def test_simulated_drift_is_ten_percent_and_common_to_the_cells() -> None:
    quiet = Noise(process=0.0, window=0.0, correlation=0.0, stalls=0.0, stall=0.0)
    times = draw(
        quiet, np.random.default_rng(0), studies=200, levels=(0.0, 0.5), groups=6, rounds=10
    )
    line, wave = (times[start::2, 0].reshape(100, -1) for start in (0, 1))
    assert np.ptp(line, axis=1) == pytest.approx(0.1, abs=0.005)
    assert np.ptp(wave, axis=1).max() == pytest.approx(0.1, abs=0.005)
    # Within a round the cells differ by at most the drift of a round.
    assert np.abs(times[:, 1] - times[:, 0] - 0.5).max() < 0.1 / 2 * 2 * np.pi * 3 / 60


def test_plans_that_learn_the_variances_are_close_to_the_best_plan() -> None:
    random = np.random.default_rng(0)
    for process in (0.01, 0.05):
        noise = dataclasses.replace(NOISE, process=process)
        width = plans.true_variance(noise, random)
        best = plans.true_half(width, plans.best_plan(width))
        halves, covered = plans.planned_studies(noise, random, 200, width)
        assert halves.min() > 0.98 * best
        assert halves.mean() < 1.15 * best
        assert covered == pytest.approx(0.95, abs=0.04)


def entry(machine: str = "one", model: str = "m", **changes: Any) -> dict[str, Any]:
    return {"machine": machine, "model": model, "noise": dataclasses.asdict(NOISE), **changes}


def test_a_new_recording_replaces_that_of_its_machine_and_model(tmp_path: Path) -> None:
    path = tmp_path / "windows.json"
    for each in (entry(), entry(machine="two"), entry(model="n"), entry(date="later")):
        record.write(each, path)
    found = json.loads(path.read_text())
    assert [(e["machine"], e["model"], e.get("date")) for e in found] == [
        ("one", "m", "later"), ("one", "n", None), ("two", "m", None),
    ]  # fmt: skip
    assert coverage.read_noises(path) == dict.fromkeys(["one, m", "one, n", "two, m"], NOISE)


def test_parameters_in_the_file_are_those_of_its_windows() -> None:
    if not coverage.WINDOWS.exists():
        pytest.skip("no windows are recorded yet")
    for each in json.loads(coverage.WINDOWS.read_text()):
        cells = {name: dict(enumerate(groups)) for name, groups in each["seconds"].items()}
        # Seconds are rounded to five digits after the fit.
        assert each["noise"] == pytest.approx(dataclasses.asdict(fit(cells)), rel=0.02), each[
            "model"
        ]


class FakeWorkers:
    """Processes whose windows take as many seconds as they have steps."""

    order: list[str]

    def __init__(self, configs: list[Any]):
        (self.config,) = configs
        self.order.append(f"start {self.config.framework}")

    def window(self, steps: int) -> list[float]:
        self.order.append(self.config.framework)
        return [float(steps)]

    @property
    def started(self) -> tuple[()]:
        return ()

    def end(self) -> None:
        self.order.append(f"end {self.config.framework}")


def test_a_group_starts_and_takes_turns_in_random_order(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(FakeWorkers, "order", order, raising=False)
    monkeypatch.setattr(record, "Workers", FakeWorkers)
    starts = set()
    for _ in range(8):
        order.clear()
        seconds, load = record.record_group("mlp_medium")
        assert load >= 0
        names = sorted(seconds)
        assert seconds == {name: [1.0] * record.ROUNDS for name in names}
        assert sorted(word for word in order if word.startswith("end")) == [
            f"end {name}" for name in names
        ]
        starts.add(tuple(word for word in order if word.startswith("start")))
        turns = order[3 * len(names) : -len(names)]
        each = [
            turns[index : index + 2 * len(names)] for index in range(0, len(turns), 2 * len(names))
        ]
        assert len(each) == record.ROUNDS
        for turn in each:
            assert sorted(turn[::2]) == names
            assert turn[::2] == turn[1::2]  # the unclocked window, then the clocked one
        assert len({tuple(turn[::2]) for turn in each}) > 1
    assert len(starts) > 1


def test_groups_that_other_programs_disturbed_are_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loads = iter([0.0, 0.4, *[0.01] * (record.GROUPS - 1)])
    random = np.random.default_rng(0)
    monkeypatch.setattr(
        record,
        "record_group",
        lambda model: ({n: random.uniform(1, 1.1, 8).tolist() for n in "abc"}, next(loads)),
    )
    found = record.record("m")
    assert found["other_load_cores"] == [0.0] + [0.01] * (record.GROUPS - 1)
    assert {len(groups) for groups in found["seconds"].values()} == {record.GROUPS}
    assert not list(loads)
    loads = iter([0.4] * 9)
    with pytest.raises(RuntimeError, match="other programs disturbed 4 groups of m"):
        record.record("m")


def test_nothing_is_recorded_on_a_busy_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(record, "other_load", lambda: 0.7)
    with pytest.raises(SystemExit, match=r"other programs use 0\.7 cores"):
        record.main([])
    with pytest.raises(SystemExit) as stop:
        record.main(["gpt_9"])
    assert stop.value.code == 2
    assert "unknown model 'gpt_9'" in capsys.readouterr().err


def test_the_benchmark_writes_all_tables_or_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(coverage, "STUDIES", 20)
    monkeypatch.setattr(coverage, "LEAST_STUDIES", 20)
    noises = {"one, m": NOISE, "two, m": NOISE}
    monkeypatch.setattr(coverage, "read_noises", lambda: noises)
    text = "\n".join(coverage.rows())
    tables = [part for part in text.split("\n\n") if part.startswith("|")]
    lines = [table.strip().splitlines() for table in tables]
    assert [len(table) - 2 for table in lines] == [2, 36, 9, 6, 12, 6, 4, 12, 36]
    for table in lines:
        assert len({line.count("|") for line in table}) == 1, table[0]
    noises.clear()
    with pytest.raises(SystemExit, match=r"windows\.json is missing: record windows"):
        list(coverage.rows())
