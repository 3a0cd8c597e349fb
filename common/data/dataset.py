"""Batches as host arrays: what every source of data returns, and the pieces they share.

A batch is a dict of NumPy arrays. Entries with a leading batch dim are split over the devices;
entries of rank 0 are the same on every device:

  inputs [B, F] or tokens [B, T], padding_mask [B, T] (true on real tokens),
  labels [B] or [B, T], weights like labels (0 on padding),
  normalizer []: sum of the weights of the *global* batch, which the loss is divided by,
  groups []: examples of the global batch, which the auxiliary loss is divided by, and
  group_weights [B]: 1 for each of them, 0 for what only fills the batch (both only for models that
    have an auxiliary loss).
"""

import dataclasses

import numpy as np

from isoscale.common.config.model_spec import Arrays, ModelSpec, TokenBatch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """Training batches, held-out batches, and what is known about where they come from."""

    batches: list[Arrays]
    evaluation: list[Arrays]
    facts: dict[str, str | int]

    def batch(self, step: int) -> Arrays:
        """Returns the batch of a step: the pool is walked in order, again and again."""
        return self.batches[step % len(self.batches)]

    def tokens_per_example(self) -> float | None:
        """Returns the mean number of real tokens (no padding) in an example; None if no tokens."""
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
    """Returns the batch with float dtype, int32 integers, weights and normalizers filled in.

    Args:
      spec: the model the batch is for.
      dtype: of its floating-point entries.
      arrays: ``inputs`` or ``tokens``, ``labels`` and, for padded sequences, ``padding_mask``.
      examples: how many leading examples are real (the rest gets weight 0); None: all.
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
    """Ends each sequence at a length from U{T/2, ..., T} if the model takes variable lengths."""
    if not kind.variable_length:
        return arrays
    batch, length = arrays["tokens"].shape
    lengths = random.integers((length + 1) // 2, length + 1, batch)
    mask = np.arange(length) < lengths[:, None]
    return {**arrays, "tokens": arrays["tokens"] * mask, "padding_mask": mask}
