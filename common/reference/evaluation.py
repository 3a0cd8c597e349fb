"""Computes evaluation figures from logits, with the same NumPy code for every framework."""

import numpy as np

from isoscale.common.reference.functions import cross_entropy


class Evaluation:
    """Accumulates weighted loss and accuracy over the batches of an evaluation set."""

    def __init__(self) -> None:
        self._loss = self._correct = self._weight = 0.0

    def add(self, logits: np.ndarray, batch: dict[str, np.ndarray]) -> None:
        """Adds one batch: logits [B, classes] or [B, T, classes]; weight 0 means padding."""
        logits = logits.astype(np.float64)
        weights = batch["weights"].astype(np.float64)
        self._loss += float((cross_entropy(logits, batch["labels"]) * weights).sum())
        self._correct += float(((logits.argmax(-1) == batch["labels"]) * weights).sum())
        self._weight += float(weights.sum())

    def result(self) -> dict[str, float]:
        """Returns ``loss`` (nats), ``accuracy`` (share) and ``n`` (sum of the labels' weights)."""
        return {
            "loss": self._loss / self._weight,
            "accuracy": self._correct / self._weight,
            "n": self._weight,
        }
