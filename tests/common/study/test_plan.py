import pytest

from isoscale.common.config.errors import ConfigError
from isoscale.common.study.plan import another_round_fits, choose_pairs, round_order

KNOWN = {"jax": ["bare", "pjit", "pmap"], "torch": ["bare", "ddp"]}


def test_orders_are_permutations_that_depend_on_seed_and_round() -> None:
    orders = [tuple(round_order(20, seed=s, round_index=r)) for s in (0, 1) for r in (0, 1)]
    assert len(set(orders)) == 4
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert round_order(20, seed=0, round_index=1) == list(orders[1])


@pytest.mark.parametrize(
    "used, budget, fits", [(10.0, 300.0, True), (285.0, 300.0, True), (295.0, 300.0, False)]
)
def test_a_round_is_added_if_it_is_expected_to_fit(used, budget, fits) -> None:
    found = another_round_fits(
        used_seconds=used, run_seconds=[1.0, 2.0], cells=10, budget_seconds=budget
    )
    assert found == fits


def test_no_round_is_added_if_no_run_was_measured() -> None:
    assert not another_round_fits(used_seconds=0, run_seconds=[], cells=3, budget_seconds=300)


def test_pairs_of_a_grid() -> None:
    everything = choose_pairs(["jax", "torch"], None, KNOWN, frameworks_given=False)
    assert len(everything) == 5
    some = choose_pairs(["jax", "torch"], ["bare", "ddp"], KNOWN, frameworks_given=True)
    assert some == [("jax", "bare"), ("torch", "bare"), ("torch", "ddp")]
    assert choose_pairs(["jax", "torch"], ["ddp"], KNOWN, frameworks_given=False) == [
        ("torch", "ddp")
    ]


@pytest.mark.parametrize(
    "frameworks, strategies, message",
    [
        (["jax"], ["ddp"], "strategy 'ddp' belongs to torch, but --frameworks=jax"),
        (
            ["jax", "torch"],
            ["ddp"],
            "names no strategy of framework 'jax'; allowed: bare, pjit, pmap",
        ),
    ],
)
def test_strategies_that_do_not_fit_the_frameworks_are_refused(
    frameworks, strategies, message
) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_pairs(frameworks, strategies, KNOWN, frameworks_given=True)
