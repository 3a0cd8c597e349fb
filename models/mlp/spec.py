"""The multi-layer perceptron with ReLU and softmax cross-entropy."""

import dataclasses
import itertools

import numpy as np

from isoscale.common.config.errors import ConfigError, require_whole, shown
from isoscale.common.config.initializers import GlorotUniform, Zeros
from isoscale.common.config.model_spec import (
    MOST_LAYERS,
    Arrays,
    Family,
    FeatureBatch,
    ModelSpec,
    Parameter,
    Preset,
    check_rate,
    check_sizes,
)
from isoscale.common.reference import functions as reference


@dataclasses.dataclass(frozen=True, kw_only=True)
class MlpSpec(ModelSpec):
    """Sizes of the network.

    Attributes:
      input_size: number of features of an example.
      hidden_sizes: width of each hidden layer.
      num_classes: number of labels.
      dropout_rate: share of hidden activations zeroed in training (inverted dropout).
    """

    input_size: int = 799
    hidden_sizes: tuple[int, ...] = (256, 128, 64)
    num_classes: int = 192
    dropout_rate: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(self, "input_size", "num_classes")
        check_rate("dropout_rate", self.dropout_rate)
        if not 1 <= len(self.hidden_sizes) <= MOST_LAYERS:
            raise ConfigError(
                f"hidden_sizes={shown(','.join(map(str, self.hidden_sizes)))} must be 1 to "
                f"{MOST_LAYERS} whole numbers"
            )
        for size in self.hidden_sizes:
            require_whole("hidden_sizes", size)

    @property
    def layer_sizes(self) -> tuple[tuple[int, int], ...]:
        """Returns (in, out) of every dense layer."""
        widths = (self.input_size, *self.hidden_sizes, self.num_classes)
        return tuple(itertools.pairwise(widths))

    @property
    def dropout(self) -> float:
        return self.dropout_rate

    def parameters(self) -> tuple[Parameter, ...]:
        tree = []
        for index, (fan_in, fan_out) in enumerate(self.layer_sizes):
            tree.append(
                Parameter(
                    name=f"dense_{index}/kernel",
                    shape=(fan_in, fan_out),
                    dims=("input", "output"),
                    initializer=GlorotUniform(fan_in=("input",), fan_out=("output",)),
                    decay=True,
                )
            )
            tree.append(
                Parameter(
                    name=f"dense_{index}/bias",
                    shape=(fan_out,),
                    dims=("output",),
                    initializer=Zeros(),
                    decay=False,
                )
            )
        return tuple(tree)

    def batch_kind(self) -> FeatureBatch:
        return FeatureBatch(input_size=self.input_size, num_classes=self.num_classes)

    def forward_flops(self, *, global_batch_size: int) -> int:
        """Returns the sum of 2 x batch x inputs x outputs over dense layers, without biases."""
        return 2 * global_batch_size * sum(i * o for i, o in self.layer_sizes)

    def training_flops(self, *, global_batch_size: int) -> int:
        """Returns 3 x forward, minus the gradient for the inputs, which training does not need."""
        unused = 2 * global_batch_size * self.input_size * self.hidden_sizes[0]
        return super().training_flops(global_batch_size=global_batch_size) - unused

    def reference_forward(self, parameters: Arrays, batch: Arrays) -> tuple[np.ndarray, np.ndarray]:
        x = batch["inputs"].astype(np.float64)
        last = len(self.layer_sizes) - 1
        for index in range(last + 1):
            x = reference.dense(
                x, parameters[f"dense_{index}/kernel"], parameters[f"dense_{index}/bias"]
            )
            if index < last:
                x = reference.relu(x)
        return x, np.zeros(len(x))


_PRESETS = {
    "mlp_medium": Preset(spec=MlpSpec(), global_batch_size=64, steps=1000),
    "mlp_large": Preset(
        spec=MlpSpec(input_size=4608, hidden_sizes=(1024, 1024, 512, 512, 256), num_classes=768),
        global_batch_size=32,
        steps=50,
    ),
    "mlp_digits": Preset(
        spec=MlpSpec(input_size=64, hidden_sizes=(128, 64), num_classes=10),
        global_batch_size=64,
        steps=1000,
    ),
}


class MlpDropoutProbe:
    """A small model whose parameters before and after a step reveal its dropout mask.

    ``common/parity/checks.py`` uses the mask.

    All hidden units are 1 before dropout, and the logits are 0. Therefore the gradient of the loss
    by the logits is known, and the gradient of the last kernel is units^T @ this gradient.
    """

    spec = MlpSpec(input_size=4, hidden_sizes=(2048,), num_classes=64, dropout_rate=0.25)

    def start(self) -> Arrays:
        zeros = {p.name: np.zeros(p.shape, np.float32) for p in self.spec.parameters()}
        return {**zeros, "dense_0/bias": np.ones_like(zeros["dense_0/bias"])}

    def batch(self, examples: int) -> Arrays:
        return {
            "inputs": np.ones((examples, self.spec.input_size), np.float32),
            "labels": np.arange(examples, dtype=np.int32),
            "weights": np.ones(examples, np.float32),
            "normalizer": np.asarray(examples, np.float32),
        }

    def activations(self, before: Arrays, after: Arrays, examples: int) -> np.ndarray:
        classes = self.spec.num_classes
        # The gradient of the loss by the logits: (softmax - one-hot) / number of examples.
        by_logits = (1 / classes - np.eye(examples, classes)) / examples
        gradient = before["dense_1/kernel"] - after["dense_1/kernel"]  # units^T @ by_logits
        return np.linalg.lstsq(by_logits.T, gradient.T.astype(np.float64), rcond=None)[0]


FAMILY = Family(
    presets=_PRESETS,
    parity_specs={"mlp_plain": MlpSpec(input_size=24, hidden_sizes=(32, 16), num_classes=8)},
    parity_optimizers=("mlp_plain",),  # one model is enough; this is the cheapest
    parity_dropout=MlpDropoutProbe(),
)
