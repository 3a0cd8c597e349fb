"""The facts that every model must declare without importing a framework.

A model family is a folder ``models/<family>/``. Its ``spec.py`` holds two things: a frozen
dataclass derived from ``ModelSpec``, with the sizes that a user may override by flag as fields; and
``FAMILY``, a ``Family``.
"""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Collection, Mapping
from typing import Any, Protocol

import numpy as np

from isoscale.common.config.errors import LARGEST, ConfigError, require_whole
from isoscale.common.config.initializers import Initializer

Arrays = dict[str, np.ndarray]
MOST_LAYERS = 1000
"""Most layers of a model: each needs entries in lists, so more would make every command slow."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameter:
    """One tensor of the canonical parameter tree.

    Attributes:
      name: canonical path, for example ``block_0/attention/query/kernel``.
      shape: canonical shape; kernels are (in, out).
      dims: one word per tensor dim, for sharding rules and for readers.
      initializer: draws the start values.
      decay: whether weight decay applies (kernels and embeddings: yes; biases and scales: no).

    Raises:
      ValueError: dims and shape have different lengths, two dims have the same name, or the
        initialiser refers to a dim that the parameter lacks.
    """

    name: str
    shape: tuple[int, ...]
    dims: tuple[str, ...]
    initializer: Initializer
    decay: bool

    def __post_init__(self) -> None:
        if len(self.dims) != len(self.shape) or len(set(self.dims)) != len(self.dims):
            raise ValueError(
                f"parameter {self.name}: dims {self.dims} must give each dim of shape {self.shape} "
                "a different name"
            )
        unknown = set(self.initializer.dims) - set(self.dims)
        if unknown:
            raise ValueError(
                f"parameter {self.name}: {self.initializer} refers to {sorted(unknown)}; the dims "
                f"are {self.dims}"
            )

    @property
    def sizes(self) -> dict[str, int]:
        """Returns the name of each dim -> its size, in order."""
        return dict(zip(self.dims, self.shape, strict=True))

    @property
    def size(self) -> int:
        """Returns the number of entries of the tensor."""
        return math.prod(self.shape)

    def initial_value(self, *, seed: int) -> np.ndarray:
        """Returns the float32 start value, which depends on (seed, name) alone.

        float64 runs convert the value exactly, so that every dtype starts at the same point.
        """
        key = int.from_bytes(hashlib.sha256(f"{seed}/{self.name}".encode()).digest()[:16], "little")
        generator = np.random.Generator(np.random.Philox(key=key))
        return self.initializer.draw(generator, self.sizes).astype(np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Factors:
    """Factors of a parameter's start values: a geometric series along one of its dims.

    One model then has small and large activations side by side: units in the usual range keep the
    gradients alive, and units far outside of it reach the tails of every nonlinearity.

    Attributes:
      first, last: factor of the first index and of the last index.
      dim: the dim along which the factors grow; None: the last dim.

    Raises:
      ValueError: a factor is not positive.
    """

    first: float = 1.0
    last: float = 30.0
    dim: str | None = None

    def __post_init__(self) -> None:
        if not (0 < self.first < math.inf and 0 < self.last < math.inf):
            raise ValueError(f"{self}: both factors must be positive and finite")

    def scaled(self, parameter: Parameter, values: np.ndarray) -> np.ndarray:
        """Returns ``values`` of a parameter times the factors, with the dtype of ``values``.

        Raises:
          ValueError: the parameter lacks the dim.
        """
        dim = self.dim or parameter.dims[-1]
        if dim not in parameter.dims:
            raise ValueError(f"parameter {parameter.name}: {self}; the dims are {parameter.dims}")
        along = parameter.dims.index(dim)
        series = np.geomspace(self.first, self.last, parameter.shape[along])
        shape = [-1 if index == along else 1 for index in range(len(parameter.shape))]
        return (values * series.reshape(shape)).astype(values.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureBatch:
    """Batches of real-valued features with one label each: ``inputs`` [B, input_size]."""

    input_size: int
    num_classes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenBatch:
    """Batches of token sequences: ``tokens`` [B, T].

    ``num_classes`` is the number of classes of a sequence's label; None: every position predicts
    the next token. With ``variable_length`` sequences end early, and the batch has ``padding_mask``
    [B, T], which is true on real tokens; padding follows them. Otherwise the batch has no mask.
    """

    vocabulary_size: int
    sequence_length: int
    num_classes: int | None
    variable_length: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """The base of every model's specification; a subclass adds its sizes as fields.

    Mixed precision (dtype ``bfloat16``) is one policy in every framework:

    - bfloat16: the products of dense layers, attention and experts, activation functions, and the
      sums of the residual stream. Embeddings are looked up in float32 and rounded before they are
      added.
    - float32: parameters, gradients, optimizer state; the addition of a bias to the product (the
      gradient of a bias is a long sum), rounded after; layer norm, rounded after; attention scores'
      softmax; the router, its softmax and the auxiliary loss; the loss of rounded logits; sums over
      devices.
    """

    def parameters(self) -> tuple[Parameter, ...]:
        """Returns the canonical parameter tree, in a fixed order."""
        raise NotImplementedError

    def batch_kind(self) -> FeatureBatch | TokenBatch:
        """Returns the kind of batches that the model takes, with their sizes."""
        raise NotImplementedError

    def forward_flops(self, *, global_batch_size: int) -> int:
        """Returns the floating-point operations of one forward pass; a multiply-add counts as 2."""
        raise NotImplementedError

    def reference_forward(self, parameters: Arrays, batch: Arrays) -> tuple[np.ndarray, np.ndarray]:
        """Returns (logits, auxiliary loss of each group [B]), computed in NumPy float64.

        A user's own model may lack this function: parity then compares it with no reference.
        """
        raise NotImplementedError

    @property
    def has_reference(self) -> bool:
        """Whether the family has a ``reference_forward``."""
        return type(self).reference_forward is not ModelSpec.reference_forward

    @property
    def input_names(self) -> tuple[str, ...]:
        """Returns the names of the batch entries that are the model's arguments, in order."""
        kind = self.batch_kind()
        if isinstance(kind, FeatureBatch):
            return ("inputs",)
        return ("tokens", "padding_mask") if kind.variable_length else ("tokens",)

    @property
    def num_logits(self) -> int:
        """Returns the number of logits for each label: of classes, or of tokens."""
        kind = self.batch_kind()
        if isinstance(kind, TokenBatch) and kind.num_classes is None:
            return kind.vocabulary_size
        assert kind.num_classes is not None
        return kind.num_classes

    # Capabilities of the model. A family overrides the properties that apply to its models.

    @property
    def auxiliary_loss_coefficient(self) -> float | None:
        """Returns the weight of the auxiliary loss; None: the model returns logits alone."""
        return None

    @property
    def dropout(self) -> float:
        """Returns the share of activations that dropout sets to 0 in training; 0: no dropout."""
        return 0.0

    @property
    def experts(self) -> int:
        """Returns the number of experts of each mixture layer; 0: no mixture of experts."""
        return 0

    @property
    def sequence(self) -> int | None:
        """Returns the size of the activations' sequence dim; None: activations lack this dim."""
        kind = self.batch_kind()
        return kind.sequence_length if isinstance(kind, TokenBatch) else None

    @functools.cached_property
    def parameter_count(self) -> int:
        """Returns the number of parameters, counted as single numbers."""
        return sum(parameter.size for parameter in self.parameters())

    def training_flops(self, *, global_batch_size: int) -> int:
        """Returns the floating-point operations of one training step: 3 x forward.

        For each product of the forward pass, the backward pass computes two (for the input and for
        the weight): Kaplan et al. 2020, arXiv:2001.08361, section 2.1. The figure is exact where an
        embedding precedes the first product. The figure excludes the optimizer.
        """
        return 3 * self.forward_flops(global_batch_size=global_batch_size)

    def initial_parameters(self, *, seed: int) -> Arrays:
        """Returns canonical name -> float32 array; the same bits for every framework."""
        return {p.name: p.initial_value(seed=seed) for p in self.parameters()}

    @classmethod
    def size_names(cls) -> tuple[str, ...]:
        """Returns the names of the sizes, in order."""
        return tuple(field.name for field in dataclasses.fields(cls))

    def with_overrides(self, overrides: Mapping[str, Any]) -> "ModelSpec":
        """Returns this spec with some sizes replaced; the new spec is validated as a whole."""
        return dataclasses.replace(self, **overrides) if overrides else self


