"""The MLP in TensorFlow. Dims: B batch, F features."""

from collections.abc import Collection

import tensorflow as tf

from isoscale.models.layers.tf_layers import Dense
from isoscale.models.mlp.spec import MlpSpec


class Mlp(tf.Module):
    def __init__(self, spec: MlpSpec, *, dtype: tf.DType, param_dtype: tf.DType):
        super().__init__(name="mlp")
        self.dtype = dtype
        self.dropout_rate = spec.dropout_rate
        self.dense = [
            Dense(i, o, param_dtype=param_dtype, name=f"dense_{index}")
            for index, (i, o) in enumerate(spec.layer_sizes)
        ]

    def __call__(self, inputs_BF: tf.Tensor, *, dropout: tf.Tensor | None = None) -> tf.Tensor:
        """Returns logits [B, classes]."""
        x_BF = tf.cast(inputs_BF, self.dtype)
        for index, layer in enumerate(self.dense[:-1]):
            x_BF = tf.nn.relu(layer(x_BF))
            if self.dropout_rate and dropout is not None:
                x_BF = tf.nn.experimental.stateless_dropout(
                    x_BF,
                    rate=self.dropout_rate,
                    seed=dropout + tf.constant([0, index], tf.int64),
                )
        return self.dense[-1](x_BF)


def build(spec: MlpSpec, *, dtype: tf.DType, param_dtype: tf.DType, tweaks: Collection[str]) -> Mlp:
    del tweaks  # no tweak changes TensorFlow's models
    return Mlp(spec, dtype=dtype, param_dtype=param_dtype)
