"""The manifest of a checkpoint: describes the training and the tensors; has no arrays.

``manifest.json`` contains ``{"manifest": {...}, "sha256": "..."}``. The checksum is taken over the
inner object in canonical JSON (keys sorted, no spaces). The checksum detects damage, but not
forgery: a forged file can have a correct checksum. Therefore each field is checked, too.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.model_spec import Arrays, ModelSpec
from isoscale.common.config.run_config import DTYPES, RunConfig, parameter_dtype_of
from isoscale.common.disk.json_files import from_json
from isoscale.common.reference.optimizer import SLOTS

FORMAT, VERSION = "isoscale checkpoint", 2
LARGEST_BYTES = 2 * 2**20
"""Largest size of a manifest: enough for 400 layers, and read in less than a second."""
PARAMETERS = "parameters"
_LARGEST_SIZE = 2**62
_KINDS: dict[str, type] = {
    **dict.fromkeys(("step", "batches", "next_batch", "seed", "file_bytes"), int),
    **dict.fromkeys(("model", "family", "dtype", "data_sha256", "file_sha256"), str),
}
"""Types of the manifest's fields; the other fields are objects."""


def tensor_shapes(spec: ModelSpec, *, slots: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Returns tensor name in the file -> shape, for all tensors of a checkpoint, in order."""
    return {
        f"{group}/{parameter.name}": parameter.shape
        for group in (PARAMETERS, *slots)
        for parameter in spec.parameters()
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """Describes a training and the tensors of a checkpoint.

    A checkpoint at step 0 contains imported weights without optimizer state; any training can
    start from these weights.

    Attributes:
      step: number of training steps done; steps count from 0, so it is also the next step's number.
      batches, data_sha256: number of batches in the training's pool, and their checksum.
      next_batch: index in the pool of the next step's batch.
      model: name of the model, for readers only.
      family: folder of the model in ``models/``.
      sizes: fields of the model's specification.
      dtype: dtype of the computation; with ``bfloat16``, the tensors are float32.
      seed: seed of parameters, batches and dropout.
      optimizer: fields of the optimizer's configuration.
      data: settings that determine the batches.
      written_by: program that wrote the checkpoint, for readers only.
      tensors: tensor name in the file -> shape; all tensors have one dtype.
      file_bytes, file_sha256: size and checksum of the file of tensors.
    """

    step: int
    batches: int
    data_sha256: str
    next_batch: int
    model: str
    family: str
    sizes: dict[str, Any]
    dtype: str
    seed: int
    optimizer: dict[str, Any]
    data: dict[str, Any]
    written_by: dict[str, Any]
    tensors: dict[str, tuple[int, ...]]
    file_bytes: int
    file_sha256: str

    @property
    def slots(self) -> tuple[str, ...]:
        """Slots of the optimizer state in the checkpoint; none at step 0."""
        return SLOTS.get(str(self.optimizer.get("name")), ()) if self.step else ()

    @property
    def tensor_dtype(self) -> str:
        """Dtype of all tensors in the file."""
        return parameter_dtype_of(self.dtype)

    @property
    def tensor_bytes(self) -> int:
        """Bytes of all tensors together."""
        item = np.dtype(self.tensor_dtype).itemsize
        return item * sum(math.prod(shape) for shape in self.tensors.values())

    def to_text(self) -> str:
        """Returns the content of ``manifest.json``."""
        record = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}
        return json.dumps({"manifest": record, "sha256": _digest(record)}, indent=1) + "\n"

    @classmethod
    def from_text(cls, text: bytes) -> Self:
        """Returns the manifest that ``to_text`` wrote.

        Raises:
          ConfigError: the text is no valid manifest; the message completes a sentence that starts
            with the name of the file.
        """
        try:
            outer = from_json(text)
        except ValueError as error:
            raise ConfigError(f"is not JSON ({str(error)[:100]})") from None
        record = outer.get("manifest") if isinstance(outer, dict) else None
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise ConfigError(f"is not the manifest of an {FORMAT}")
        if record.get("version") != VERSION:
            raise ConfigError(
                f"has format version {str(record.get('version'))[:20]!r}; this isoscale reads "
                f"version {VERSION}"
            )
        if outer.get("sha256") != _digest(record) or set(outer) != {"manifest", "sha256"}:
            raise ConfigError("is damaged: its checksum differs from its content")
        return cls(**_checked(record))


def _digest(record: dict[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _checked(record: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of a manifest after checking their types and ranges.

    Raises:
      ConfigError: a field is missing, unknown, or has a wrong type or value.
    """
    fields = {field.name for field in dataclasses.fields(Manifest)}
    given = {name: value for name, value in record.items() if name not in ("format", "version")}
    if set(given) != fields:
        name = min(set(given) ^ fields)
        raise ConfigError(f"{'lacks' if name in fields else 'has an unknown'} field '{name[:40]}'")
    for name, value in given.items():
        in_range = 0 <= value < _LARGEST_SIZE if type(value) is int else True
        if type(value) is not _KINDS.get(name, dict) or not in_range:
            raise ConfigError(f"has an invalid {name}: {str(value)[:40]!r}")
    step, batches, next_batch = (given[name] for name in ("step", "batches", "next_batch"))
    if not batches or next_batch != step % batches:
        raise ConfigError(
            f"has next_batch={next_batch}, which does not match step={step} and batches={batches}"
        )
    if given["dtype"] not in DTYPES:
        raise ConfigError(f"has an invalid dtype: {given['dtype'][:40]!r}")
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in given["tensors"].items():
        sizes = shape if isinstance(shape, list) else []
        usable = [size for size in sizes if type(size) is int and 0 < size < _LARGEST_SIZE]
        if not usable or usable != shape:
            raise ConfigError(f"has an invalid shape of {name[:80]!r}: {str(shape)[:40]}")
        shapes[name] = tuple(usable)
    return {**given, "tensors": shapes}


def describe_training(config: RunConfig, *, family: str) -> dict[str, Any]:
    """Returns the fields of ``Manifest`` that describe a run's training."""
    return {
        "model": config.model,
        "family": family,
        "sizes": _plain(dataclasses.asdict(config.spec)),
        "dtype": config.dtype,
        "seed": config.seed,
        "optimizer": dataclasses.asdict(config.optimizer),
        "data": {
            "dataset": config.dataset,
            "global_batch_size": config.global_batch_size,
            "batch_pool": config.batch_pool,
        },
    }


def _plain(value: Any) -> Any:
    """Returns a value as JSON reads it back, for example tuples as lists."""
    return json.loads(json.dumps(value))


def identify(batches: Sequence[Arrays]) -> dict[str, Any]:
    """Returns the fields of ``Manifest`` that identify a training's batches."""
    digest = hashlib.sha256()
    for batch in batches:
        for name, value in sorted(batch.items()):
            digest.update(f"{name} {value.dtype} {value.shape}\n".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
    return {"batches": len(batches), "data_sha256": digest.hexdigest()}


Shapes = Mapping[str, tuple[int, ...]]


def first_difference(there: Shapes, here: Shapes) -> str | None:
    """Describes the first tensor that differs, in the order of ``here``; None: all are equal.

    Args:
      there: name -> shape of the tensors that were found.
      here: name -> shape of the tensors that are expected.
    """

    def shape(shapes: Shapes, name: str) -> str:
        return str(list(shapes[name]))[:80] if name in shapes else "no tensor"

    for name in (*here, *there):
        if here.get(name) != there.get(name):
            return f"{name[:200]}: found {shape(there, name)}, expected {shape(here, name)}"
    return None


def check_agrees(
    manifest: Manifest,
    training: dict[str, Any],
    spec: ModelSpec,
    *,
    batches: Callable[[], Sequence[Arrays]],
    called: str,
) -> None:
    """Checks that a run can resume from a checkpoint as if the training had never stopped.

    At step 0, only the model (without its dropout rate) and the dtype of the tensors must agree.

    Args:
      manifest: manifest of the checkpoint.
      training: the run's fields from ``describe_training``.
      spec: specification of the run's model.
      batches: returns the run's batches; called last, if all other checks pass.
      called: name of the checkpoint in messages.

    Raises:
      ConfigError: the checkpoint has another model (the message names the first tensor that differs
        and both shapes), dtype, seed, optimizer or data.
    """
    if manifest.step:  # another optimizer has other tensors: name the optimizer, not a tensor
        what = f"{called} does not fit: it was trained with"
        names = [each.get("name") for each in (manifest.optimizer, training["optimizer"])]
        _check_equal(*names, name="optimizer", what=what)
    slots = SLOTS[training["optimizer"]["name"]] if manifest.step else ()
    difference = first_difference(manifest.tensors, tensor_shapes(spec, slots=slots))
    if difference:
        raise ConfigError(f"{called} does not fit model '{training['model']}': {difference}")
    if not manifest.step:  # weights without optimizer state: the run chooses how to train them
        there, here = ({**s, "dropout_rate": None} for s in (manifest.sizes, training["sizes"]))
        what = f"{called} does not fit: its model has"
        _check_equal(manifest.family, training["family"], name="family", what=what)
        _check_equal(there, here, name="sizes", what=what)
    what = f"{called} does not fit: it was trained with"
    for name in ("family", "sizes", "dtype", "seed", "optimizer", "data") if manifest.step else ():
        _check_equal(getattr(manifest, name), training[name], name=name, what=what)
    wanted = parameter_dtype_of(training["dtype"])
    if manifest.tensor_dtype != wanted:
        raise ConfigError(
            f"{called} does not fit: its tensors are {manifest.tensor_dtype}; dtype="
            f"{training['dtype']} needs {wanted}"
        )
    if manifest.step:
        for name, mine in identify(batches()).items():
            _check_equal(getattr(manifest, name), mine, name=name, what=what)


def _check_equal(there: Any, here: Any, *, name: str, what: str) -> None:
    """Raises ConfigError if two values differ; of two dicts, names the first entry that differs."""
    pairs = [(name, there, here)]
    if isinstance(here, dict):
        pairs = [(key, there.get(key), here.get(key)) for key in (*here, *there)]
    for key, theirs, mine in pairs:
        if theirs != mine:
            raise ConfigError(
                f"{what} {str(key)[:40]}={str(theirs)[:40]}; this run has {str(mine)[:40]}"
            )
