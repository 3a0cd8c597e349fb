"""Loads checkpoints as plain PyTorch models, and saves PyTorch weights as checkpoints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from isoscale.common.checkpoint.manifest import first_difference
from isoscale.common.config.errors import ConfigError
from isoscale.common.config.model_spec import ModelSpec
from isoscale.common.program.weights import read_weights, spec_of, write_weights
from isoscale.common.registry import lookup
from isoscale.frameworks.torch_runner import INFO
from isoscale.frameworks.torch_runner.parameters import CanonicalParameters


def _build(spec: ModelSpec, *, dtype: str, parameter_dtype: str) -> nn.Module:
    build = lookup.model_builder(INFO, spec)
    return build(
        spec, dtype=getattr(torch, dtype), param_dtype=getattr(torch, parameter_dtype), tweaks=()
    )


def load_model(path: str | Path) -> nn.Module:
    """Returns the model of a checkpoint, in evaluation mode on the CPU.

    Args:
      path: a checkpoint of any framework, or a folder of checkpoints: the newest is loaded.

    Raises:
      ConfigError: ``path`` holds no checkpoint, or one that is damaged or of an unknown model.
    """
    weights = read_weights(path)
    model = _build(weights.spec, dtype=weights.dtype, parameter_dtype=weights.parameter_dtype)
    CanonicalParameters(model, weights.spec).write(weights.parameters)
    return model.eval()


def save_state_dict(
    state_dict: Mapping[str, torch.Tensor], folder: str | Path, *, model: str, **sizes: Any
) -> Path:
    """Writes a ``state_dict`` as a checkpoint that every framework can start from.

    Args:
      state_dict: of a model that ``load_model`` returned; the names are PyTorch's own.
      folder: folder of the new checkpoint.
      model: name of the preset.
      **sizes: sizes that differ from the preset's.

    Returns:
      The path of the checkpoint.

    Raises:
      ConfigError: a tensor is missing, unknown, has another shape, or is not finite.
    """
    spec = spec_of(model, **sizes)
    for name, value in state_dict.items():
        usable = isinstance(value, torch.Tensor) and value.layout == torch.strided
        if not (usable and value.is_floating_point()):
            raise ConfigError(f"{name} is not a dense tensor of floating-point numbers")
    dtypes = {value.dtype for value in state_dict.values()}
    dtype = "float64" if dtypes == {torch.float64} else "float32"
    native = _build(spec, dtype=dtype, parameter_dtype=dtype)
    difference = first_difference(
        {name: tuple(value.shape) for name, value in state_dict.items()},
        {name: tuple(value.shape) for name, value in native.state_dict().items()},
    )
    if difference:
        raise ConfigError(f"{difference} in model '{model}'")
    native.load_state_dict(state_dict)
    parameters = CanonicalParameters(native, spec).read()
    return write_weights(folder, parameters, model=model, spec=spec, came_from="PyTorch")
