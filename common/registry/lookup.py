"""Finds models, frameworks, strategies and data sets by name, without importing a framework.

Lookup needs no registration: a folder with a ``spec.py`` is a model family, a ``*_runner`` folder
is a framework, a file in its ``strategies/`` is a strategy, and a file in ``common/data/sources``
is a data set.
"""

import ast
import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from isoscale.common.config.errors import (
    ConfigError,
    in_one_line,
    require_choice,
)
from isoscale.common.config.framework_info import FrameworkInfo, ProcessModel, StrategyInfo
from isoscale.common.config.model_spec import (
    DropoutProbe,
    Factors,
    Family,
    ModelBuilder,
    ModelSpec,
    Preset,
)
from isoscale.common.config.run_config import RunConfig
from isoscale.common.data.dataset import Dataset
from isoscale.common.machine import gpu_problems
from isoscale.common.machine import problems as machine_problems
from isoscale.common.machine.problem import Problem
from isoscale.common.measure.runner import Runner
from isoscale.common.measure.scenario import Scenario
from isoscale.common.registry import places
from isoscale.common.registry.broken import broken_if_not_imported
from isoscale.common.registry.unknown_names import size_of_parity, unknown_name
from isoscale.common.tuning.tweaks import Tweak

ROOT = places.ROOT

# Models.


@functools.cache
def _families() -> dict[str, Family]:
    return {name: places.family(name) for name in places.families()}


def presets() -> dict[str, Preset]:
    """Returns name -> preset, for every model family."""
    return {name: p for family in _families().values() for name, p in family.presets.items()}


def parity_specs() -> dict[str, ModelSpec]:
    """Returns name -> small spec; together the specs run every code path of every model."""
    return {name: s for family in _families().values() for name, s in family.parity_specs.items()}


def parity_starts() -> dict[str, Mapping[str, float]]:
    """Returns parity spec -> ending of parameter names -> constant initial value."""
    families = _families().values()
    return {name: start for family in families for name, start in family.parity_starts.items()}


def parity_large(spec: ModelSpec) -> Mapping[str, Factors]:
    """Returns ending of parameter names -> their factors in the family's pieces ``large``."""
    return _families()[family_of(spec)].parity_large


def parity_optimizers() -> set[str]:
    """Returns the names of the parity specs that test every optimizer and schedule."""
    return {name for family in _families().values() for name in family.parity_optimizers}


def dropout_probe(spec: ModelSpec) -> DropoutProbe | None:
    """Returns how to observe the dropout of a spec's family; None for a family without dropout."""
    return _families()[family_of(spec)].parity_dropout


def preset(name: str) -> Preset:
    """Returns the preset of a model.

    Raises:
      ConfigError: the model is unknown, or ``name`` is a family, which has several.
    """
    known = presets()
    if name not in known and name in _families():
        sizes = ", ".join(_families()[name].presets)
        raise ConfigError(f"'{name}' is a family of models; choose one of its sizes: {sizes}")
    presets_of([name])
    return known[name]


def sizes_of(names: Iterable[str], known: Mapping[str, str | None]) -> list[str]:
    """Returns the models that names stand for, each once: the name of a family means all its sizes.

    Args:
      names: names of models or families.
      known: model -> its family; None: the name of a family does not stand for this model. A name
        of both a model and a family means the model.

    Raises:
      ConfigError: a name is unknown.
    """
    families = {family for family in known.values() if family}
    found: dict[str, None] = {}
    for name in names:
        if name in known:
            found[name] = None
        elif name in families:
            found |= dict.fromkeys(model for model, family in known.items() if family == name)
        else:
            raise unknown_name("model", name, {*known, *families}, own="models")
    return list(found)


def presets_of(names: Iterable[str]) -> list[str]:
    """Returns the presets that names of presets or families stand for, each once.

    Raises:
      ConfigError: a name is unknown, or that of a size of parity.
    """
    known = {size: name for name, family in _families().items() for size in family.presets}
    listed = list(names)
    for name in listed:
        spec = parity_specs().get(name.partition("/")[0])
        if spec is not None and name not in known:
            raise size_of_parity(name, _families()[family_of(spec)].presets)
    return sizes_of(listed, known)


def size_fields() -> dict[str, tuple[Any, list[str]]]:
    """Returns name of a size -> (an example value, families with this size)."""
    fields: dict[str, tuple[Any, list[str]]] = {}
    for name, family in _families().items():
        spec = family.presets[family.default].spec
        for field in spec.size_names():
            fields.setdefault(field, (getattr(spec, field), []))[1].append(name)
    return fields


def default_models() -> list[str]:
    """Returns the default preset of each family."""
    return [family.default for _, family in sorted(_families().items())]


def families() -> list[str]:
    """Returns the names of all model families."""
    return list(_families())


def spec_class(family: str) -> type[ModelSpec]:
    """Returns the class of a family's specifications."""
    return _families()[family].spec_class


