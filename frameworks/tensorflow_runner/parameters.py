"""Canonical names <-> TensorFlow variables. Layouts are equal: arrays are not transposed."""

import re

import tensorflow as tf

from isoscale.common.config.model_spec import ModelSpec


def canonical_variables(model: tf.Module, spec: ModelSpec) -> dict[str, tf.Variable]:
    """Returns canonical name -> variable, in the order of the spec.

    Raises:
      ValueError: the variables of the module, or their shapes, differ from the spec.
    """
    variables = {}
    for parameter in spec.parameters():
        found = model
        for part in parameter.name.split("/"):
            match = re.fullmatch(r"(.+)_(\d+)", part)
            found = getattr(found, match[1])[int(match[2])] if match else getattr(found, part)
        if tuple(found.shape) != parameter.shape:
            raise ValueError(
                f"{parameter.name} has shape {tuple(found.shape)} in the TensorFlow module, but "
                f"{parameter.shape} in the spec"
            )
        variables[parameter.name] = found
    if len(model.trainable_variables) != len(variables):
        raise ValueError(
            f"the TensorFlow module has {len(model.trainable_variables)} trainable variables, but "
            f"the spec has {len(variables)}"
        )
    return variables
