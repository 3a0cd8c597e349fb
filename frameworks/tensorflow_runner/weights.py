"""Loads checkpoints as plain TensorFlow modules, and saves weights of modules as checkpoints."""

from pathlib import Path
from typing import Any

import tensorflow as tf

from isoscale.common.program.weights import read_weights, spec_of, write_weights
from isoscale.common.registry import lookup
from isoscale.frameworks.tensorflow_runner import INFO
from isoscale.frameworks.tensorflow_runner.parameters import canonical_variables


def load_model(path: str | Path) -> tf.Module:
    """Returns the model of a checkpoint as a callable ``tf.Module``.

    Args:
      path: a checkpoint of any framework, or a folder of checkpoints: the newest is loaded.

    Raises:
      ConfigError: ``path`` holds no checkpoint, or one that is damaged or of an unknown model.
    """
    weights = read_weights(path)
    build = lookup.model_builder(INFO, weights.spec)
    model = build(
        weights.spec,
        dtype=tf.as_dtype(weights.dtype),
        param_dtype=tf.as_dtype(weights.parameter_dtype),
        tweaks=(),
    )
    for name, variable in canonical_variables(model, weights.spec).items():
        variable.assign(weights.parameters[name])
    return model


def save_model(model: tf.Module, folder: str | Path, *, name: str, **sizes: Any) -> Path:
    """Writes a module's weights as a checkpoint that every framework can start from.

    Args:
      model: a module with the structure of those that ``load_model`` returns.
      folder: folder of the new checkpoint.
      name: name of the preset.
      **sizes: sizes that differ from the preset's.

    Returns:
      The path of the checkpoint.

    Raises:
      ConfigError: a parameter is not finite.
      ValueError: the variables of the module differ from those of the preset.
    """
    spec = spec_of(name, **sizes)
    variables = canonical_variables(model, spec)
    parameters = {key: variable.numpy() for key, variable in variables.items()}
    return write_weights(folder, parameters, model=name, spec=spec, came_from="TensorFlow")
