"""From flags to the cells of a study: lists of sizes, and strong and weak scaling in one study."""

from pathlib import Path
from typing import Any

import pytest

from isoscale.common.commands import compare
from isoscale.common.config.errors import ConfigError
from isoscale.common.config.run_config import RunConfig
from isoscale.common.study.grid import read_cells
from isoscale.common.study.interleave import RUNS, WINDOWS, decide
from isoscale.common.study.plan import group_key
from isoscale.common.study.records import SessionRecord, StudyRecord
from isoscale.common.study.store import Store
from tests.common.report.fake_study import MACHINE

TORCH = ("--frameworks=torch", "--strategies=bare,ddp", "--nobase_cases")
MLP = ("--models=mlp_medium", "--devices=1")
GPT = ("--models=gpt_tiny", "--devices=1", "--frameworks=torch", "--strategies=bare")


def cells(*flags: str) -> list[RunConfig]:
    fv = compare.define_flags()
    assert fv.parse(flags)
    return read_cells(fv)


def overrides(*flags: str) -> list[dict[str, Any]]:
    return [dict(cell.overrides) for cell in cells(*flags)]


def test_sizes_make_one_cell_for_each_combination() -> None:
    found = overrides(*GPT, "--d_model=64,128,256", "--num_layers=1,4")
    # gpt_tiny has d_model 128 and 4 layers: a size of the preset is no override.
    assert found == [
        {"d_model": 64, "num_layers": 1},
        {"d_model": 64},
        {"num_layers": 1},
        {},
        {"d_model": 256, "num_layers": 1},
        {"d_model": 256},
    ]


@pytest.mark.parametrize(
    "text, values",
    [
        ("64,32", [(64, 32)]),
        ("64x32", [(64, 32)]),
        ("64", [(64,)]),
        ("64x32,16x16x16", [(64, 32), (16, 16, 16)]),
        ("64x32,16", [(64, 32), (16,)]),
        ("64x,32x", [(64,), (32,)]),
        ("256,128,64", []),  # that of the preset
    ],
)
def test_a_size_of_several_numbers_is_one_value_or_several(text: str, values: list) -> None:
    flag = f"--hidden_sizes={text}"
    found = overrides(*MLP, "--frameworks=torch", "--strategies=bare", flag)
    assert [entry["hidden_sizes"] for entry in found if entry] == values
    # The study records the flag; resuming reads it again.
    fv, again = compare.define_flags(), compare.define_flags()
    fv.parse([flag])
    again.parse(fv.as_flags(without=set()))
    assert fv.hidden_sizes == again.hidden_sizes


