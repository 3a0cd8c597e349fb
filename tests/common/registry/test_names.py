"""Names of models: those of sizes, and those of families, which mean all their sizes."""

from pathlib import Path

import pytest

from isoscale.common.config.errors import ConfigError
from isoscale.common.parity.cases import all_cases, named
from isoscale.common.program import main as program
from isoscale.common.registry import extra, lookup
from isoscale.common.registry.unknown_names import unknown_name

TRANSFORMERS = ["transformer_small", "transformer_large", "gpt_tiny"]


def test_a_family_means_all_its_sizes_each_once() -> None:
    assert lookup.presets_of(["transformer"]) == TRANSFORMERS
    assert lookup.presets_of(["gpt_tiny", "transformer", "moe"]) == [
        "gpt_tiny", "transformer_small", "transformer_large", "moe_tiny",
    ]  # fmt: skip


def test_a_size_with_the_name_of_a_family_comes_first() -> None:
    assert lookup.sizes_of(["a"], {"a": "a", "a_large": "a"}) == ["a"]
    assert lookup.sizes_of(["a"], {"a_small": "a", "a_large": "a", "b": None}) == [
        "a_small", "a_large",
    ]  # fmt: skip


def test_in_parity_a_family_means_its_small_sizes_and_its_presets() -> None:
    small = [n for n in lookup.parity_specs() if n.startswith("transformer_")]
    assert len(small) == 4
    assert named(["transformer"], all_cases()) == [*small, *TRANSFORMERS]
    assert named(["mlp_plain/dropout"], all_cases()) == ["mlp_plain/dropout"]


@pytest.mark.parametrize("find", [lookup.presets_of, lambda names: named(names, all_cases())])
def test_an_unknown_name_gets_families_and_sizes_as_suggestions(find) -> None:
    with pytest.raises(ConfigError, match="'transformer', 'transformer_small' or 'transformer_l"):
        find(["gpt_tiny", "tranformer"])


def test_no_size_has_the_name_of_a_family() -> None:
    """Otherwise this name would mean one size in one command, and all sizes in another one."""
    assert not {*lookup.families()} & {*lookup.presets(), *lookup.parity_specs()}
    assert named(["mlp"], all_cases()) == ["mlp_plain", *lookup.presets_of(["mlp"])]
    assert "moe_plain" in named(["moe"], all_cases())


def test_one_run_trains_one_size() -> None:
    with pytest.raises(ConfigError, match=r"'moe' is a family of models; .* sizes: moe_tiny$"):
        lookup.preset("moe")


def test_one_run_trains_no_size_of_parity() -> None:
    with pytest.raises(ConfigError, match=r"^'moe_ties' is for .* its family: moe_tiny$"):
        lookup.preset("moe_ties")


def test_an_unknown_name_asks_for_the_own_folder_if_none_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(extra.VARIABLE, raising=False)
    said = str(unknown_name("model", "my_net", ["mlp"], own="models"))
    assert said == "unknown model 'my_net'. Known: mlp. Your own models need --extra=FOLDER"
    monkeypatch.setenv(extra.VARIABLE, str(tmp_path))
    said = str(unknown_name("model", "my_net", ["mlp"], own="models"))
    assert said == "unknown model 'my_net'. Known: mlp"


def test_the_usual_strategy() -> None:
    assert {lookup.usual_strategy(name, 1) for name in lookup.frameworks()} == {"bare"}
    assert [lookup.usual_strategy(name, 2) for name in ("jax", "tensorflow", "torch")] == [
        "pjit", "mirrored", "ddp",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "flags, strategy",
    [
        ([], "bare"),
        (["--devices=2"], "mirrored"),
        (["--devices=2", "--strategy=mirrored"], "mirrored"),
    ],
)
def test_a_program_takes_the_usual_strategy(flags: list[str], strategy: str) -> None:
    fv = program.define_flags("tensorflow")
    fv.parse(["--model=mlp_digits", "--allow_oversubscription", *flags])
    config, _ = program.read_config(fv, "tensorflow")
    assert (config.strategy, config.devices) == (strategy, 2 if flags else 1)
