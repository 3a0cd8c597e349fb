"""Types that the strategies of all frameworks share.

Each framework declares its own contract in ``frameworks/<framework>_runner/strategy.py``; the
contracts use the same words.
"""

from typing import Any, Literal, Protocol

BuiltIn = Literal["none", "compiler", "wrapper"]
"""Where gradients are reduced if the strategy has no function for the reduction."""

NONE: BuiltIn = "none"
"""One device: gradients need no reduction."""
COMPILER: BuiltIn = "compiler"
"""The compiler inserts the reduction into a program for all devices (``pjit``)."""
WRAPPER: BuiltIn = "wrapper"
"""The framework's wrapper of the model reduces gradients by its own default (``ddp``)."""


class Ranks(Protocol):
    """The processes of a run; every strategy implements their communication."""

    @property
    def rank(self) -> int:
        """Number of this process in the run, from 0."""

    def barrier(self) -> None:
        """Returns when every process of the run has called it."""

    def gather(self, value: Any) -> list[Any]:
        """Returns the values of all processes, in order of rank, on every process.

        Args:
          value: a JSON value; it arrives as JSON gives it back, tuples as lists. Nothing that
            crosses processes is unpickled: a foreign process could make it execute code.
        """


class OneProcess:
    """The ranks of a strategy whose one process drives all devices."""

    rank = 0
    world_size = 1

    def barrier(self) -> None:
        """Returns immediately: the run has one process."""

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def describe(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        """Does nothing: the run has one process."""
