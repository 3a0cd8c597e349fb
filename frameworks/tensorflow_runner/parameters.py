"""Canonical names <-> TensorFlow variables. Canonical layouts are native: nothing is transposed."""

import re

import tensorflow as tf

from isoscale.common.config.model_spec import ModelSpec


def canonical_variables(model: tf.Module, spec: ModelSpec) -> dict[str, tf.Variable]:
    """Returns canonical name -> variable, in the order of the spec.

    Raises:
      ValueError: the module has other variables, or other shapes, than the spec.
    """
    variables = {}
    for parameter in spec.parameters():
        found = model
        for part in parameter.name.split("/"):
            match = re.fullmatch(r"(.+)_(\d+)", part)
            found = getattr(found, match[1])[int(match[2])] if match else getattr(found, part)
        if tuple(found.shape) != parameter.shape:
            raise ValueError(f"{parameter.name}: {tuple(found.shape)}, spec: {parameter.shape}")
        variables[parameter.name] = found
    if len(model.trainable_variables) != len(variables):
        raise ValueError(
            f"the module has {len(model.trainable_variables)} variables, the spec {len(variables)}"
        )
    return variables
