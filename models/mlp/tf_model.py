"""The MLP in TensorFlow. Dims: B batch, F features."""

import tensorflow as tf

from isoscale.models.mlp.spec import MlpSpec


class Dense(tf.Module):
    """x @ kernel + bias, computed in the input's dtype (parameters may stay in float32)."""

    def __init__(self, fan_in: int, fan_out: int, *, param_dtype: tf.DType, name: str):
        super().__init__(name=name)
        self.kernel = tf.Variable(tf.zeros((fan_in, fan_out), param_dtype), name="kernel")
        self.bias = tf.Variable(tf.zeros((fan_out,), param_dtype), name="bias")

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        # One 2-D product: TensorFlow would run a batched product for each leading index.
        flat = tf.reshape(x, (-1, x.shape[-1])) if x.shape.rank > 2 else x
        y = tf.matmul(flat, tf.cast(self.kernel, x.dtype))
        # In the parameters' dtype: under bfloat16 the bias's gradient is a long sum.
        y = tf.cast(tf.nn.bias_add(tf.cast(y, self.bias.dtype), self.bias), x.dtype)
        return tf.reshape(y, (*x.shape[:-1], y.shape[-1])) if x.shape.rank > 2 else y


class Mlp(tf.Module):
    def __init__(self, spec: MlpSpec, *, dtype: tf.DType, param_dtype: tf.DType):
        super().__init__(name="mlp")
        self.dtype = dtype
        self.dropout_rate = spec.dropout_rate
        self.dense = [
            Dense(i, o, param_dtype=param_dtype, name=f"dense_{index}")
            for index, (i, o) in enumerate(spec.layer_sizes)
        ]

    def __call__(self, inputs_BF: tf.Tensor, *, dropout_seed: tf.Tensor | None = None) -> tf.Tensor:
        """Returns logits [B, classes]; dropout is active when ``dropout_seed`` [2] is given."""
        x_BF = tf.cast(inputs_BF, self.dtype)
        for index, layer in enumerate(self.dense[:-1]):
            x_BF = tf.nn.relu(layer(x_BF))
            if self.dropout_rate and dropout_seed is not None:
                x_BF = tf.nn.experimental.stateless_dropout(
                    x_BF,
                    rate=self.dropout_rate,
                    seed=dropout_seed + tf.constant([0, index], tf.int64),
                )
        return self.dense[-1](x_BF)


def build(spec: MlpSpec, *, dtype: tf.DType, param_dtype: tf.DType) -> Mlp:
    return Mlp(spec, dtype=dtype, param_dtype=param_dtype)
