"""Initialisers: they draw the start values of a parameter and state their distribution.

The set is open. A model family may define a subclass of ``Initializer`` in its ``spec.py``.

``draw`` and ``distribution`` must not share code: parity draws many values and tests them against
the stated distribution (``common/parity/reference.py``). This test detects a wrong ``draw``.
"""

import abc
import dataclasses
import math
import statistics
from collections.abc import Mapping
from typing import Protocol

import numpy as np

Sizes = Mapping[str, int]
"""Name of each dim of a parameter -> its size, in the order of the dims."""


class Distribution(Protocol):
    """The distribution of one start value."""

    def cdf(self, values: np.ndarray) -> np.ndarray:
        """Returns, for each of ``values``, the probability of a start value at or below it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant:
    """Every start value equals ``value``."""

    value: float

    def cdf(self, values: np.ndarray) -> np.ndarray:
        return (values >= self.value).astype(np.float64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Uniform:
    """Start values are uniform between ``low`` and ``high``."""

    low: float
    high: float

    def cdf(self, values: np.ndarray) -> np.ndarray:
        return np.clip((values - self.low) / (self.high - self.low), 0.0, 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gaussian:
    """Start values follow N(mean, std^2)."""

    mean: float
    std: float

    def cdf(self, values: np.ndarray) -> np.ndarray:
        return np.vectorize(statistics.NormalDist(self.mean, self.std).cdf)(values)


class Initializer(abc.ABC):
    """Draws the start values of a parameter. Subclasses are frozen dataclasses."""

    @property
    def dims(self) -> tuple[str, ...]:
        """Returns the dims that the initialiser refers to by name; the parameter must have them."""
        return ()

    @abc.abstractmethod
    def draw(self, generator: np.random.Generator, sizes: Sizes) -> np.ndarray:
        """Returns start values, an array of shape ``tuple(sizes.values())``.

        Args:
          generator: the only source of randomness.
          sizes: dim -> size, in the order of the parameter's dims.
        """

    @abc.abstractmethod
    def distribution(self, sizes: Sizes) -> Distribution:
        """Returns the distribution of each start value, from its published formula."""


@dataclasses.dataclass(frozen=True)
class Zeros(Initializer):
    """Every start value is 0."""

    def draw(self, generator: np.random.Generator, sizes: Sizes) -> np.ndarray:
        return np.zeros(tuple(sizes.values()))

    def distribution(self, sizes: Sizes) -> Distribution:
        return Constant(value=0.0)


@dataclasses.dataclass(frozen=True)
class Ones(Initializer):
    """Every start value is 1."""

    def draw(self, generator: np.random.Generator, sizes: Sizes) -> np.ndarray:
        return np.ones(tuple(sizes.values()))

    def distribution(self, sizes: Sizes) -> Distribution:
        return Constant(value=1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Normal(Initializer):
    """Start values follow N(0, std^2); GPT-2 uses std = 0.02 (Radford et al. 2019)."""

    std: float

    def draw(self, generator: np.random.Generator, sizes: Sizes) -> np.ndarray:
        return self.std * generator.standard_normal(tuple(sizes.values()))

    def distribution(self, sizes: Sizes) -> Distribution:
        return Gaussian(mean=0.0, std=self.std)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GlorotUniform(Initializer):
    """Start values follow U(-a, a) with a = sqrt(6 / (fan_in + fan_out)).

    Source: Glorot & Bengio 2010, equation 16.

    Attributes:
      fan_in: names of dims; the product of their sizes is the number of inputs of one output. For a
        convolution: height, width and input channels.
      fan_out: names of dims; the product of their sizes is the number of outputs that one input
        reaches.
    """

    fan_in: tuple[str, ...]
    fan_out: tuple[str, ...]

    @property
    def dims(self) -> tuple[str, ...]:
        return (*self.fan_in, *self.fan_out)

    def draw(self, generator: np.random.Generator, sizes: Sizes) -> np.ndarray:
        fan_in = math.prod(sizes[dim] for dim in self.fan_in)
        fan_out = math.prod(sizes[dim] for dim in self.fan_out)
        bound = math.sqrt(6.0 / (fan_in + fan_out))
        return generator.uniform(-bound, bound, tuple(sizes.values()))

    def distribution(self, sizes: Sizes) -> Distribution:
        # The code starts from the paper's variance (equation 12), because ``draw`` uses the bound.
        fans = [1, 1]
        for dim, size in sizes.items():
            for index, names in enumerate((self.fan_in, self.fan_out)):
                fans[index] *= size if dim in names else 1
        half_width = math.sqrt(3.0) * math.sqrt(2.0 / sum(fans))
        return Uniform(low=-half_width, high=half_width)