class ModelBuilder(Protocol):
    """The type of ``build`` in ``flax_model.py``, ``tf_model.py`` and ``torch_model.py``.

    A model is called as ``model(*inputs, dropout=None)``, with the inputs that
    ``ModelSpec.input_names`` lists. The result is logits; if the spec has an
    ``auxiliary_loss_coefficient``, the result is (logits, auxiliary loss of each group [B]).

    ``dropout`` is the source of this call's dropout masks; a call without a source is an evaluation
    and keeps all activations. Each framework has its own kind of source:

    - JAX: a key (``jax.random.key``).
    - TensorFlow: a seed, two int64 numbers. A model may add less than 2^16 to the second number, so
      that each layer has its own seed.
    - PyTorch: ``True``, for PyTorch's default generator, which the caller seeds. Dropout is also
      active in a module that a user switches to training mode (``model.train()``), as PyTorch users
      expect; the runners keep their modules in evaluation mode.

    A model without dropout accepts ``dropout`` and ignores it.
    """

    def __call__(self, spec: Any, *, dtype: Any, param_dtype: Any, tweaks: Collection[str]) -> Any:
        """Returns the model in its framework.

        The attributes of the model have the canonical names of the parameters. ``build`` sets no
        start values: the runner writes those of ``ModelSpec.initial_parameters``.

        Args:
          spec: the family's specification.
          dtype: the framework's dtype for products and activations.
          param_dtype: the framework's dtype for parameters.
          tweaks: names of the tweaks in force. A model ignores unknown names.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """A named size: the spec, and the defaults of its runs."""

    spec: ModelSpec
    global_batch_size: int
    steps: int
    """Measured steps of a run: about one second of work for one CPU core."""


class DropoutProbe(Protocol):
    """Makes the dropout masks of a model visible from outside the model."""

    @property
    def spec(self) -> ModelSpec:
        """Returns a size with ``dropout`` above 0."""

    def start(self) -> Arrays:
        """Returns the start values of the parameters."""

    def batch(self, examples: int) -> Arrays:
        """Returns a batch of ``examples`` examples."""

    def activations(self, before: Arrays, after: Arrays, examples: int) -> np.ndarray:
        """Returns the output of dropout for an input of ones, [examples, units].

        Args:
          before: parameters before a step of plain SGD with learning rate 1.
          after: parameters after this step.
          examples: number of examples in the batch.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """The declaration of a model family: ``FAMILY`` in its ``spec.py``.

    Attributes:
      presets: name -> size, for users; the first one is the family's default.
      parity_specs: name -> small size, for ``isoscale parity``. Together the sizes run every code
        path; the first size runs on every device count. The name of the family is not one of them:
        it means all sizes.
      parity_starts: name of a parity size -> ending of parameter names -> the constant that these
        parameters start with, instead of the values that their initialisers draw.
      parity_large: ending of parameter names -> the factors of these parameters in the pieces
        ``<parity size>/large``, which visit large activations. All other parameters with random
        start values have the factors ``Factors()``.
      parity_optimizers: names of the parity sizes that train with every optimizer and schedule.
      parity_dropout: shows the dropout masks of the family; None: the family has no dropout.

    Raises:
      ValueError: ``presets`` or ``parity_specs`` is empty, the sizes have several types, an entry
        refers to a parity size that is not in ``parity_specs``, or no parameter of these sizes has
        an ending of ``parity_large``.
    """

    presets: Mapping[str, Preset]
    parity_specs: Mapping[str, ModelSpec]
    parity_starts: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    parity_large: Mapping[str, Factors] = dataclasses.field(default_factory=dict)
    parity_optimizers: Collection[str] = ()
    parity_dropout: DropoutProbe | None = None

    def __post_init__(self) -> None:
        if not self.presets or not self.parity_specs:
            raise ValueError("a family must have at least one preset and one parity size")
        specs = [*(preset.spec for preset in self.presets.values()), *self.parity_specs.values()]
        types = {type(spec).__name__ for spec in specs}
        if len(types) > 1:
            raise ValueError(f"all sizes of a family must have one type; given: {sorted(types)}")
        unknown = {*self.parity_starts, *self.parity_optimizers} - set(self.parity_specs)
        if unknown:
            raise ValueError(f"not in parity_specs: {sorted(unknown)}")
        names = {p.name for spec in self.parity_specs.values() for p in spec.parameters()}
        for ending in self.parity_large:
            if not any(name.endswith(ending) for name in names):
                raise ValueError(f"parity_large: no parameter ends with '{ending}'")

    @property
    def default(self) -> str:
        """Returns the name of the first preset."""
        return next(iter(self.presets))

    @property
    def spec_class(self) -> type[ModelSpec]:
        """Returns the type of all sizes of the family."""
        return type(self.presets[self.default].spec)


def check_sizes(spec: ModelSpec, *names: str, maximum: int = LARGEST) -> None:
    """Raises ConfigError unless the named fields are whole numbers from 1 to ``maximum``."""
    for name in names:
        require_whole(name, getattr(spec, name), maximum=maximum)


def check_rate(name: str, value: float) -> None:
    """Raises ConfigError unless ``value`` is in [0, 1)."""
    if not 0.0 <= value < 1.0:
        raise ConfigError(f"{name}={value} must be at least 0 and below 1")