def family_of(spec: ModelSpec) -> str:
    return type(spec).__module__.split(".")[2]


def model_builder(framework: FrameworkInfo, spec: ModelSpec) -> ModelBuilder:
    """Imports the framework's implementation of a model; returns its ``build``.

    Raises:
      ConfigError: the family has no implementation for the framework.
    """
    require_model_file(framework, spec)
    return places.family_module(family_of(spec), framework.model_module).build


def require_model_file(framework: FrameworkInfo, spec: ModelSpec) -> None:
    """Raises ConfigError if the model has no implementation for the framework."""
    family = family_of(spec)
    if not has_model_file(framework, family):
        raise ConfigError(
            f"model family '{family}' has no {framework.model_module}.py for framework "
            f"'{framework.name}'; choose another model or framework"
        )


def has_model(framework: str, model: str) -> bool:
    """Returns whether a preset has an implementation for a framework."""
    return has_model_of(framework, preset(model).spec)


def has_model_of(framework: str, spec: ModelSpec) -> bool:
    """Returns whether a size of a model has an implementation for a framework."""
    return has_model_file(framework_info(framework), family_of(spec))


def has_model_file(framework: FrameworkInfo, family: str) -> bool:
    """Returns whether a family has an implementation for a framework."""
    return places.has_model(family, framework.model_module)


def model_summary(family: str) -> str:
    """Returns the first line of a family's ``spec.py``."""
    return first_line(places.family_module(family, "spec"))


def first_line(module: ModuleType) -> str:
    """Returns the first line of a module's documentation."""
    return (module.__doc__ or "").strip().partition("\n")[0]


# Frameworks and strategies.


def frameworks() -> tuple[str, ...]:
    """Returns the names of all frameworks."""
    return places.frameworks()


def _package(framework: str) -> str:
    require_choice("framework", framework, frameworks())
    return f"isoscale.frameworks.{framework}{places.SUFFIX}"


def program(framework: str) -> str:
    """Returns the framework's module for ``python -m``."""
    return _package(framework)


def framework_info(framework: str) -> FrameworkInfo:
    """Returns a framework's facts; raises ConfigError for an unknown framework."""
    require_choice("framework", framework, frameworks())
    return places.framework_info(framework)


def usual_strategy(framework: str, devices: int) -> str:
    """Returns the strategy of a run that names none: ``bare``; on several devices the default."""
    return "bare" if devices == 1 else framework_info(framework).default_strategy


def framework_environment(framework: str, config: RunConfig) -> dict[str, str]:
    """Returns the environment variables to set before the framework is imported."""
    return places.load(_package(framework)).environment(config)


@functools.cache
def tweaks(framework: str) -> tuple[Tweak, ...]:
    """Returns a framework's tweaks, in the order of activation."""
    name = f"{_package(framework)}.tweaks"
    return places.load(name).TWEAKS if importlib.util.find_spec(name) else ()


def problems() -> tuple[Problem, ...]:
    """Returns all known problems: those of frameworks, then of machines, then of GPUs.

    A framework's ``problems.py`` lists its problems as ``PROBLEMS`` and imports no framework.
    """
    names = [f"{_package(framework)}.problems" for framework in frameworks()]
    of_frameworks = [
        problem
        for name in names
        if importlib.util.find_spec(name)
        for problem in places.load(name).PROBLEMS
    ]
    return (*of_frameworks, *machine_problems.PROBLEMS, *gpu_problems.PROBLEMS)


def environment_variables() -> set[str]:
    """Returns the environment variables, of all frameworks, that a run records."""
    return {variable for name in frameworks() for variable in framework_info(name).variables}


def tweak_names() -> set[str]:
    """Returns the names of all tweaks of all frameworks."""
    return {tweak.name for framework in frameworks() for tweak in tweaks(framework)}


def tweaks_in_force(config: RunConfig) -> list[Tweak]:
    """Returns the tweaks of a run, in the order of activation."""
    return [tweak for tweak in tweaks(config.framework) if tweak.name in config.tweaks]


def strategies(framework: str) -> list[str]:
    """Returns the names of a framework's strategies."""
    require_choice("framework", framework, frameworks())
    return places.strategies(framework)


def strategies_of(process_model: ProcessModel) -> list[str]:
    """Returns the names of all strategies, of any framework, with a given process model."""
    return sorted(
        {
            name
            for framework in frameworks()
            for name in strategies(framework)
            if strategy_info(framework, name).process_model == process_model
        }
    )


