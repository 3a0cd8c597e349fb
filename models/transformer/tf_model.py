"""The transformer in TensorFlow.

Dims: B batch, T query sequence, S key sequence, D d_model, F d_ff, N num_heads, H head_dim,
V vocabulary.
"""

import math

import tensorflow as tf

from isoscale.models.mlp.tf_model import Dense
from isoscale.models.transformer.spec import TransformerSpec


def gelu_tanh(x: tf.Tensor) -> tf.Tensor:
    """tanh GELU; ``tf.nn.gelu`` rounds its constants to float32 and breaks float64."""
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
    return 0.5 * x * (1.0 + tf.tanh(inner))


def gelu(x: tf.Tensor) -> tf.Tensor:
    """x times the normal distribution function of x; ``tf.nn.gelu`` as above."""
    return 0.5 * x * (1.0 + tf.math.erf(x * math.sqrt(0.5)))


ACTIVATIONS = {"gelu": gelu, "gelu_tanh": gelu_tanh, "relu": tf.nn.relu}


class LayerNorm(tf.Module):
    def __init__(self, d_model: int, *, epsilon: float, param_dtype: tf.DType, name: str):
        super().__init__(name=name)
        self.epsilon = epsilon
        self.scale = tf.Variable(tf.ones((d_model,), param_dtype), name="scale")
        self.bias = tf.Variable(tf.zeros((d_model,), param_dtype), name="bias")

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        # Statistics in the parameters' dtype: float32 under bfloat16.
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
    """Token and learned position embeddings, held by the model under their canonical names."""

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
        """Products with the token embedding [B, T, V]."""
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
        # Softmax in float32 under bfloat16, as in the other frameworks.
        if scores_BNTS.dtype == tf.bfloat16:
            scores_BNTS = tf.cast(scores_BNTS, tf.float32)
        scores_BNTS *= 1 / math.sqrt(head_dim)
        if allowed is not None:
            scores_BNTS = tf.where(allowed, scores_BNTS, scores_BNTS.dtype.min)
        weights_BNTS = tf.cast(tf.nn.softmax(scores_BNTS), x_BTD.dtype)
        mixed_BNTH = tf.matmul(weights_BNTS, heads(self.value(x_BTD)))
        mixed_BTD = tf.reshape(tf.transpose(mixed_BNTH, (0, 2, 1, 3)), (-1, length, d_model))
        return self.output(tf.ensure_shape(mixed_BTD, x_BTD.shape))


class FeedForward(tf.Module):
    def __init__(
        self, d_model: int, d_ff: int, *, activation: str, param_dtype: tf.DType, name: str
    ):
        super().__init__(name=name)
        self.activation = ACTIVATIONS[activation]
        self.up = Dense(d_model, d_ff, param_dtype=param_dtype, name="up")
        self.down = Dense(d_ff, d_model, param_dtype=param_dtype, name="down")

    def __call__(self, x_BTD: tf.Tensor) -> tf.Tensor:
        return self.down(self.activation(self.up(x_BTD)))


class Block(tf.Module):
    def __init__(self, spec: TransformerSpec, *, param_dtype: tf.DType, name: str):
        super().__init__(name=name)
        d, epsilon = spec.d_model, spec.layer_norm_epsilon
        self.attention_norm = LayerNorm(
            d, epsilon=epsilon, param_dtype=param_dtype, name="attention_norm"
        )
        self.attention = Attention(
            d, spec.num_heads, causal=spec.causal, param_dtype=param_dtype, name="attention"
        )
        self.feed_forward_norm = LayerNorm(
            d, epsilon=epsilon, param_dtype=param_dtype, name="feed_forward_norm"
        )
        self.feed_forward = FeedForward(
            d,
            spec.d_ff,
            activation=spec.activation,
            param_dtype=param_dtype,
            name="feed_forward",
        )

    def __call__(self, x_BTD: tf.Tensor, padding_mask_BT: tf.Tensor | None) -> tf.Tensor:
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), padding_mask_BT)
        return x_BTD + self.feed_forward(self.feed_forward_norm(x_BTD))


class Transformer(Embedder):
    def __init__(self, spec: TransformerSpec, *, dtype: tf.DType, param_dtype: tf.DType):
        super().__init__(
            spec.vocabulary_size,
            spec.sequence_length,
            spec.d_model,
            dtype=dtype,
            param_dtype=param_dtype,
            name="transformer",
        )
        self.causal, self.tied = spec.causal, spec.tie_embeddings
        self.block = [
            Block(spec, param_dtype=param_dtype, name=f"block_{index}")
            for index in range(spec.num_layers)
        ]
        self.final_norm = LayerNorm(
            spec.d_model,
            epsilon=spec.layer_norm_epsilon,
            param_dtype=param_dtype,
            name="final_norm",
        )
        outputs = spec.vocabulary_size if spec.causal else spec.num_classes
        if not self.tied:
            self.head = Dense(spec.d_model, outputs, param_dtype=param_dtype, name="head")

    def __call__(
        self,
        tokens_BT: tf.Tensor,
        padding_mask_BT: tf.Tensor | None = None,
        *,
        dropout_seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns logits [B, T, V] (causal) or [B, classes]."""
        del dropout_seed  # no dropout
        x_BTD = self.embed(tokens_BT)
        for block in self.block:
            x_BTD = block(x_BTD, padding_mask_BT)
        x_BTD = self.final_norm(x_BTD)
        if self.causal:
            return self.tied_logits(x_BTD) if self.tied else self.head(x_BTD)
        if padding_mask_BT is None:
            return self.head(tf.reduce_mean(x_BTD, 1))
        mask_BT1 = tf.cast(padding_mask_BT[..., None], x_BTD.dtype)
        return self.head(tf.reduce_sum(x_BTD * mask_BT1, 1) / tf.reduce_sum(mask_BT1, 1))


def build(spec: TransformerSpec, *, dtype: tf.DType, param_dtype: tf.DType) -> Transformer:
    return Transformer(spec, dtype=dtype, param_dtype=param_dtype)
