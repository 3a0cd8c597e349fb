"""Bytes of the Python standard library's source files: real text that every machine has.

The text depends on the Python version; the run's record has the hash of the text.
"""

import hashlib
import sysconfig
from pathlib import Path

import numpy as np

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.model_spec import ModelSpec, TokenBatch
from isoscale.common.data.dataset import Dataset, add_padding, finish_batch, generator

EVALUATION_BATCHES = 4
LONGEST = 65536
"""The longest sequence: far below the half megabyte that is held out in every Python version."""


def check(spec: ModelSpec, *, global_batch_size: int) -> None:
    """Raises ConfigError unless the model fits the text.

    The model must predict the next token and have a vocabulary of at least 256 tokens. The sequence
    length must be at most ``LONGEST``.
    """
    del global_batch_size
    kind = spec.batch_kind()
    if not isinstance(kind, TokenBatch) or kind.num_classes is not None:
        raise ConfigError(
            "dataset 'python_source' needs a causal language model (gpt_tiny, moe_tiny)"
        )
    if kind.vocabulary_size < 256:
        raise ConfigError(
            f"dataset 'python_source' needs vocabulary_size=256 or more, not {kind.vocabulary_size}"
        )
    if kind.sequence_length > LONGEST:
        raise ConfigError(
            f"sequence_length={kind.sequence_length} exceeds {LONGEST}, the longest sequence of "
            "dataset 'python_source'"
        )


def read_text() -> bytes:
    """Returns the top-level modules of the standard library as one text, in the order of names."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    return b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))


def load(spec: ModelSpec, *, global_batch_size: int, pool: int, seed: int, dtype: str) -> Dataset:
    """Returns ``pool`` batches (64 if 0) of random windows, and held-out batches.

    The held-out windows are from the last tenth of the text; the others are from the rest.
    """
    kind = spec.batch_kind()
    assert isinstance(kind, TokenBatch)
    content = read_text()
    text = np.frombuffer(content, np.uint8)
    boundary = len(text) * 9 // 10
    length = kind.sequence_length

    def batch(purpose: str, index: int, low: int, high: int) -> dict[str, np.ndarray]:
        random = generator(seed if purpose == "text" else 0, purpose, index)
        starts = random.integers(low, high - length, global_batch_size)
        windows = text[starts[:, None] + np.arange(length + 1)]
        arrays = {"tokens": windows[:, :-1], "labels": windows[:, 1:]}
        return finish_batch(spec, dtype, add_padding(kind, random, arrays))

    return Dataset(
        batches=[batch("text", i, 0, boundary) for i in range(pool or 64)],
        evaluation=[batch("heldout", i, boundary, len(text)) for i in range(EVALUATION_BATCHES)],
        facts={
            "pool_batches": pool or 64,
            "bytes": len(text),
            "sha256": hashlib.sha256(content).hexdigest(),
        },
    )
