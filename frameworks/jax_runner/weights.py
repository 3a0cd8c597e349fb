"""Loads checkpoints as plain Flax modules, and saves weights of modules as checkpoints."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from isoscale.common.program.weights import read_weights, spec_of, write_weights
from isoscale.common.registry import lookup
from isoscale.frameworks.jax_runner import INFO
from isoscale.frameworks.jax_runner.parameters import canonical_name


def load_model(path: str | Path) -> nnx.Module:
    """Returns the model of a checkpoint as an ``nnx.Module``.

    Args:
      path: a checkpoint of any framework, or a folder of checkpoints: the newest is loaded.

    Raises:
      ConfigError: ``path`` holds no checkpoint, or one that is damaged or of an unknown model.
      RuntimeError: the checkpoint is in float64 and ``jax_enable_x64`` is off: JAX would round.
    """
    weights = read_weights(path)
    if jax.dtypes.canonicalize_dtype(weights.parameter_dtype) != weights.parameter_dtype:
        raise RuntimeError("a float64 model needs jax.config.update('jax_enable_x64', True) first")
    build = lookup.model_builder(INFO, weights.spec)
    model = nnx.eval_shape(
        lambda: build(
            weights.spec,
            dtype=jnp.dtype(weights.dtype),
            param_dtype=jnp.dtype(weights.parameter_dtype),
            tweaks=(),
        )
    )
    graph, state = nnx.split(model)
    flat = [
        (path, variable.replace(jnp.asarray(weights.parameters[canonical_name(tuple(path))])))
        for path, variable in nnx.to_flat_state(state)
    ]
    return nnx.merge(graph, nnx.from_flat_state(flat))


def save_model(model: nnx.Module, folder: str | Path, *, name: str, **sizes: Any) -> Path:
    """Writes a module's weights as a checkpoint that every framework can start from.

    Args:
      model: a module with the structure of those that ``load_model`` returns.
      folder: folder of the new checkpoint.
      name: name of the preset.
      **sizes: sizes that differ from the preset's.

    Returns:
      The path of the checkpoint.

    Raises:
      ConfigError: a parameter is missing, unknown, has another shape, or is not finite.
    """
    parameters = {
        canonical_name(tuple(path)): np.asarray(variable[...])
        for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param))
    }
    spec = spec_of(name, **sizes)
    return write_weights(folder, parameters, model=name, spec=spec, came_from="Flax")
