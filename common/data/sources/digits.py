"""The 1,797 handwritten digits (8 x 8 pixels, 10 classes) that scikit-learn contains.

Source: Alpaydin & Kaynak 1998, UCI "Optical Recognition of Handwritten Digits", test part. The
split is the same for every seed: 1,437 images for training, 360 held out.
"""

import hashlib

import numpy as np

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.model_spec import FeatureBatch, ModelSpec
from isoscale.common.data.dataset import Dataset, finish_batch, generator

PACKAGES = ("sklearn",)
INSTALL = "pip install 'isoscale[digits]'"
TRAINING_IMAGES = 1437
PIXELS, CLASSES = 64, 10


def check(spec: ModelSpec, *, global_batch_size: int) -> None:
    """Raises ConfigError unless the model and the batch fit the data.

    The model must have 64 features and 10 classes. The training images must fill at least one
    batch.
    """
    kind = spec.batch_kind()
    if not isinstance(kind, FeatureBatch):
        raise ConfigError("dataset 'digits' has images; the model takes tokens (use mlp_digits)")
    if (kind.input_size, kind.num_classes) != (PIXELS, CLASSES):
        raise ConfigError(
            f"dataset 'digits' has {PIXELS} features and {CLASSES} classes; the model has "
            f"input_size={kind.input_size} and num_classes={kind.num_classes} "
            "(use mlp_digits)"
        )
    if global_batch_size > TRAINING_IMAGES:
        raise ConfigError(
            f"global_batch_size={global_batch_size} exceeds the {TRAINING_IMAGES} training images "
            "of dataset 'digits'"
        )


def load(spec: ModelSpec, *, global_batch_size: int, pool: int, seed: int, dtype: str) -> Dataset:
    """Returns one epoch in the order of the seed and the test set.

    Args:
      spec: the model.
      global_batch_size: examples per batch.
      pool: largest number of batches; 0: the whole epoch.
      seed: decides the order of the training images.
      dtype: dtype of the images.
    """
    from sklearn.datasets import load_digits  # takes a second; only this function needs it

    images, labels = load_digits(return_X_y=True)
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    images = images / 16.0  # pixels are counts from 0 to 16
    split = generator(0, "digits", 0).permutation(len(images))
    training, held_out = split[:TRAINING_IMAGES], split[TRAINING_IMAGES:]
    training = training[generator(seed, "epoch", 0).permutation(TRAINING_IMAGES)]

    def batch(rows: np.ndarray) -> dict[str, np.ndarray]:
        padding = (0, global_batch_size - len(rows))
        arrays = {
            "inputs": np.pad(images[rows], (padding, (0, 0))),
            "labels": np.pad(labels[rows], padding),
        }
        return finish_batch(spec, dtype, arrays, examples=len(rows))

    full = TRAINING_IMAGES // global_batch_size
    count = min(pool, full) if pool else full
    size = global_batch_size
    return Dataset(
        batches=[batch(training[i * size : (i + 1) * size]) for i in range(count)],
        evaluation=[batch(held_out[i : i + size]) for i in range(0, len(held_out), size)],
        facts={
            "pool_batches": count,
            "training_images_used": count * size,
            "training_images": TRAINING_IMAGES,
            "test_images": len(held_out),
            "sha256": digest,
        },
    )
