"""Tests the choice of a run's tweaks and the environment that follows from them."""

import dataclasses

import pytest

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.run_config import RunConfig
from isoscale.common.registry import lookup
from isoscale.common.tuning.tweaks import (
    Tweak,
    Wish,
    choose,
    environment,
    read_wish,
)


def make(name: str, **changes) -> Tweak:
    texts = dict.fromkeys(("what", "why", "where", "needs", "source"), f"text of {name}")
    always = {"applies": lambda config: True, "pays": lambda config: True}
    return Tweak(name=name, **{**texts, **always, **changes})


def config(**changes) -> RunConfig:
    spec = lookup.preset("mlp_digits").spec
    values = {
        "framework": "torch",
        "strategy": "bare",
        "model": "mlp_digits",
        "spec": spec,
        "global_batch_size": 8,
        "compile_mode": "eager",
        "steps": 10,
        "window_steps": 5,
        "latency_steps": 1,
        "available_cores": 2,
    }
    return RunConfig(**{**values, **changes})


KNOWN = (
    make("pays"),
    make("fits-not", applies=lambda config: False),
    make("pays-not", pays=lambda config: False),
    make("missing", missing=lambda: "needs a thing"),
    make("compiles", changes={"compile_mode": "compile"}),
    make("only-eager", applies=lambda config: config.compile_mode == "eager"),
)
NAMES = [tweak.name for tweak in KNOWN]


@pytest.mark.parametrize(
    "tuning, wish, expected",
    [
        ("stock", [], []),
        ("ladder", [], []),
        ("tuned", [], ["pays", "compiles"]),
        ("tuned", ["-pays"], ["compiles"]),
        ("tuned", ["-compiles"], ["pays", "only-eager"]),
        ("tuned", ["+pays-not"], ["pays", "pays-not", "compiles"]),
        ("tuned", ["none"], []),
        ("tuned", ["none", "+pays-not"], ["pays-not"]),
        ("stock", ["+pays-not", "+pays"], ["pays", "pays-not"]),
        ("stock", ["+fits-not"], []),
    ],
)
def test_lane_and_wish_decide_the_tweaks(tuning, wish, expected) -> None:
    chosen = choose(config(), KNOWN, tuning=tuning, wish=read_wish(wish, NAMES))
    assert list(chosen.tweaks) == expected
    assert chosen.tuning == tuning
    assert chosen.compile_mode == ("compile" if "compiles" in expected else "eager")


def test_unavailable_tweaks_are_recorded_or_refused() -> None:
    chosen = choose(config(), KNOWN, tuning="tuned", wish=Wish())
    assert chosen.tweaks_left_out == (("missing", "needs a thing"),)
    assert "needs a thing" in str(chosen.to_json())
    with pytest.raises(ConfigError, match="'missing' is unavailable: needs a thing"):
        choose(config(), KNOWN, tuning="stock", wish=read_wish(["+missing"], NAMES))
    with pytest.raises(
        ConfigError, match="'fits-not' has no effect on this run; it is for: text of"
    ):
        choose(
            config(),
            KNOWN,
            tuning="stock",
            wish=read_wish(["+fits-not"], NAMES),
            must_apply=True,
        )


def test_a_requested_compile_mode_is_kept() -> None:
    chosen = choose(config(), KNOWN, tuning="tuned", wish=Wish(), compile_mode_given=True)
    assert chosen.compile_mode == "eager"
    assert ("compiles", "the user chose compile_mode=eager") in chosen.tweaks_left_out
    # The lane also leaves out a tweak that sets the mode that the user chose.
    same = config(compile_mode="compile")
    chosen = choose(same, KNOWN, tuning="tuned", wish=Wish(), compile_mode_given=True)
    assert "compiles" not in chosen.tweaks
    wish = read_wish(["none", "+compiles"], NAMES)  # the words with which a study starts a run
    chosen = choose(same, KNOWN, tuning="tuned", wish=wish, compile_mode_given=True)
    assert chosen.tweaks == ("compiles",)
    with pytest.raises(ConfigError, match="the user chose compile_mode=eager"):
        choose(
            config(),
            KNOWN,
            tuning="stock",
            wish=read_wish(["+compiles"], NAMES),
            compile_mode_given=True,
        )


@pytest.mark.parametrize(
    "words, message",
    [
        (["+huge-page"], "huge-pages"),
        (["huge-pages"], "each word must be \\+name, -name"),
        (["+huge-pages", "-huge-pages"], "both \\+huge-pages and -huge-pages; choose one"),
        ([""], "each word must be"),
    ],
)
def test_bad_wishes_are_refused(words, message) -> None:
    with pytest.raises(ConfigError, match=message):
        read_wish(words, ["huge-pages", "xla"])


def test_cell_and_flags_contain_the_active_tweaks() -> None:
    stock = choose(config(), KNOWN, tuning="stock", wish=Wish())
    tuned = choose(config(), KNOWN, tuning="tuned", wish=Wish())
    # The records of cells without tweaks stay unchanged.
    assert not {"tweaks", "steps_per_dispatch"} & set(stock.cell().to_record())
    assert tuned.cell().tweaks == ("pays", "compiles")
    assert "--tweaks=none,+pays,+compiles" in tuned.to_flags()
    assert "--tuning=tuned" in tuned.to_flags()
    several = dataclasses.replace(stock, steps_per_dispatch=10)
    assert several.cell().steps_per_dispatch == 10


def test_environment_joins_values_and_is_idempotent() -> None:
    known = (
        make("first", variables={"V": ("a=",)}, environment=lambda: {"V": "a=1"}),
        make("second", variables={"V": ("b=", "c=")}, environment=lambda: {"V": "b=2:c=4"}),
    )
    both = ["first", "second"]
    assert environment(known, [], {}) == {}
    assert environment(known, both, {}) == {"V": "a=1:b=2:c=4"}
    found = environment(known, both, {"V": "user=3:a=7:c=5", "OTHER": "y"})
    assert found == {"V": "user=3:a=1:b=2:c=4"}
    assert environment(known, both, found) == found
    # A stock run removes the values that a tuned shell has set.
    assert environment(known, [], found) == {"V": "user=3"}
    assert environment(known, [], {"V": "a=1"}) == {"V": ""}
    # LD_PRELOAD may have blanks between its parts.
    assert environment(known, [], {"V": "a=1 user=3"}) == {"V": "user=3"}
