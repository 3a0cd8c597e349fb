"""Where frameworks, models, data sets and strategies are: in the package or the user's folder."""

import collections
import functools
import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.framework_info import FrameworkInfo
from isoscale.common.config.model_spec import Family, ModelSpec
from isoscale.common.registry import extra
from isoscale.common.registry.extra import (
    DATA,
    DATA_DIGEST,
    MODEL_DIGEST,
    MODELS,
    STRATEGIES,
    STRATEGY_DIGEST,
)

ROOT = Path(__file__).resolve().parents[2]
SUFFIX = "_runner"
BY_NAME = (
    "isoscale.common.data.sources",
    "isoscale.common.measure.scenarios",
    "isoscale.models",
    "isoscale.frameworks",
)
"""The packages whose modules are found and imported by name.

Besides, ``extra.py`` imports the files of the user's folder, and ``commands/main.py`` the file of a
command.
"""


def load(name: str) -> ModuleType:
    """Imports one of our own modules by its name."""
    assert name.startswith(tuple(f"{package}." for package in BY_NAME)), name
    return importlib.import_module(name)


@functools.cache
def modules(folder: Path) -> list[str]:
    """Returns the names of the Python files of a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


def _with_own(kind: str, ours: Sequence[str], *parts: str) -> list[str]:
    """Returns the names of the package and of the user's folder, sorted.

    Raises:
      ConfigError: a name is in both.
    """
    extra.require_new(kind, ours, *parts)
    return sorted((*ours, *extra.names(*parts)))


# Frameworks.


@functools.cache
def frameworks() -> tuple[str, ...]:
    """Returns the names of all frameworks."""
    paths = (ROOT / "frameworks").glob(f"*{SUFFIX}/__init__.py")
    return tuple(sorted(path.parent.name.removesuffix(SUFFIX) for path in paths))


def framework_info(framework: str) -> FrameworkInfo:
    """Returns the facts of a known framework."""
    return load(f"isoscale.frameworks.{framework}{SUFFIX}").INFO


@functools.cache
def _packages(*, besides: str | None = None) -> frozenset[str]:
    """Returns the packages of all frameworks besides one; each file may import NumPy."""
    others = (framework_info(name) for name in frameworks() if name != besides)
    return frozenset(package for info in others for package in info.packages) - {"numpy"}


# Models.


def families() -> list[str]:
    """Returns the names of all model families."""
    ours = [path.parent.name for path in (ROOT / "models").glob("*/spec.py")]
    return _with_own("model family", ours, MODELS)


def _is_extra(name: str, *parts: str) -> bool:
    return name in extra.names(*parts)


def family(name: str) -> Family:
    """Returns the declaration of a family.

    Raises:
      ConfigError: a part of the user's own family is missing or wrong.
    """
    if not _is_extra(name, MODELS):
        return load(f"isoscale.models.{name}.spec").FAMILY
    path = extra.path_of(MODELS, name, "spec")
    extra.require_defined(path, "FAMILY", contract="FAMILY = Family(presets=..., parity_specs=...)")
    found = extra.load(MODELS, name, "spec", without=_packages()).FAMILY
    if not isinstance(found, Family):
        raise ConfigError(f"{path}: FAMILY must be a Family, not {type(found).__name__}")
    if name in {*found.presets, *found.parity_specs}:
        raise ConfigError(
            f"{path}: no size may have the name of the family, '{name}', which means all sizes"
        )
    kind = found.spec_class
    for method in ("parameters", "batch_kind", "forward_flops"):
        if getattr(kind, method) is getattr(ModelSpec, method):
            raise ConfigError(f"{path}: class {kind.__name__} lacks the function {method}()")
    for size in (*(preset.spec for preset in found.presets.values()), *found.parity_specs.values()):
        found_names = collections.Counter(parameter.name for parameter in size.parameters())
        name_twice, count = found_names.most_common(1)[0] if found_names else ("", 1)
        if count > 1:
            raise ConfigError(f"{path}: parameters() has {name_twice} twice")
    if kind.__module__ != f"{extra.PACKAGE}.{MODELS}.{name}.spec":
        raise ConfigError(f"{path}: the class of the sizes, {kind.__name__}, must be in this file")
    return found


def family_module(name: str, file: str) -> ModuleType:
    """Imports a file of a family, for example ``torch_model``."""
    if _is_extra(name, MODELS):
        return extra.load(MODELS, name, file)
    return load(f"isoscale.models.{name}.{file}")


def has_model(name: str, file: str) -> bool:
    """Returns whether a family has a file with the models of a framework.

    Raises:
      ConfigError: the user's own file lacks ``build``, or imports another framework.
    """
    if not _is_extra(name, MODELS):
        return (ROOT / "models" / name / f"{file}.py").exists()
    path = extra.path_of(MODELS, name, file)
    if not path.exists():
        return False
    owner = next((n for n in frameworks() if framework_info(n).model_module == file), None)
    extra.require_free(path, _packages(besides=owner))
    extra.require_defined(
        path, "build", contract="def build(spec, *, dtype, param_dtype, tweaks) returns the model"
    )
    return True


# Data.


def data_sources() -> list[str]:
    """Returns the names of all data sets."""
    return _with_own("data set", modules(ROOT / "common" / "data" / "sources"), DATA)


def data_module(name: str) -> ModuleType:
    """Imports the file of a data set.

    Raises:
      ConfigError: the user's own file lacks a function, or imports a framework.
    """
    if not _is_extra(name, DATA):
        return load(f"isoscale.common.data.sources.{name}")
    path = extra.path_of(DATA, name)
    extra.require_defined(
        path, "check", contract="def check(spec, *, global_batch_size) refuses models"
    )
    extra.require_defined(
        path,
        "load",
        contract="def load(spec, *, global_batch_size, pool, seed, dtype) returns a Dataset",
    )
    return extra.load(DATA, name, without=_packages())


# Strategies.


def _strategies(framework: str) -> Path:
    return ROOT / "frameworks" / f"{framework}{SUFFIX}" / "strategies"


def strategies(framework: str) -> list[str]:
    """Returns the names of a framework's strategies."""
    return _with_own("strategy", modules(_strategies(framework)), STRATEGIES, framework)


