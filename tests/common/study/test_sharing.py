"""Cells that are the same configuration are planned once, and the study records which."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.commands import compare
from isoscale.common.config.run_config import RunConfig
from isoscale.common.processes.limits import Limits
from isoscale.common.registry import environments, lookup
from isoscale.common.registry.interpreters import Program
from isoscale.common.study.execute import Study
from isoscale.common.study.records import SharedCell, StudyRecord
from isoscale.common.study.sharing import about_shared, share
from isoscale.common.study.store import Store
from isoscale.common.tuning.tweaks import Tweak
from tests.common.report.fake_study import MACHINE, make_line

FLAGS = ("--models=mlp_digits", "--frameworks=jax,torch", "--strategies=bare", "--devices=1")
LANES = [*FLAGS, "--tuning=stock,tuned", "--runs=2", "--study=s"]


def tweak(name: str, **changes: Any) -> Tweak:
    words = dict.fromkeys(("what", "why", "where", "needs", "source"), "x")
    return Tweak(name=name, **words, applies=lambda _: True, pays=lambda _: True, **changes)


TWEAKS = {"jax": (tweak("fast"),), "torch": (), "tensorflow": ()}


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, tuple[Tweak, ...]]:
    """JAX has a tweak that always applies; PyTorch has none."""
    monkeypatch.chdir(tmp_path)
    found = dict(TWEAKS)
    monkeypatch.setattr(lookup, "tweaks", found.__getitem__)
    return found


def cells(*flags: str) -> list[RunConfig]:
    request = compare.read_request([*LANES, *flags])
    assert request is not None
    (session,) = request.sessions
    return session.cells


def named(found: list[RunConfig]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(config.framework, config.tuning, config.tweaks) for config in found]


def planned(*flags: str) -> Study:
    request = compare.read_request(list(flags))
    assert request is not None
    request.store.load()
    return Study(
        request.sessions,
        request.store,
        {name: Program(command=[], missing=None) for name in ("jax", "torch")},
        seed=0,
        limits=Limits(watchdog_seconds=60, compile_seconds=60),
        environment=environments.of_run,
    )


def to_do(study: Study) -> dict[tuple[str, str], int]:
    return {(config.framework, config.tuning): runs for config, runs in study.cells()}


def write(lines: list[tuple[RunConfig, int]], *, status: str = "ok") -> None:
    """Writes the study ``s`` with results; its session has both lanes."""
    store = Store(Path("runs/out/s"))
    store.folder.mkdir(parents=True)
    entries = [
        {**make_line(c.cell().to_record(), run, 0.01, sequence=n), "status": status}
        for n, (c, run) in enumerate(lines)
    ]
    store.folder.joinpath("results.jsonl").write_text(
        "".join(f"{json.dumps(e)}\n" for e in entries)
    )
    flags = [flag for flag in LANES if not flag.startswith("--study")]
    session = {"flags": flags, "rounds": 2, "machine": MACHINE}
    record = StudyRecord.from_record({"scaling": "strong", "order_seed": 0, "sessions": [session]})
    store.write_record(record)


@pytest.mark.parametrize("tuning", ["stock,tuned", "tuned,stock", "ladder", "stock,ladder"])
def test_a_tuned_cell_without_a_tweak_is_run_once(tuning: str) -> None:
    (kept,), shared = share([cells(f"--tuning={tuning}")], begun=())
    assert sorted(named(kept)) == [
        ("jax", "stock", ()),
        ("jax", "tuned", ("fast",)),
        ("torch", "stock", ()),
    ]
    (torch,) = (c.cell().id for c in kept if c.framework == "torch")
    assert shared == [SharedCell(cell_id=torch, lane="tuned")]
    assert shared[0].reason == "tuned adds no tweak"


def test_one_lane_alone_runs_under_its_own_name() -> None:
    for lane in ("tuned", "stock"):
        alone = cells(f"--tuning={lane}")
        assert share([alone], begun=()) == ([alone], [])
        assert {config.tuning for config in alone} == {lane}


def test_tweaks_of_the_user_that_make_both_lanes_equal_are_seen() -> None:
    (kept,), shared = share([cells("--tweaks=+fast")], begun=())
    assert named(kept) == [("jax", "stock", ("fast",)), ("torch", "stock", ())]
    assert len(shared) == 2


def test_a_tweak_that_the_machine_lacks_gives_the_reason(known: dict) -> None:
    known["torch"] = (tweak("gold", missing=lambda: "no gold here"),)
    (kept,), (shared,) = share([cells()], begun=())
    assert ("torch", "stock", ()) in named(kept)
    assert all(config.tweaks_left_out == () for config in kept)
    assert shared.left_out == [("gold", "no gold here")]
    assert shared.reason == "gold is left out (no gold here)"
    assert about_shared([shared, shared]) == [
        "2 tuned cells are the same configuration as stock (gold is left out (no gold here)): run "
        "once, for both lanes"
    ]


def test_sessions_share_with_each_other() -> None:
    stock, tuned = cells("--tuning=stock"), cells("--tuning=tuned")
    kept, shared = share([stock, tuned], begun=())
    assert kept[0] == stock
    assert named(kept[1]) == [("jax", "tuned", ("fast",)), ("torch", "stock", ())]
    assert [found.cell_id for found in shared] == [stock[1].cell().id]
    # The second session alone, in a study with runs of stock: they count, and missing ones follow.
    later, again = share([tuned], begun=[config.cell().id for config in stock])
    assert (later, again) == (kept[1:], shared)


def test_a_plan_counts_shared_cells_once() -> None:
    study = planned(*LANES)
    assert to_do(study) == {("jax", "stock"): 2, ("jax", "tuned"): 2, ("torch", "stock"): 2}
    (shared,) = study.shared
    assert shared.cell_id.startswith("mlp_digits-torch-bare")
    assert shared.cell_id in study.order(0)


def test_a_study_that_has_both_cells_keeps_and_continues_both() -> None:
    """Studies from before cells were shared: no result is lost, and none is measured again."""
    found = cells()
    tuned = next(c for c in found if (c.framework, c.tuning) == ("torch", "tuned"))
    write([*((config, 0) for config in found), (tuned, 1)])
    study = planned("--study=s", "--resume")
    assert study.shared == []
    assert to_do(study) == {
        ("jax", "stock"): 1,
        ("jax", "tuned"): 1,
        ("torch", "stock"): 1,
        ("torch", "tuned"): 0,
    }


@pytest.mark.parametrize("trace", ["failed run", "folder"])
def test_a_tuned_cell_that_has_begun_is_continued(trace: str) -> None:
    found = cells()
    if trace == "failed run":
        write([(config, 0) for config in found], status="failed")
    else:  # its first run may have finished before the study was killed
        write([])
        for config in found:
            Path("runs/out/s/cells", config.cell().id).mkdir(parents=True)
    study = planned("--study=s", "--resume")
    assert study.shared == []
    assert to_do(study)["torch", "tuned"] == 2


def test_a_study_without_the_tuned_cell_shares_it_when_resumed() -> None:
    found = [config for config in cells() if config.tuning == "stock"]
    write([(config, run) for config in found for run in range(2)])
    study = planned("--study=s", "--resume")
    assert to_do(study) == {("jax", "stock"): 0, ("jax", "tuned"): 2, ("torch", "stock"): 0}
    assert len(study.shared) == 1
    # Naming the lane alone, with more runs: the stock cell gets them.
    more = planned("--study=s", "--resume", "--tuning=tuned", "--runs=3")
    assert to_do(more) == {("jax", "tuned"): 3, ("torch", "stock"): 1}
    assert more.shared == study.shared


def test_the_record_of_a_study_has_the_shared_cells_and_reads_earlier_records() -> None:
    write([])
    store = Store(Path("runs/out/s"))
    record = store.record()
    assert record.shared() == []
    assert "shared" not in json.loads((store.folder / "study.json").read_text())["sessions"][0]
    first = SharedCell(cell_id="a", lane="tuned")
    second = SharedCell(cell_id="b", lane="tuned")
    later = SharedCell(cell_id="a", lane="tuned", left_out=[("gold", "no gold here")])
    sessions = [
        dataclasses.replace(record.sessions[0], shared=shared)
        for shared in ([first, second], [later])
    ]
    store.write_record(dataclasses.replace(record, sessions=sessions))
    assert store.record().sessions == sessions
    assert store.record().shared() == [later, second]


@pytest.mark.parametrize(
    "entry, said",
    [
        ({"cell_id": "a", "lane": "stock"}, "lane is 'stock'"),
        ({"cell_id": 1, "lane": "tuned"}, "cell_id is 1"),
        ({"lane": "tuned"}, "cell_id is missing"),
    ],
)
def test_a_damaged_record_is_refused(entry: dict[str, Any], said: str) -> None:
    session = {"flags": [], "rounds": 1, "machine": MACHINE, "shared": [entry]}
    with pytest.raises(ValueError, match=said):
        StudyRecord.from_record({"scaling": "strong", "sessions": [session]})