@pytest.mark.parametrize(
    "flags, values",
    [
        (["--tie_embeddings"], [True]),
        (["--notie_embeddings"], [None]),
        (["--tie_embeddings=true,false"], [True, None]),
        (["--layer_norm_epsilon=1e-3,1e-4"], [None, None]),
        (["--activation=relu,gelu_tanh"], [None, None]),
    ],
)
def test_sizes_of_other_types_are_lists(flags: list[str], values: list) -> None:
    found = overrides(*GPT, *flags)
    assert [entry.get("tie_embeddings") for entry in found] == values
    assert len({str(entry) for entry in found}) == len(values)
    fv, again = compare.define_flags(), compare.define_flags()
    fv.parse(flags)
    again.parse(fv.as_flags(without=set()))
    assert fv.values() == again.values()


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--models=gpt_tiny,mlp_medium", "--d_model=64,128"), "--d_model=64: model 'mlp_medium'"),
        ((*GPT, "--d_model=64,64"), "--d_model=64,64: must not contain a value twice"),
        ((*MLP, "--hidden_sizes=64x64,64x64"), "must not contain a value twice"),
        ((*MLP, "--hidden_sizes=64x,a"), "values with their numbers joined by x (256x128,64x64)"),
        ((*MLP, "--hidden_sizes=64xx64"), "a number must be values separated by commas, without"),
        (("--scaling=strong,weka",), "unknown scaling 'weka'"),
        (("--scaling=weak,weak",), "--scaling=weak,weak: must not contain a value twice"),
    ],
)
def test_mistakes_in_lists_are_one_line(flags: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        cells(*flags)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_sizes_count_for_the_limit_of_a_grid_before_it_is_built() -> None:
    many = ",".join(map(str, range(1, 101)))
    with pytest.raises(ConfigError, match="the grid has 10000 cells or more; at most 5000"):
        cells(*GPT, f"--d_model={many}", f"--d_ff={many}")


def batches(found: list[RunConfig]) -> list[tuple[str, int, int]]:
    return [(cell.strategy, cell.devices, cell.global_batch_size) for cell in found]


def test_strong_and_weak_scaling_share_the_cells_on_one_device() -> None:
    flags = (*TORCH, "--models=mlp_medium", "--devices=1,2", "--global_batch_size=64")
    both = batches(cells(*flags, "--scaling=strong,weak"))
    assert sorted(both) == [("bare", 1, 64), ("ddp", 1, 64), ("ddp", 2, 64), ("ddp", 2, 128)]
    assert set(both) == {
        *batches(cells(*flags, "--scaling=strong")),
        *batches(cells(*flags, "--scaling=weak")),
    }
    # In a sweep over batches, a cell of both is planned once.
    swept = batches(cells(*flags[:-1], "--global_batch_size=64,128", "--scaling=weak,strong"))
    assert len(swept) == len(set(swept)) == 7  # of 2 bases, 2 on one device, 4 on two
    assert swept.count(("ddp", 2, 128)) == 1


def test_cells_of_both_scalings_take_turns_together() -> None:
    found = cells(*TORCH, "--models=mlp_medium", "--devices=1,2", "--scaling=strong,weak")
    groups = {s: len({group_key(c.cell(), scaling=s) for c in found}) for s in ("strong", "weak")}
    assert groups == {"strong": 2, "weak": 2}
    assert len({group_key(c.cell(), scaling="strong,weak") for c in found}) == 1
    other = cells(*TORCH, "--models=mlp_medium", "--devices=1", "--num_classes=8,16")
    assert len({group_key(c.cell(), scaling="strong,weak") for c in other}) == 2


def test_memory_decides_whether_cells_of_both_scalings_live_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = cells(*TORCH, "--models=mlp_medium", "--devices=1,2", "--scaling=strong,weak")
    place = "isoscale.common.study.interleave.memory"
    for gib, mode in ((64, WINDOWS), (1, RUNS)):
        monkeypatch.setattr(place, lambda gib=gib: {"available_bytes": gib * 2**30})
        how = decide("auto", found, scaling="strong,weak")
        assert how.mode == mode
        assert how.reason.startswith("the 4 runs of both scalings need")


def test_a_resumed_study_takes_further_sizes_and_keeps_its_scaling(tmp_path: Path) -> None:
    """Sizes choose cells, as batches do: a study that goes on may have further ones."""
    begun = [*GPT, "--d_model=64", "--scaling=strong,weak", "--runs=1"]
    record = StudyRecord(
        scaling="strong,weak",
        sessions=[SessionRecord(flags=begun, rounds=1, machine=MACHINE)],
    )
    store = Store(tmp_path / "s")
    store.folder.mkdir()
    store.write_record(record)
    resume = [f"--out_dir={tmp_path}", "--study=s", "--resume"]
    request = compare.read_request([*resume, "--d_model=64,32"])
    assert request is not None
    (session,) = request.sessions
    assert [dict(cell.overrides) for cell in session.cells] == [{"d_model": 64}, {"d_model": 32}]
    assert "--d_model=64,32" in session.flags
    same = compare.read_request(resume)
    assert same is not None
    assert [dict(cell.overrides) for cell in same.sessions[0].cells] == [{"d_model": 64}]
    with pytest.raises(ConfigError, match="--scaling=weak: study 's' was started with strong,weak"):
        compare.read_request([*resume, "--scaling=weak"])
