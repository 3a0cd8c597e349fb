"""The precision of float32 products and convolutions in TensorFlow."""

import tensorflow as tf


def set_tf32(allowed: bool) -> None:
    """Sets whether float32 products and convolutions may use TF32."""
    tf.config.experimental.enable_tensor_float_32_execution(allowed)


def in_force() -> str:
    """Returns the precision of float32 products, as TensorFlow reports it."""
    allowed = tf.config.experimental.tensor_float_32_execution_enabled()
    return "high (TF32)" if allowed else "highest (no TF32)"
