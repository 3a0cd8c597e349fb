"""Layers that several model families use, in TensorFlow.

Dims: B batch, T query sequence, S key sequence, D d_model, N num_heads, H head_dim, V vocabulary,
R rows of a flattened tensor.
"""

import math

import tensorflow as tf


def gelu_tanh(x: tf.Tensor) -> tf.Tensor:
    """Returns the tanh GELU; ``tf.nn.gelu`` rounds its constants to float32, also for float64."""
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
    return 0.5 * x * (1.0 + tf.tanh(inner))


def gelu(x: tf.Tensor) -> tf.Tensor:
    """Returns x times the normal distribution function of x; see ``gelu_tanh``."""
    return 0.5 * x * (1.0 + tf.math.erf(x * math.sqrt(0.5)))


ACTIVATIONS = {"gelu": gelu, "gelu_tanh": gelu_tanh, "relu": tf.nn.relu}


class Dense(tf.Module):
    """Computes x @ kernel + bias: the product in the input's dtype, the sum in the bias's dtype."""

    def __init__(self, fan_in: int, fan_out: int, *, param_dtype: tf.DType, name: str):
        super().__init__(name=name)
        self.kernel = tf.Variable(tf.zeros((fan_in, fan_out), param_dtype), name="kernel")
        self.bias = tf.Variable(tf.zeros((fan_out,), param_dtype), name="bias")

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        # One 2-D product: for more dims TensorFlow runs one product for each leading index.
        flat = tf.reshape(x, (-1, x.shape[-1])) if x.shape.rank > 2 else x
        y = tf.matmul(flat, tf.cast(self.kernel, x.dtype))
        # The gradient of the bias is a long sum: it is taken in the dtype of the parameters.
        y = tf.cast(tf.nn.bias_add(tf.cast(y, self.bias.dtype), self.bias), x.dtype)
        return tf.reshape(y, (*x.shape[:-1], y.shape[-1])) if x.shape.rank > 2 else y


class LayerNorm(tf.Module):
    def __init__(self, d_model: int, *, epsilon: float, param_dtype: tf.DType, name: str):
        super().__init__(name=name)
        self.epsilon = epsilon
        self.scale = tf.Variable(tf.ones((d_model,), param_dtype), name="scale")
        self.bias = tf.Variable(tf.zeros((d_model,), param_dtype), name="bias")

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        # Statistics are in the dtype of the parameters: float32 under bfloat16.
        y = tf.cast(x, self.scale.dtype)
        centered = y - tf.reduce_mean(y, -1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centered), -1, keepdims=True)
        y = centered * tf.math.rsqrt(variance + self.epsilon) * self.scale + self.bias
        return tf.cast(y, x.dtype)


class Embedding(tf.Module):
    def __init__(self, rows: int, d_model: int, *, param_dtype: tf.DType, name: str):
        super().__init__(name=name)
        self.embedding = tf.Variable(tf.zeros((rows, d_model), param_dtype), name="embedding")


class Embedder(tf.Module):
    """Base class of models with token and learned position embeddings, under canonical names."""

    def __init__(
        self,
        vocabulary_size: int,
        sequence_length: int,
        d_model: int,
        *,
        dtype: tf.DType,
        param_dtype: tf.DType,
        name: str,
    ):
        super().__init__(name=name)
        self.dtype = dtype
        self.token_embedding = Embedding(
            vocabulary_size, d_model, param_dtype=param_dtype, name="token_embedding"
        )
        self.position_embedding = Embedding(
            sequence_length, d_model, param_dtype=param_dtype, name="position_embedding"
        )

    def embed(self, tokens_BT: tf.Tensor) -> tf.Tensor:
        positions_TD = self.position_embedding.embedding[: tokens_BT.shape[1]]
        tokens_BTD = tf.gather(self.token_embedding.embedding, tokens_BT)
        # Both are rounded before the sum, as in the other frameworks.
        return tf.cast(tokens_BTD, self.dtype) + tf.cast(positions_TD, self.dtype)

    def tied_logits(self, x_BTD: tf.Tensor) -> tf.Tensor:
        """Returns products with the token embedding [B, T, V]."""
        embedding_VD = tf.cast(self.token_embedding.embedding, x_BTD.dtype)
        flat_RD = tf.reshape(x_BTD, (-1, x_BTD.shape[-1]))
        logits_RV = tf.matmul(flat_RD, embedding_VD, transpose_b=True)
        return tf.reshape(logits_RV, (*x_BTD.shape[:-1], logits_RV.shape[-1]))


class Attention(tf.Module):
    def __init__(
        self, d_model: int, num_heads: int, *, causal: bool, param_dtype: tf.DType, name: str
    ):
        super().__init__(name=name)
        self.num_heads = num_heads
        self.causal = causal
        self.query = Dense(d_model, d_model, param_dtype=param_dtype, name="query")
        self.key = Dense(d_model, d_model, param_dtype=param_dtype, name="key")
        self.value = Dense(d_model, d_model, param_dtype=param_dtype, name="value")
        self.output = Dense(d_model, d_model, param_dtype=param_dtype, name="output")

    def __call__(self, x_BTD: tf.Tensor, padding_mask_BS: tf.Tensor | None) -> tf.Tensor:
        _, length, d_model = x_BTD.shape
        head_dim = d_model // self.num_heads

        def heads(y_BTD: tf.Tensor) -> tf.Tensor:
            y_BTNH = tf.reshape(y_BTD, (-1, length, self.num_heads, head_dim))
            return tf.transpose(y_BTNH, (0, 2, 1, 3))

        scores_BNTS = tf.matmul(heads(self.query(x_BTD)), heads(self.key(x_BTD)), transpose_b=True)
        allowed = None
        if self.causal:
            allowed = tf.linalg.band_part(tf.ones((length, length), tf.bool), -1, 0)
        if padding_mask_BS is not None:
            padding_B11S = padding_mask_BS[:, None, None, :]
            allowed = padding_B11S if allowed is None else tf.logical_and(allowed, padding_B11S)
        # Under bfloat16 the softmax is in float32, as in the other frameworks.
        if scores_BNTS.dtype == tf.bfloat16:
            scores_BNTS = tf.cast(scores_BNTS, tf.float32)
        scores_BNTS *= 1 / math.sqrt(head_dim)
        if allowed is not None:
            scores_BNTS = tf.where(allowed, scores_BNTS, scores_BNTS.dtype.min)
        weights_BNTS = tf.cast(tf.nn.softmax(scores_BNTS), x_BTD.dtype)
        mixed_BNTH = tf.matmul(weights_BNTS, heads(self.value(x_BTD)))
        mixed_BTD = tf.reshape(tf.transpose(mixed_BNTH, (0, 2, 1, 3)), (-1, length, d_model))
        return self.output(tf.ensure_shape(mixed_BTD, x_BTD.shape))
