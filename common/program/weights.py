"""Weights alone: out of a checkpoint into a native model, and from a native model into one."""

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
    """What makes a model, whatever the framework.

    Attributes:
      spec: of the model.
      dtype: of the computation.
      parameter_dtype: of the parameters: float32 under bfloat16.
      parameters: canonical name -> array.
    """

    spec: ModelSpec
    dtype: str
    parameter_dtype: str
    parameters: Arrays


def read_weights(path: str | Path) -> Weights:
    """Reads the model of a checkpoint: a checkpoint, or the newest in a folder of some.

    Raises:
      ConfigError: there is none, it is damaged, or of a model that this isoscale does not have.
    """
    found = files.find(str(path))
    assert found is not None  # only 'latest' may find nothing
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
    """Raises ConfigError unless a model that we have has exactly these tensors."""
    require_choice(f"model family of {called}:", manifest.family[:40], lookup.families())
    spec_class = lookup.spec_class(manifest.family)
    fields = {field.name for field in dataclasses.fields(spec_class)}
    if set(manifest.sizes) != fields:
        name = min(set(manifest.sizes) ^ fields)
        raise ConfigError(f"{called}: model family '{manifest.family}' and size '{name[:40]}'")
    most = len(manifest.tensors)
    for name, value in manifest.sizes.items():
        # Nothing counts more layers than there are tensors; a lie would take all memory.
        count = len(value) if isinstance(value, list) else value if name == "num_layers" else 0
        if isinstance(count, int) and count > most:
            raise ConfigError(f"{called}: {name}={str(value)[:40]} in a model of {most} tensors")
    usual = {field.name: field.default for field in dataclasses.fields(spec_class)}
    sizes = {k: _like(usual[k], v, called=f"{called}: {k}") for k, v in manifest.sizes.items()}
    try:
        spec = spec_class(**sizes)
        shapes = tensor_shapes(spec, slots=manifest.slots)
    except ConfigError as error:
        raise ConfigError(f"{called}: {error}") from None
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise ConfigError(f"{called} has sizes of no model: {str(error)[:200]}") from None
    difference = first_difference(manifest.tensors, shapes)
    if difference:
        raise ConfigError(f"{called}: {difference} in a model of its sizes")
    return spec


def _like(usual: Any, value: Any, *, called: str) -> Any:
    """Returns a size in the kind of its usual value; raises ConfigError if it is of another."""
    if isinstance(usual, tuple) and isinstance(value, list | tuple):
        return tuple(_like(usual[0], element, called=called) for element in value)
    if type(usual) is float and type(value) is int and abs(value) < 2**53:
        return float(value)
    if type(value) is not type(usual):
        raise ConfigError(f"{called}={str(value)[:40]} is not of the kind of {usual}")
    return value


def spec_of(model: str, **sizes: Any) -> ModelSpec:
    """Returns the specification of a preset with some sizes changed.

    Raises:
      ConfigError: there is no such model or size, or it is of another kind.
    """
    spec = lookup.preset(model).spec
    for name in sizes:
        require_choice(f"size of {model}", name, spec.size_names())
    changed = {k: _like(getattr(spec, k), v, called=f"{model}: {k}") for k, v in sizes.items()}
    return dataclasses.replace(spec, **changed)


def write_weights(
    folder: str | Path, parameters: Arrays, *, model: str, spec: ModelSpec, came_from: str
) -> Path:
    """Writes weights as a checkpoint at step 0, which every runner's ``--resume_from`` takes.

    Args:
      folder: for the checkpoint; is made.
      parameters: canonical name -> array of float32 or float64 (others become float32).
      model: name of the preset.
      spec: of the model.
      came_from: what the manifest says of their origin.

    Returns:
      The checkpoint.

    Raises:
      ConfigError: a parameter is missing, has another shape, is unknown or not finite.
    """
    dtype = "float64" if all(v.dtype == np.float64 for v in parameters.values()) else "float32"
    expected = {p.name: p.shape for p in spec.parameters()}
    difference = first_difference({n: v.shape for n, v in parameters.items()}, expected)
    if difference:
        raise ConfigError(f"{difference} in model '{model}'")
    state = State(parameters={n: parameters[n].astype(dtype) for n in expected}, slots={})
    broken = state.first_not_finite()
    if broken:
        raise ConfigError(f"{broken} holds NaN or an infinity")
    make_folder(Path(folder), flag="folder")
    newest = files.newest_in(Path(folder))
    if newest:
        raise ConfigError(f"'{folder}' holds '{newest[1].name}' already; choose a new folder")
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
