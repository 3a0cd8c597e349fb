"""What a checkpoint says about itself: everything about a training but its arrays.

``manifest.json`` holds ``{"manifest": {...}, "sha256": "..."}``; the checksum is that of the inner
object in canonical JSON (keys sorted, no spaces). It finds damage, not malice: whoever writes a
wrong file can write a right checksum, too, so that everything is looked at all the same.
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
"""Of a manifest: enough for four hundred layers, and read in less than a second."""
PARAMETERS = "parameters"
_LARGEST_SIZE = 2**62
_KINDS: dict[str, type] = {
    **dict.fromkeys(("step", "batches", "next_batch", "seed", "file_bytes"), int),
    **dict.fromkeys(("model", "family", "dtype", "data_sha256", "file_sha256"), str),
}
"""Of the manifest's fields; the others are objects."""


def tensor_shapes(spec: ModelSpec, *, slots: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Returns name in the file -> shape, for all tensors of a checkpoint, in order."""
    return {
        f"{group}/{parameter.name}": parameter.shape
        for group in (PARAMETERS, *slots)
        for parameter in spec.parameters()
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything about a training but its arrays.

    At step 0 nothing has been trained: a checkpoint of weights that came from elsewhere, without
    optimizer state, that any training may begin with.

    Attributes:
      step: training steps done, which is the number of the next one.
      batches, data_sha256: how many batches the training walks through, and their checksum.
      next_batch: the data cursor: the place among them of the batch of the next step.
      model: name of the model, for people.
      family: folder of the model in ``models/``.
      sizes: the fields of its specification.
      dtype: of the computation; ``bfloat16`` keeps its tensors in float32.
      seed: of parameters, batches and dropout.
      optimizer: the fields of its configuration.
      data: what decides the batches.
      written_by: who wrote it, for people.
      tensors: name in the file -> shape; all have one dtype.
      file_bytes, file_sha256: of the tensors' file.
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
        """Of the optimizer, as far as it has state."""
        return SLOTS.get(str(self.optimizer.get("name")), ()) if self.step else ()

    @property
    def tensor_dtype(self) -> str:
        return parameter_dtype_of(self.dtype)

    @property
    def tensor_bytes(self) -> int:
        item = np.dtype(self.tensor_dtype).itemsize
        return item * sum(math.prod(shape) for shape in self.tensors.values())

    def to_text(self) -> str:
        """Returns the content of ``manifest.json``."""
        record = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}
        return json.dumps({"manifest": record, "sha256": _digest(record)}, indent=1) + "\n"

    @classmethod
    def from_text(cls, text: bytes) -> Self:
        """Reads what ``to_text`` wrote.

        Raises:
          ConfigError: it is something else; the message ends a sentence about the file.
        """
        if len(text) > LARGEST_BYTES:
            raise ConfigError(f"is larger than {LARGEST_BYTES} bytes")
        try:
            outer = from_json(text)
        except (ValueError, RecursionError):
            raise ConfigError("is not JSON") from None
        record = outer.get("manifest") if isinstance(outer, dict) else None
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise ConfigError(f"is not the manifest of an {FORMAT}")
        if record.get("version") != VERSION:
            raise ConfigError(
                f"has version {str(record.get('version'))[:20]!r} of the format; this isoscale "
                f"reads version {VERSION}"
            )
        if outer.get("sha256") != _digest(record) or set(outer) != {"manifest", "sha256"}:
            raise ConfigError("is damaged: its checksum differs from its content")
        return cls(**_checked(record))


def _digest(record: dict[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _checked(record: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of a manifest, each of its kind.

    Raises:
      ConfigError: one of them is not.
    """
    fields = {field.name for field in dataclasses.fields(Manifest)}
    given = {name: value for name, value in record.items() if name not in ("format", "version")}
    if set(given) != fields:
        name = min(set(given) ^ fields)
        raise ConfigError(f"{'lacks' if name in fields else 'has an unknown'} field '{name[:40]}'")
    for name, value in given.items():
        in_range = 0 <= value < _LARGEST_SIZE if type(value) is int else True
        if type(value) is not _KINDS.get(name, dict) or not in_range:
            raise ConfigError(f"has a bad {name}: {str(value)[:40]!r}")
    step, batches, next_batch = (given[name] for name in ("step", "batches", "next_batch"))
    if not batches or next_batch != step % batches:
        raise ConfigError(
            f"goes on with batch {next_batch}; after {step} steps over {batches} batches that "
            "cannot be"
        )
    if given["dtype"] not in DTYPES:
        raise ConfigError(f"has a bad dtype: {given['dtype'][:40]!r}")
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in given["tensors"].items():
        sizes = shape if isinstance(shape, list) else []
        usable = [size for size in sizes if type(size) is int and 0 < size < _LARGEST_SIZE]
        if not usable or usable != shape:
            raise ConfigError(f"has a bad shape of {name[:80]!r}: {str(shape)[:40]}")
        shapes[name] = tuple(usable)
    return {**given, "tensors": shapes}


def describe_training(config: RunConfig, *, family: str) -> dict[str, Any]:
    """Returns what a checkpoint of a run says of its training, as fields of ``Manifest``."""
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
    """Returns a value as JSON gives it back."""
    return json.loads(json.dumps(value))


def identify(batches: Sequence[Arrays]) -> dict[str, Any]:
    """Returns what a checkpoint says of the data of its training, as fields of ``Manifest``."""
    digest = hashlib.sha256()
    for batch in batches:
        for name, value in sorted(batch.items()):
            digest.update(f"{name} {value.dtype} {value.shape}\n".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
    return {"batches": len(batches), "data_sha256": digest.hexdigest()}


Shapes = Mapping[str, tuple[int, ...]]


def first_difference(there: Shapes, here: Shapes) -> str | None:
    """Returns the first tensor (in our order) that two sides do not share, and both its shapes.

    Args:
      there: name -> shape of what was given.
      here: of what is wanted.
    """

    def shape(shapes: Shapes, name: str) -> str:
        return str(list(shapes[name]))[:80] if name in shapes else "missing"

    for name in (*here, *there):
        if here.get(name) != there.get(name):
            return f"{name[:200]} is {shape(there, name)} there and {shape(here, name)}"
    return None


def check_agrees(
    manifest: Manifest,
    training: dict[str, Any],
    spec: ModelSpec,
    *,
    batches: Callable[[], Sequence[Arrays]],
    called: str,
) -> None:
    """Checks that a training can go on from a checkpoint as if it had never stopped.

    Args:
      manifest: the checkpoint's.
      training: the run's, from ``describe_training``.
      spec: the run's model.
      batches: makes the run's batches, which is not done unless all else agrees.
      called: what users know the checkpoint as.

    Raises:
      ConfigError: another model (with the first tensor that differs, and both shapes), dtype, seed,
        optimizer or other batches.
    """
    slots = SLOTS[training["optimizer"]["name"]] if manifest.step else ()
    difference = first_difference(manifest.tensors, tensor_shapes(spec, slots=slots))
    if difference:
        raise ConfigError(f"{called} does not fit: {difference} in model '{training['model']}'")
    if not manifest.step:  # weights alone: how they are trained is the run's own matter
        there, here = ({**s, "dropout_rate": None} for s in (manifest.sizes, training["sizes"]))
        what = f"{called} does not fit: it is of a model with"
        _check_equal(manifest.family, training["family"], name="family", what=what)
        _check_equal(there, here, name="sizes", what=what)
    what = f"{called} does not fit: it was trained with"
    for name in ("family", "sizes", "dtype", "seed", "optimizer", "data") if manifest.step else ():
        _check_equal(getattr(manifest, name), training[name], name=name, what=what)
    wanted = parameter_dtype_of(training["dtype"])
    if manifest.tensor_dtype != wanted:
        raise ConfigError(
            f"{called} does not fit: its tensors are {manifest.tensor_dtype}, those of dtype="
            f"{training['dtype']} are {wanted}"
        )
    if manifest.step:
        for name, mine in identify(batches()).items():
            _check_equal(getattr(manifest, name), mine, name=name, what=what)


def _check_equal(there: Any, here: Any, *, name: str, what: str) -> None:
    """Raises ConfigError for two values, or the first entries of two dicts, that differ."""
    pairs = [(name, there, here)]
    if isinstance(here, dict):
        pairs = [(key, there.get(key), here.get(key)) for key in (*here, *there)]
    for key, theirs, mine in pairs:
        if theirs != mine:
            raise ConfigError(
                f"{what} {str(key)[:40]}={str(theirs)[:40]}, this run has {str(mine)[:40]}"
            )
