"""The name of a family stands for all its sizes, in every command that takes several models."""

from pathlib import Path

import pytest

from isoscale.common.commands import compare, parity, relay
from isoscale.common.commands.main import main
from isoscale.common.parity.cases import all_cases
from isoscale.common.registry import lookup

SIZES = ["transformer_small", "transformer_large", "gpt_tiny"]
ONE = ("--frameworks=torch", "--strategies=bare", "--devices=1")


def test_compare_trains_all_sizes_and_records_their_names(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["--models=gpt_tiny,transformer", *ONE]
    request = compare.read_request(argv)
    assert request is not None
    (session,) = request.sessions
    assert [cell.model for cell in session.cells] == ["gpt_tiny", *SIZES[:2]]
    # A later isoscale with more sizes goes on with these ones.
    assert "--models=gpt_tiny,transformer_small,transformer_large" in session.flags
    assert "--models" not in " ".join(compare._session([*ONE]).flags)


def test_explain_and_tweaks_take_families(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    dry = ["explain", "new", "--models=transformer", "--frameworks=torch", "--dry_run"]
    for argv in (dry, ["tweaks", "--models=transformer", "--json"]):
        assert main(argv) == 0
        said = capsys.readouterr().out
        assert all(size in said for size in SIZES)
        assert "moe" not in said.replace("moe_", "")


def test_parity_and_relay_train_the_small_sizes_too(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = [
        n for n, spec in lookup.parity_specs().items() if lookup.family_of(spec) == "transformer"
    ]
    checked = parity.read_request(["--models=transformer", *ONE, "--dtype=float64"])
    assert checked is not None
    trained = [case.name for case in checked.matrix.all_cases if not case.large]
    assert trained == [*small, *SIZES]
    handed = relay.read_request(["--model=transformer,mlp_plain/accumulated"])
    assert handed is not None
    assert {job.case for job in handed.plan.jobs} == {*small, *SIZES, "mlp_plain/accumulated"}
    assert all_cases().keys() >= {*small, *SIZES}


@pytest.mark.parametrize(
    "argv",
    [
        ["compare", "--models=tranformer"],
        ["explain", "new", "--models=tranformer", "--dry_run"],
        ["tweaks", "--models=tranformer"],
        ["parity", "--models=tranformer"],
        ["relay", "--model=tranformer"],
    ],
)
def test_a_misspelt_family_is_suggested(argv: list[str], tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert "did you mean 'transformer', 'transformer_small' or 'transformer_large'?" in said
    assert said.count("\n") == 1
