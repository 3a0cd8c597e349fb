import numpy as np
import pytest

from isoscale.common.config.errors import ConfigError
from isoscale.common.data.dataset import Dataset, finish_batch
from isoscale.common.data.sources import digits
from isoscale.common.registry import lookup

PAIRS = [
    ("synthetic", "mlp_medium"),
    ("synthetic", "transformer_small"),
    ("synthetic", "gpt_tiny"),
    ("synthetic", "moe_tiny"),
    ("digits", "mlp_digits"),
    ("python_source", "gpt_tiny"),
    ("python_source", "moe_tiny"),
]


def load(source: str, model: str, *, seed: int = 0, batch: int = 8, pool: int = 3) -> Dataset:
    spec = lookup.preset(model).spec
    return lookup.data_source(source).load(
        spec, global_batch_size=batch, pool=pool, seed=seed, dtype="float32"
    )


@pytest.mark.parametrize("source, model", PAIRS)
def test_batches_depend_on_the_seed_alone(source: str, model: str) -> None:
    a, b, c = load(source, model), load(source, model), load(source, model, seed=1)
    first = next(iter(a.batches[0]))
    assert all(
        np.array_equal(x[name], y[name])
        for x, y in zip(a.batches, b.batches, strict=True)
        for name in x
    )
    assert not np.array_equal(a.batches[0][first], c.batches[0][first])
    assert not np.array_equal(a.batches[0][first], a.batches[1][first])
    assert a.batch(4) is a.batches[1]


@pytest.mark.parametrize("source, model", PAIRS)
def test_batches_fit_the_model(source: str, model: str) -> None:
    spec = lookup.preset(model).spec
    data = load(source, model)
    for batch in [*data.batches, *data.evaluation]:
        assert set(spec.input_names) <= set(batch)
        assert batch["weights"].shape == batch["labels"].shape
        assert batch["normalizer"] == batch["weights"].sum()
        assert ("groups" in batch) == (spec.auxiliary_loss_coefficient is not None)
        for name, value in batch.items():
            assert value.dtype in (np.float32, np.int32, np.bool_), name
            assert value.ndim == 0 or len(value) == 8
        if "tokens" in batch:
            assert 0 <= batch["tokens"].min() <= batch["tokens"].max() < spec.vocabulary_size


def test_padded_sequences_end_early() -> None:
    for batch in load("synthetic", "transformer_small", batch=64).batches:
        mask = batch["padding_mask"]
        lengths = mask.sum(1)
        assert lengths.min() >= 64
        assert lengths.max() <= 128
        assert len(set(lengths)) > 5
        assert np.array_equal(mask, np.arange(128) < lengths[:, None])
        assert not batch["tokens"][~mask].any()


def test_causal_labels_are_the_next_tokens() -> None:
    batch = load("python_source", "gpt_tiny").batches[0]
    assert np.array_equal(batch["tokens"][:, 1:], batch["labels"][:, :-1])


def test_padding_before_a_token_is_refused() -> None:
    batch = load("synthetic", "transformer_small").batches[0]
    batch["padding_mask"] = batch["padding_mask"][:, ::-1]
    for batches in ([batch], []):
        with pytest.raises(ConfigError, match=r"before a real token; .*: pad at the end$"):
            Dataset(batches=batches, evaluation=[batch], facts={})


def test_padding_has_no_weight_in_the_loss() -> None:
    spec = lookup.parity_specs()["moe_padded"]
    data = lookup.data_source("synthetic").load(
        spec, global_batch_size=4, pool=1, seed=0, dtype="float64"
    )
    batch = data.batches[0]
    assert np.array_equal(batch["weights"], batch["padding_mask"].astype(float))
    assert batch["weights"].min() == 0
    assert batch["normalizer"] == batch["padding_mask"].sum() < batch["labels"].size


def test_digits_have_the_same_test_images_for_every_seed() -> None:
    data = load("digits", "mlp_digits", batch=64, pool=0)
    assert len(data.batches) == 22
    assert sum(batch["weights"].sum() for batch in data.evaluation) == 360
    rows = {batch["inputs"][i].tobytes() for batch in data.batches for i in range(64)}
    test_rows = [
        batch["inputs"][i].tobytes()
        for batch in data.evaluation
        for i in range(64)
        if batch["weights"][i]
    ]
    assert sum(row in rows for row in test_rows) <= 1  # the data set has a few equal images
    other = load("digits", "mlp_digits", batch=64, pool=0, seed=5)
    for ours, theirs in zip(data.evaluation, other.evaluation, strict=True):
        assert np.array_equal(ours["inputs"], theirs["inputs"])


@pytest.mark.parametrize(
    "source, model, message",
    [
        ("digits", "mlp_medium", "64 features and 10 classes; the model has input_size=799"),
        ("digits", "gpt_tiny", "the model takes tokens"),
        ("python_source", "mlp_digits", "causal language model"),
        ("python_source", "transformer_small", "causal language model"),
    ],
)
def test_unfit_models_are_refused(source: str, model: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        lookup.data_source(source).check(lookup.preset(model).spec, global_batch_size=8)


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(ConfigError, match="global_batch_size=2000"):
        digits.check(lookup.preset("mlp_digits").spec, global_batch_size=2000)


def test_rows_that_fill_up_a_batch_have_no_weight() -> None:
    """Rows that fill a batch count neither in the loss nor in the auxiliary loss."""
    spec = lookup.preset("moe_tiny").spec
    tokens = np.ones((8, spec.sequence_length), np.int32)
    batch = finish_batch(spec, "float32", {"tokens": tokens, "labels": tokens}, examples=5)
    assert batch["weights"].sum(1).tolist() == [spec.sequence_length] * 5 + [0] * 3
    assert batch["normalizer"] == 5 * spec.sequence_length
    assert batch["group_weights"].tolist() == [1] * 5 + [0] * 3
    assert batch["groups"] == 5
