"""Tests of the functions on batches and metrics that all runners share."""

import numpy as np

from isoscale.common.measure import batches
from isoscale.common.registry import lookup


def test_a_pool_is_stacked_along_a_new_first_dim() -> None:
    pool = [{"x": np.full((2, 3), i), "n": np.asarray(i)} for i in range(4)]
    stacked = batches.stack_pool(pool)
    assert stacked["x"].shape == (4, 2, 3)
    assert stacked["n"].tolist() == [0, 1, 2, 3]
    assert (stacked["x"][3] == 3).all()


def test_scalars_are_separated_from_rows() -> None:
    rows, scalars = batches.split_scalars({"x": np.zeros((2, 3)), "n": np.asarray(2.0)})
    assert set(rows) == {"x"}
    assert set(scalars) == {"n"}


def test_metrics_of_a_step_and_of_a_block() -> None:
    assert batches.unroll({"loss": np.asarray(2.0)}, steps=None) == [{"loss": 2.0}]
    block = {"loss": np.asarray([1.0, 2.0]), "auxiliary_loss": np.asarray([3.0, 4.0])}
    assert batches.unroll(block, steps=2) == [
        {"loss": 1.0, "auxiliary_loss": 3.0},
        {"loss": 2.0, "auxiliary_loss": 4.0},
    ]


def test_metric_names_follow_from_the_model() -> None:
    specs = lookup.parity_specs()
    assert batches.metric_names(specs["mlp_plain"]) == ["loss"]
    assert batches.metric_names(specs["moe_plain"]) == ["loss", "cross_entropy", "auxiliary_loss"]
