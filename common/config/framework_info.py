"""Facts about a framework or a strategy that are available without importing the framework."""

import dataclasses
from typing import Literal

from isoscale.common.config.mesh import AXES

ProcessModel = Literal["single", "per_device"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameworkInfo:
    """Facts about a framework.

    Attributes:
      name: ``jax``, ``tensorflow``, ``torch``, ...
      packages: names of the packages that the runner imports.
      install: the command that installs these packages where isoscale is installed. pip then takes
        the extra from the installed isoscale, which may be a checkout.
      install_gpu: the command that installs the packages for GPUs; None: none is known.
      newest_python: newest Python that the packages have wheels for; None: no limit is known.
      default_strategy: the usual strategy of this framework for several devices.
      compile_modes: ways to compile the step, the default first.
      platforms: platforms that the runner supports.
      compile_cost: duration of a first step in comparison with other frameworks; 0: the framework
        compiles nothing. Parity starts frameworks with a low cost first, because it compares the
        others with them.
      model_module: name of the file with this framework's models in ``models/<family>/``.
      quick_compile: (environment variable, text to append) that makes compilation quick and the
        compiled code slow; for runs without timing.
      variable_families: how the names of environment variables begin that the framework and its
        libraries read. A run gets none of them from the shell
        (``common/machine/variables.py``).
      kept_variables: the variables of these families that a run gets from the shell: they change
        nothing that is measured, for example the place of a cache.
      foreign_variables: how the names begin of the variables of these families that belong to other
        programs. A run does not get them; no message names them.
      launcher_variables: how the names begin of the variables that the framework's own launcher
        gives its ranks; a rank of such a launcher keeps them.
      joined_variables: variables that a run sets, to which it joins the user's value (``--env``).
      variables: environment variables whose values every run records.
      cuda_packages: prefixes of the names of the framework's CUDA packages.
    """

    name: str
    packages: tuple[str, ...]
    install: str
    install_gpu: str | None = None
    newest_python: tuple[int, int] | None = None
    default_strategy: str
    compile_modes: tuple[str, ...]
    platforms: tuple[str, ...]
    model_module: str
    compile_cost: int = 0
    quick_compile: tuple[str, str] | None = None
    variable_families: tuple[str, ...] = ()
    kept_variables: tuple[str, ...] = ()
    foreign_variables: tuple[str, ...] = ()
    launcher_variables: tuple[str, ...] = ()
    joined_variables: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    cuda_packages: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class StrategyInfo:
    """Facts about a strategy: the literal ``INFO`` at the top of its file.

    Attributes:
      summary: one line for ``--help``.
      process_model: ``single``: one process drives all devices; ``per_device``: one process per
        device.
      max_devices: largest number of devices; None: no limit.
      mesh_axes: the mesh axes (from ``AXES``) that the strategy spreads work over; empty: the
        strategy uses one device.
      note: a sentence that every reader of the strategy's figures must know; reports print it.

    Raises:
      ValueError: an entry of ``mesh_axes`` is not in ``AXES``.
    """

    summary: str
    process_model: ProcessModel
    max_devices: int | None
    mesh_axes: tuple[str, ...]
    note: str | None = None

    def __post_init__(self) -> None:
        for axis in self.mesh_axes:
            if axis not in AXES:
                raise ValueError(f"mesh axis '{axis}' is unknown; known: {', '.join(AXES)}")
