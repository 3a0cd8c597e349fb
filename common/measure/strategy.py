"""What strategies of all frameworks share; each framework declares its own contract.

The contracts stand in ``frameworks/<framework>_runner/strategy.py``, in the same words.
"""

from typing import Any, Literal, Protocol

BuiltIn = Literal["none", "compiler", "wrapper"]
"""Where a reduction of gradients is when it is no function of the strategy."""

NONE: BuiltIn = "none"
"""One device: nothing to reduce."""
COMPILER: BuiltIn = "compiler"
"""The compiler inserts the reduction into a program for all devices (``pjit``)."""
WRAPPER: BuiltIn = "wrapper"
"""The framework's wrapper of the model reduces gradients by its own default (``ddp``)."""


class Ranks(Protocol):
    """The processes of a run; every strategy says how they meet."""

    @property
    def rank(self) -> int:
        """Number of this process in the run, from 0."""

    def barrier(self) -> None:
        """Returns when every process of the run has called it."""

    def gather(self, value: Any) -> list[Any]:
        """Returns the values of all processes, in order of rank, on every process."""


class OneProcess:
    """The ranks of a strategy whose one process drives all devices."""

    rank = 0
    world_size = 1

    def barrier(self) -> None:
        """Returns at once: no other process exists."""

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def describe(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        """Ends nothing: no other process exists."""