def strategy_path(framework: str, name: str) -> Path:
    """Returns the file of a strategy.

    Raises:
      ConfigError: the user's own file lacks a name, or imports another framework.
    """
    if not _is_extra(name, STRATEGIES, framework):
        return _strategies(framework) / f"{name}.py"
    path = extra.path_of(STRATEGIES, framework, name)
    extra.require_free(path, _packages(besides=framework))
    extra.require_defined(path, "INFO", contract="a literal INFO, the fields of StrategyInfo")
    extra.require_defined(path, "make", contract="make(config) returns the strategy")
    return path


def strategy_module(framework: str, name: str) -> ModuleType:
    """Imports the file of a strategy, and the framework."""
    if _is_extra(name, STRATEGIES, framework):
        return extra.load(STRATEGIES, framework, name)
    return load(f"isoscale.frameworks.{framework}{SUFFIX}.strategies.{name}")


# What a run used of the user's folder.


def digests(*, family: str, dataset: str, framework: str, strategy: str) -> dict[str, str]:
    """Returns the user's own parts of a run -> digest of their files; {} if there are none."""
    parts = {
        f"{MODEL_DIGEST}{family}": (MODELS, family),
        f"{DATA_DIGEST}{dataset}": (DATA, dataset),
        f"{STRATEGY_DIGEST}{strategy}": (STRATEGIES, framework, strategy),
    }
    return {
        name: extra.digest(*where)
        for name, where in parts.items()
        if _is_extra(where[-1], *where[:-1])
    }
