"""What must be known of a framework or a strategy without importing the framework."""

import dataclasses
from typing import Literal

from isoscale.common.config.mesh import AXES

ProcessModel = Literal["single", "per_device"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameworkInfo:
    """Facts about a framework.

    Attributes:
      name: ``jax``, ``tensorflow``, ``torch``, ...
      packages: what must be importable.
      install: the command that installs them.
      default_strategy: what a user of the framework would take for several devices.
      compile_modes: ways to compile the step, the default first.
      platforms: where its runner works.
      compile_cost: how long a first step takes beside that of other frameworks, 0 for one that
        compiles nothing; parity starts the quick ones first, since others are compared with them.
      model_module: name of the file with this framework's models in ``models/<family>/``.
      quick_compile: (environment variable, what is added to it) for code that need not be fast.
      variables: environment variables that change its results or speed; every run records them.
      harmless_variables: those of them that change messages only; ``isoscale doctor`` is silent
        about them.
      cuda_packages: how the names of its packages for CUDA begin.
    """

    name: str
    packages: tuple[str, ...]
    install: str
    default_strategy: str
    compile_modes: tuple[str, ...]
    platforms: tuple[str, ...]
    model_module: str
    compile_cost: int = 0
    quick_compile: tuple[str, str] | None = None
    variables: tuple[str, ...] = ()
    harmless_variables: tuple[str, ...] = ()
    cuda_packages: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class StrategyInfo:
    """Facts about a strategy: the literal ``INFO`` at the top of its file.

    Attributes:
      summary: one line for ``--help``.
      process_model: ``single``: one process drives all devices; ``per_device``: one process each.
      max_devices: most devices it can use; None: no limit.
      mesh_axes: the mesh axes that it spreads work over, of ``AXES``; empty: it uses one device.
      note: a sentence that a reader of its figures must know; reports print it.
    """

    summary: str
    process_model: ProcessModel
    max_devices: int | None
    mesh_axes: tuple[str, ...]
    note: str | None = None

    def __post_init__(self) -> None:
        for axis in self.mesh_axes:
            if axis not in AXES:
                raise ValueError(f"mesh axis '{axis}' is none of {', '.join(AXES)}")
