"""Batches as host arrays: the type that every data source returns, and shared functions.

A batch is a dict of NumPy arrays. Entries with a leading batch dim are split over the devices;
entries of rank 0 are the same on every device:

  inputs [B, F] or tokens [B, T], padding_mask [B, T] (true on real tokens, which come first),
  labels [B] or [B, T], weights with the shape of labels (0 on padding),
  normalizer []: sum of the weights of the *global* batch; the divisor of the loss.

Batches of models with an auxiliary loss have two more entries:

  groups []: number of examples of the global batch; the divisor of the auxiliary loss,
  group_weights [B]: 1 for each example, 0 for rows that only fill the batch.
"""

import dataclasses

import numpy as np

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.model_spec import Arrays, ModelSpec, TokenBatch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """Training batches, held-out batches, and facts about their source.

    Attributes:
      batches: the pool of training batches.
      evaluation: held-out batches; empty if the source has none.
      facts: name -> fact about the source, for the run's record.

    Raises:
      ConfigError: a sequence has padding before a real token. JAX's attention kernel on GPUs takes
        lengths instead of masks.
    """

    batches: list[Arrays]
    evaluation: list[Arrays]
    facts: dict[str, str | int]

    def __post_init__(self) -> None:
        for batch in (*self.batches, *self.evaluation):
            mask = batch.get("padding_mask")
            if mask is not None and (mask[:, 1:] > mask[:, :-1]).any():
                raise ConfigError(
                    "the data set's padding_mask has padding before a real token; padding must "
                    "follow the tokens of its sequence: pad at the end"
                )

    def batch(self, step: int) -> Arrays:
        """Returns the batch of a step: entry ``step`` modulo the size of the pool."""
        return self.batches[step % len(self.batches)]

    def tokens_per_example(self) -> float | None:
        """Returns the mean number of real tokens (without padding) per example; None: no tokens."""
        if "tokens" not in self.batches[0]:
            return None
        masks = [batch.get("padding_mask", np.ones_like(batch["tokens"])) for batch in self.batches]
        return float(np.mean([mask.sum() / len(mask) for mask in masks]))


def generator(seed: int, purpose: str, index: int) -> np.random.Generator:
    """Returns a random generator that depends on its arguments alone."""
    word = int.from_bytes(purpose.encode()[:8], "little")
    return np.random.Generator(np.random.Philox(key=(seed << 64) | word, counter=index << 128))


def finish_batch(
    spec: ModelSpec, dtype: str, arrays: Arrays, *, examples: int | None = None
) -> Arrays:
    """Returns the complete batch: converts dtypes, adds weights and normalizers.

    Integers become int32.

    Args:
      spec: the model that will train on the batch.
      dtype: dtype of the floating-point entries.
      arrays: ``inputs`` or ``tokens``, ``labels`` and, for padded sequences, ``padding_mask``.
      examples: number of leading rows that are real examples (other rows get weight 0); None: all.
    """
    batch = {
        name: value.astype(dtype if value.dtype.kind == "f" else np.int32)
        if value.dtype != bool
        else value
        for name, value in arrays.items()
    }
    labels = batch["labels"]
    weights = np.ones(labels.shape, dtype)
    if labels.ndim == 2 and "padding_mask" in batch:
        weights *= batch["padding_mask"]
    if examples is not None:
        weights[examples:] = 0
    batch["weights"] = weights
    batch["normalizer"] = np.asarray(weights.sum(), dtype)
    if spec.auxiliary_loss_coefficient is not None:
        batch["group_weights"] = np.ones(len(labels), dtype)
        if examples is not None:
            batch["group_weights"][examples:] = 0
        batch["groups"] = np.asarray(batch["group_weights"].sum(), dtype)
    return batch


def add_padding(kind: TokenBatch, random: np.random.Generator, arrays: Arrays) -> Arrays:
    """Returns the arrays; for models with variable lengths, with padding after each sequence.

    Each sequence's length is drawn from U{T/2, ..., T}.
    """
    if not kind.variable_length:
        return arrays
    batch, length = arrays["tokens"].shape
    lengths = random.integers((length + 1) // 2, length + 1, batch)
    mask = np.arange(length) < lengths[:, None]
    return {**arrays, "tokens": arrays["tokens"] * mask, "padding_mask": mask}
