"""Weights without optimizer state: read from a checkpoint, or written as a checkpoint."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from isoscale.common.checkpoint import files
from isoscale.common.checkpoint.files import State
from isoscale.common.checkpoint.manifest import Manifest, first_difference, tensor_shapes
from isoscale.common.config.errors import ConfigError, require_choice
from isoscale.common.config.model_spec import Arrays, ModelSpec
from isoscale.common.config.optimizer_config import OptimizerConfig
from isoscale.common.disk.folders import make_folder
from isoscale.common.registry import lookup
from isoscale.common.registry.unknown_names import unknown_name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
    """A model's specification and parameters, without a framework.

    Attributes:
      spec: specification of the model.
      dtype: dtype of the computation.
      parameter_dtype: dtype of the parameters; float32 if ``dtype`` is bfloat16.
      parameters: canonical name -> array.
    """

    spec: ModelSpec
    dtype: str
    parameter_dtype: str
    parameters: Arrays


def read_weights(path: str | Path) -> Weights:
    """Returns the weights of a checkpoint.

    Args:
      path: a checkpoint, or a folder of checkpoints; the newest is read.

    Raises:
      ConfigError: the checkpoint does not exist, is damaged, or has a model that this isoscale
        does not have.
    """
    found = files.find(str(path))
    assert found is not None  # None is possible for 'latest' only
    manifest = files.read_manifest(found)
    spec = _spec_of(manifest, called=f"checkpoint '{found}'")
    state = files.read_state(found, manifest)
    return Weights(
        spec=spec,
        dtype=manifest.dtype,
        parameter_dtype=manifest.tensor_dtype,
        parameters=state.parameters,
    )


def _spec_of(manifest: Manifest, *, called: str) -> ModelSpec:
    """Returns the specification in a manifest.

    Raises:
      ConfigError: no model of isoscale has these sizes, or the model has other tensors.
    """
    if manifest.family not in lookup.families():
        kind = f"model family of {called}:"
        raise unknown_name(kind, manifest.family[:40], lookup.families(), own="models")
    spec_class = lookup.spec_class(manifest.family)
    fields = {field.name for field in dataclasses.fields(spec_class)}
    if set(manifest.sizes) != fields:
        name = min(set(manifest.sizes) ^ fields)
        raise ConfigError(
            f"{called}: size '{name[:40]}' is missing, or unknown in model "
            f"family '{manifest.family}'"
        )
    most = len(manifest.tensors)
    for name, value in manifest.sizes.items():
        # Each layer has at least one tensor; a forged larger number would use up the memory.
        count = len(value) if isinstance(value, list) else value if name == "num_layers" else 0
        if isinstance(count, int) and count > most:
            raise ConfigError(f"{called}: {name}={str(value)[:40]} is too large for {most} tensors")
    usual = {field.name: field.default for field in dataclasses.fields(spec_class)}
    sizes = {k: _like(usual[k], v, called=f"{called}: {k}") for k, v in manifest.sizes.items()}
    try:
        spec = spec_class(**sizes)
        shapes = tensor_shapes(spec, slots=manifest.slots)
    except ConfigError as error:
        raise ConfigError(f"{called}: {error}") from None
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise ConfigError(f"{called} has invalid sizes: {str(error)[:200]}") from None
    difference = first_difference(manifest.tensors, shapes)
    if difference:
        raise ConfigError(f"{called} contains tensors that do not match its sizes: {difference}")
    return spec


_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
    tuple: "a list",
}
"""Type of a model's size -> its name in messages."""


def _like(usual: Any, value: Any, *, called: str) -> Any:
    """Returns a size as the type of its default; raises ConfigError for another type."""
    if isinstance(usual, tuple) and isinstance(value, list | tuple):
        return tuple(_like(usual[0], element, called=called) for element in value)
    if type(usual) is float and type(value) is int and abs(value) < 2**53:
        return float(value)
    if type(value) is not type(usual):
        kind = _KINDS[type(usual)]
        raise ConfigError(f"{called}={str(value)[:40]} must be {kind}, for example {usual}")
    return value


def spec_of(model: str, **sizes: Any) -> ModelSpec:
    """Returns the specification of a preset with some sizes changed.

    Raises:
      ConfigError: the model or size does not exist, or the size has another type.
    """
    spec = lookup.preset(model).spec
    for name in sizes:
        require_choice(f"size of {model}", name, spec.size_names())
    changed = {k: _like(getattr(spec, k), v, called=f"{model}: {k}") for k, v in sizes.items()}
    return dataclasses.replace(spec, **changed)


def write_weights(
    folder: str | Path, parameters: Arrays, *, model: str, spec: ModelSpec, came_from: str
) -> Path:
    """Writes weights as a checkpoint at step 0; every runner's ``--resume_from`` accepts it.

    Args:
      folder: folder for the checkpoint; created if it does not exist.
      parameters: canonical name -> array of float32 or float64; other dtypes become float32.
      model: name of the preset.
      spec: specification of the model.
      came_from: origin of the weights, for the manifest.

    Returns:
      Path of the checkpoint.

    Raises:
      ConfigError: a parameter is missing, has another shape, is unknown or is not finite; or the
        folder already contains a checkpoint.
    """
    dtype = "float64" if all(v.dtype == np.float64 for v in parameters.values()) else "float32"
    expected = {p.name: p.shape for p in spec.parameters()}
    difference = first_difference({n: v.shape for n, v in parameters.items()}, expected)
    if difference:
        raise ConfigError(f"the parameters do not fit model '{model}': {difference}")
    state = State(parameters={n: parameters[n].astype(dtype) for n in expected}, slots={})
    broken = state.first_not_finite()
    if broken:
        raise ConfigError(f"{broken} contains NaN or infinity")
    make_folder(Path(folder), flag="folder")
    newest = files.newest_in(Path(folder))
    if newest:
        raise ConfigError(f"'{folder}' already contains '{newest[1].name}'; choose a new folder")
    return files.save(
        Path(folder),
        state,
        step=0,
        batches=1,
        data_sha256="",
        next_batch=0,
        model=model,
        family=lookup.family_of(spec),
        sizes=dataclasses.asdict(spec),
        dtype=dtype,
        seed=0,
        optimizer=dataclasses.asdict(OptimizerConfig()),
        data={},
        written_by={"came_from": came_from},
    )
