"""Random batches from the seed, in the model's shapes.

Labels are random, so no model can generalise to other batches.
"""

from isoscale.common.config.model_spec import FeatureBatch, ModelSpec
from isoscale.common.data.dataset import Dataset, add_padding, finish_batch, generator


def check(spec: ModelSpec, *, global_batch_size: int) -> None:
    """Accepts every model and batch."""
    del spec, global_batch_size


def load(spec: ModelSpec, *, global_batch_size: int, pool: int, seed: int, dtype: str) -> Dataset:
    """Returns ``pool`` batches (8 if 0); batch i depends on (seed, i) alone."""
    kind = spec.batch_kind()
    size = global_batch_size
    batches = []
    for index in range(pool or 8):
        random = generator(seed, "batch", index)
        if isinstance(kind, FeatureBatch):
            arrays = {
                "inputs": random.standard_normal((size, kind.input_size)),
                "labels": random.integers(kind.num_classes, size=size),
            }
        elif kind.num_classes is None:
            text = random.integers(kind.vocabulary_size, size=(size, kind.sequence_length + 1))
            arrays = add_padding(kind, random, {"tokens": text[:, :-1], "labels": text[:, 1:]})
        else:
            tokens = random.integers(kind.vocabulary_size, size=(size, kind.sequence_length))
            labels = random.integers(kind.num_classes, size=size)
            arrays = add_padding(kind, random, {"tokens": tokens, "labels": labels})
        batches.append(finish_batch(spec, dtype, arrays))
    return Dataset(batches=batches, evaluation=[], facts={"pool_batches": len(batches)})
