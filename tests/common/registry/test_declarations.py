"""Tests of the facts that frameworks and strategies declare, read through the registry."""

from isoscale.common.commands.relay import default_legs
from isoscale.common.registry import lookup


def test_notes_appear_once_and_only_for_used_strategies() -> None:
    (note,) = lookup.strategy_notes([("jax", "pmap"), ("torch", "ddp"), ("jax", "pmap")])
    assert note.startswith("pmap is built on jit")
    assert lookup.strategy_notes([("jax", "pjit"), ("torch", "bare")]) == []


def test_unknown_strategies_have_no_note() -> None:
    """A study from another computer may name frameworks and strategies that are unknown here."""
    assert lookup.strategy_notes([("numpy", "pmap"), ("torch", "pmap"), ("jax", "made_up")]) == []


def test_strategies_by_their_process_model() -> None:
    one = lookup.strategies_of("single")
    assert {"bare", "pjit", "pmap", "mirrored"} <= set(one)
    assert "ddp" in lookup.strategies_of("per_device")
    assert "ddp" not in one


def test_compile_costs_order_torch_before_jax_before_tensorflow() -> None:
    cost = {name: lookup.framework_info(name).compile_cost for name in lookup.frameworks()}
    assert sorted(cost, key=lambda name: cost[name]) == ["torch", "jax", "tensorflow"]


def test_default_legs_use_the_default_strategy_of_each_framework() -> None:
    legs = default_legs(lookup.frameworks())
    assert legs == ["jax:pjit:2", "tensorflow:mirrored:2", "torch:ddp:2"]
    assert default_legs(["torch"]) == ["torch:bare:1", "torch:ddp:2"]