def strategy_notes(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Returns the notes on (framework, strategy) pairs, without duplicates.

    Skips unknown names: a study from another computer may contain them.
    """
    notes: dict[str, None] = {}
    for framework, strategy in pairs:
        if framework in frameworks() and strategy in strategies(framework):
            note = strategy_info(framework, strategy).note
            if note is not None:
                notes[note] = None
    return list(notes)


def all_strategies() -> list[str]:
    """Returns the names of all strategies of all frameworks."""
    return sorted({name for framework in frameworks() for name in strategies(framework)})


@functools.cache
def strategy_info(framework: str, strategy: str) -> StrategyInfo:
    """Reads the literal ``INFO`` of a strategy's file without running the file.

    Raises:
      ConfigError: the framework has no such strategy.
    """
    known = strategies(framework)
    if strategy not in known:
        owners = [name for name in frameworks() if strategy in strategies(name)]
        if owners:
            raise ConfigError(
                f"strategy '{strategy}' belongs to {', '.join(owners)}, not to {framework}, which "
                f"has {', '.join(known)}"
            )
        raise unknown_name("strategy", strategy, known, own="strategies")
    path = places.strategy_path(framework, strategy)
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "INFO":
            try:
                return StrategyInfo(**ast.literal_eval(node.value))
            except (TypeError, ValueError) as error:
                raise ConfigError(f"{path}: INFO is wrong: {in_one_line(error)}") from None
    raise ConfigError(f"{path} has no literal INFO = {{...}} at its top")


def _import_packages(info: FrameworkInfo) -> None:
    for package in info.packages:
        importlib.import_module(package)


def load_runner(config: RunConfig) -> Callable[[], Runner]:
    """Imports the framework; returns a function that builds the runner for ``config``.

    A run imports its framework only here.

    Raises:
      BrokenFrameworkError: a package of the framework cannot be imported.
    """
    package = _package(config.framework)
    info = framework_info(config.framework)
    with broken_if_not_imported(info, broken_by=(Exception,), env=config.env):
        _import_packages(info)
    # Our own modules use names that an old framework may lack.
    with broken_if_not_imported(info, broken_by=(ImportError,)):
        runner_class = places.load(f"{package}.runner").RUNNER
        strategy = places.strategy_module(config.framework, config.strategy).make
        build = model_builder(info, config.spec)
    return lambda: runner_class(config, build_model=build, make_strategy=strategy)


def load_examination(framework: str) -> ModuleType | None:
    """Imports the framework; returns its ``examine`` module; None without such a module.

    Raises:
      BrokenFrameworkError: a package of the framework cannot be imported.
    """
    name, info = f"{_package(framework)}.examine", framework_info(framework)
    with broken_if_not_imported(info, broken_by=(ImportError, OSError)):
        if importlib.util.find_spec(name) is not None:
            return places.load(name)
        _import_packages(info)
    return None


def missing_packages(info: FrameworkInfo) -> list[str]:
    """Returns the packages of a framework that this interpreter does not have."""
    return _absent(info.packages)


def _absent(packages: Iterable[str]) -> list[str]:
    """Returns the packages that this interpreter does not have; imports none."""
    # A module spec without an origin is a folder without __init__.py, for example in the working
    # folder. It is not an installed package.
    found = {name: importlib.util.find_spec(name) for name in packages}
    return [name for name, spec in found.items() if spec is None or spec.origin is None]


# Recipes.


def recipes() -> dict[str, Path]:
    """Returns name -> flag file, for each recipe that ``isoscale compare`` brings along."""
    return {path.stem: path for path in sorted((ROOT / "runs").glob("*.flags"))}


# Scenarios.


def scenario(name: str) -> Scenario:
    """Returns the scenario of a name.

    Raises:
      ConfigError: the scenario is unknown.
    """
    known = places.modules(ROOT / "common" / "measure" / "scenarios")
    require_choice("scenario", name, known)
    return places.load(f"isoscale.common.measure.scenarios.{name}").SCENARIO


# Data.


def data_source(name: str) -> ModuleType:
    """Returns the module of a data set; raises ConfigError for an unknown data set."""
    if name not in data_sources():
        raise unknown_name("dataset", name, data_sources(), own="data sets")
    return places.data_module(name)


def require_data_packages(name: str) -> None:
    """Raises ConfigError if this interpreter lacks a package of a data set, or for an unknown name.

    The module of a data set may name packages that isoscale does not require, as ``PACKAGES``, and
    the command that installs them, as ``INSTALL``.
    """
    source = data_source(name)
    lacks = _absent(getattr(source, "PACKAGES", ()))
    if lacks:
        raise ConfigError(
            f"dataset '{name}' needs {', '.join(lacks)}, which {sys.executable} lacks: "
            f"{sys.executable} -m {source.INSTALL}"
        )


def extra_digests(config: RunConfig) -> dict[str, str]:
    """Returns the user's own parts of a run -> digest of their files; {} if there are none."""
    return places.digests(
        family=family_of(config.spec),
        dataset=config.dataset,
        framework=config.framework,
        strategy=config.strategy,
    )


def load_dataset(config: RunConfig) -> Dataset:
    """Returns the data of a run."""
    return data_source(config.dataset).load(
        config.spec,
        global_batch_size=config.global_batch_size,
        pool=config.batch_pool,
        seed=config.seed,
        dtype=config.parameter_dtype,
    )


def data_sources() -> list[str]:
    """Returns the names of all data sets."""
    return places.data_sources()
