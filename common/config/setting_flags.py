"""The flags of a run's settings, made from what ``RunConfig`` and ``OptimizerConfig`` declare."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.flags import Flags
from isoscale.common.config.optimizer_config import OptimizerConfig
from isoscale.common.config.options import FIELD, flag_default, options_of, text_of
from isoscale.common.config.run_config import PLATFORMS, RunConfig

CELL_FLAGS = (
    "strategy",
    "model",
    "devices",
    "global_batch_size",
    "dtype",
    "compile_mode",
    "tuning",
    "independent",
)
"""Settings whose flags each command defines itself: as one value, or as a list for a grid."""


def define_flag(
    fv: Flags, name: str, *, default: Any = FIELD, help_: str | None = None, several: bool = False
) -> None:
    """Defines the flag of a setting as ``RunConfig`` declares the setting.

    Args:
      fv: receives the flag.
      name: name of the field.
      default: replaces the declared default.
      help_: replaces the declared help.
      several: the flag takes a list of values.
    """
    _define(fv, RunConfig, name, default=default, help_=help_, several=several)


def _define(
    fv: Flags,
    kind: type,
    name: str,
    *,
    default: Any = FIELD,
    help_: str | None = None,
    several: bool = False,
) -> None:
    declared = options_of(kind)[name]
    assert declared.flag is not None
    value = flag_default(kind, name) if default is FIELD else default
    text = declared.help if help_ is None else help_
    if several:
        text = text if text.startswith("[list]") else f"[list] {text}"
        if declared.kind == "integer":
            fv.integers(declared.flag, value, text, maximum=int(declared.maximum))
        else:
            fv.names(declared.flag, value, text)
    elif declared.kind == "integer":
        low, high = int(declared.minimum), int(declared.maximum)
        fv.integer(declared.flag, value, text, minimum=low, maximum=high)
    elif declared.kind == "number":
        fv.number(declared.flag, value, text, minimum=declared.minimum, maximum=declared.maximum)
    elif declared.kind == "names":
        fv.names(declared.flag, list(value), text)
    elif declared.kind == "texts":
        fv.texts(declared.flag, text)
    elif declared.kind == "boolean":
        fv.boolean(declared.flag, value, text)
    else:
        fv.text(declared.flag, value, text)


def define_training_flags(fv: Flags, *, platforms: Sequence[str] = PLATFORMS) -> None:
    """Defines the flags of training and measuring: every setting except ``CELL_FLAGS``.

    Args:
      fv: receives the flags.
      platforms: platforms that the help text names.
    """
    for kind in (RunConfig, OptimizerConfig):
        for name, declared in options_of(kind).items():
            if declared.flag is not None and name not in CELL_FLAGS:
                _define(fv, kind, name, help_="|".join(platforms) if name == "platform" else None)


def read_settings(fv: Flags) -> dict[str, Any]:
    """Returns field name -> value, for every flag of ``define_training_flags``.

    Raises:
      ConfigError: a setting of the optimizer is outside its range.
    """
    values = {
        name: getattr(fv, declared.flag)
        for name, declared in options_of(RunConfig).items()
        if declared.flag is not None and name not in CELL_FLAGS
    }
    values["env"] = tuple(sorted(values["env"]))  # their order means nothing
    optimizer = options_of(OptimizerConfig).items()
    values["optimizer"] = OptimizerConfig(**{n: getattr(fv, str(o.flag)) for n, o in optimizer})
    return values


def define_size_flags(
    fv: Flags, sizes: dict[str, tuple[Any, list[str]]], *, several: bool = False
) -> None:
    """Defines one flag for each size of any model.

    ``read_overrides`` checks that the model has the size.

    Args:
      fv: receives the flags.
      sizes: name -> (an example value, the model families that have this size).
      several: each flag takes a list of values.
    """
    for name, (example, families) in sorted(sizes.items()):
        help_ = f"setting of {', '.join(families)} (default: the preset's)"
        if several:
            _define_sizes(fv, name, example, f"[list] {help_}")
        elif isinstance(example, bool):
            fv.boolean(name, None, help_)
        elif isinstance(example, int):
            fv.integer(name, None, help_, minimum=0)
        elif isinstance(example, float):
            fv.number(name, None, help_)
        elif isinstance(example, str):
            fv.text(name, None, help_)
        else:
            fv.integers(name, None, help_, unique=False)


def _define_sizes(fv: Flags, name: str, example: Any, help_: str) -> None:
    """Defines the flag of a size as a list of values of the type of ``example``."""
    if isinstance(example, bool):
        fv.booleans(name, None, help_)
    elif isinstance(example, int):
        fv.integers(name, None, help_, minimum=0)
    elif isinstance(example, float):
        fv.numbers(name, None, help_)
    elif isinstance(example, str):
        fv.names(name, None, help_)
    else:
        fv.rows(
            name, None, f"{help_}; 64,64 is one value, 64x64,128x128 are two, and 64x,128x are two"
        )


def given_sizes(fv: Flags, sizes: Iterable[str]) -> dict[str, Any]:
    """Returns size -> value, for the sizes given by flag; in a list of values, all of them.

    Args:
      fv: the parsed flags.
      sizes: names of the sizes of all models.
    """
    return {name: getattr(fv, name) for name in sorted(sizes) if fv.given(name)}


def read_overrides(
    sizes: Mapping[str, Any], *, model: str, spec: Any
) -> tuple[tuple[str, Any], ...]:
    """Returns (size, value) pairs: the given sizes that differ from the preset, sorted.

    Args:
      sizes: size -> value.
      model: name of the model, for error messages.
      spec: the specification of the model's preset.

    Raises:
      ConfigError: the model lacks a given size.
    """
    overrides = []
    for name, value in sorted(sizes.items()):
        value = tuple(value) if isinstance(value, list) else value
        if name not in spec.size_names():
            raise ConfigError(
                f"--{name}={text_of(value)}: model '{model}' lacks this size; its sizes are "
                f"{', '.join(spec.size_names())}"
            )
        if value != getattr(spec, name):
            overrides.append((name, value))
    return tuple(overrides)
