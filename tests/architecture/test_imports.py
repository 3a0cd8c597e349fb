"""Import rules: common <- models <- frameworks; only the chosen framework is imported."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from isoscale.common.registry import places
from tests.conftest import CODE, ROOT, bare_environment

OURS = "isoscale."
FLOORS = {
    # The floor of each folder of ``common``: a folder imports only from lower floors.
    "config": 1,
    "disk": 2,
    "reference": 2,
    "machine": 2,
    "data": 2,
    "tuning": 3,
    "processes": 3,
    "measure": 4,
    "checkpoint": 5,
    "registry": 5,
    "study": 6,
    "parity": 6,
    "program": 6,
    "analysis": 7,
    "report": 8,
    "commands": 9,
}
FRAMEWORKS = {"jax", "jaxlib", "flax", "optax", "tensorflow", "keras", "torch"}
FRAMEWORK_FREE = ("__init__.py", "__main__.py", "problems.py", "tweaks.py")
"""Files of a framework's folder that must not import the framework."""
SOURCES = [
    path.relative_to(ROOT) for folder in CODE for path in sorted((ROOT / folder).rglob("*.py"))
]


def imported(path: Path) -> set[str]:
    """Returns every module that a file imports, at the top or inside a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(str(node.module))
    return names


def tops(path: Path) -> set[str]:
    """Returns the packages that a file imports; our own code counts as its top-level folders."""
    return {name.removeprefix(OURS).split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_own_modules_are_imported_by_their_isoscale_name(path: Path) -> None:
    """A user's project may also have folders named ``common``, ``models`` and ``frameworks``."""
    assert not {name.split(".")[0] for name in imported(path)} & set(CODE)


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_no_file_imports_from_a_higher_layer(path: Path) -> None:
    forbidden = {"common": {"models", "frameworks", "tests"}, "models": {"frameworks", "tests"}}
    assert not tops(path) & forbidden.get(path.parts[0], {"tests"})


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_framework_free_files_import_no_framework(path: Path) -> None:
    free = (
        path.parts[0] == "common"
        or path.name in ("spec.py", "layer_specs.py")
        or (path.parts[0] == "frameworks" and path.name in FRAMEWORK_FREE)
    )
    if free:
        assert not tops(path) & FRAMEWORKS


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_no_file_imports_from_two_frameworks(path: Path) -> None:
    families = [{"jax", "jaxlib", "flax", "optax"}, {"tensorflow", "keras"}, {"torch"}]
    assert sum(bool(tops(path) & family) for family in families) <= 1
    if path.parts[0] == "frameworks":
        others = {name for name in imported(path) if name.startswith(f"{OURS}frameworks.")}
        assert all(name.split(".")[2] == path.parts[1] for name in others)


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parts[0] == "models"], ids=str)
def test_a_model_family_imports_only_from_its_folder_and_from_layers(path: Path) -> None:
    """``models/layers`` holds the code that families share; it imports from no family."""
    used = {name for name in imported(path) if name.startswith(f"{OURS}models")}
    own = {"layers", path.parts[1]}
    assert all(name.split(".")[2:3] and name.split(".")[2] in own for name in used)


def folders_of(path: Path) -> set[str]:
    """Returns the folders of ``common`` that a file imports from."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(f"{OURS}common"):
            parts = str(node.module).split(".")[2:]
            found |= {parts[0]} if parts else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names = (alias.name for alias in node.names)
            found |= {n.split(".")[2] for n in names if n.startswith(f"{OURS}common.")}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_imports_from_common_lead_only_to_lower_floors(path: Path) -> None:
    used = folders_of(path)
    if path.parts[0] == "models":
        assert used <= {"config", "reference"}
    elif path.parts[0] == "frameworks":
        assert all(FLOORS[name] <= FLOORS["program"] for name in used)
        assert not used & {"analysis", "study", "parity"}
    elif len(path.parts) > 2:
        own = path.parts[1]
        assert all(FLOORS[name] < FLOORS[own] for name in used - {own})


def files_of(path: Path) -> set[Path]:
    """Returns our own files that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    files = {Path(*name.removeprefix(OURS).split(".")).with_suffix(".py") for name in names}
    return files & set(SOURCES)


def test_no_files_import_each_other_in_a_circle() -> None:
    order = TopologicalSorter({path: files_of(path) for path in SOURCES}).static_order()
    assert set(order) == set(SOURCES)


def test_every_folder_of_common_has_a_floor() -> None:
    assert set(FLOORS) == {path.name for path in (ROOT / "common").iterdir() if path.is_dir()} - {
        "__pycache__"
    }


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_only_the_registry_and_main_import_modules_by_name(path: Path) -> None:
    """The registry imports by names known at run time; ``main`` imports a command."""
    text = (ROOT / path).read_text()
    by_name = [word for word in ("import_module", "__import__", "find_spec(") if word in text]
    allowed = path.parts[:2] == ("common", "registry") or path == Path("common/commands/main.py")
    assert allowed or not by_name


def test_the_registry_imports_only_listed_packages_by_name() -> None:
    """``places.BY_NAME`` lists the packages whose modules the registry may import."""
    calls = {
        path.stem: found
        for path in sorted((ROOT / "common/registry").glob("*.py"))
        if (found := re.findall(r"import_module\((.*)\)$", path.read_text(), re.MULTILINE))
    }
    assert calls == {
        "extra": ['".".join((PACKAGE, *parts))'],  # the user's own folder
        "lookup": ["package"],  # the packages of a framework
        "places": ["name"],
    }
    for package in places.BY_NAME:
        parts = package.split(".")
        assert (ROOT / Path(*parts[1:])).is_dir()
        if parts[1] == "common":
            assert FLOORS[parts[2]] < FLOORS["registry"]
    with pytest.raises(AssertionError, match=r"isoscale.common.report"):
        places.load("isoscale.common.report.words")


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_no_file_is_longer_than_500_lines(path: Path) -> None:
    assert len((ROOT / path).read_text().splitlines()) <= 500


def test_no_file_or_folder_has_the_name_of_an_installed_package() -> None:
    names = {part for path in SOURCES for part in (*path.parts[:-1], path.stem)}
    assert not names & (FRAMEWORKS | {"numpy", "scipy", "absl", "rich", "tensorboard"})


def check_not_loaded(names: set[str], *, after: str, folder: Path) -> None:
    """Runs code in a fresh process; fails if the process has then loaded one of the modules."""
    report = '\nprint("LOADED", sorted(set(sys.argv[1].split(",")) & set(sys.modules)))\n'
    answer = subprocess.run(
        [sys.executable, "-c", after + report, ",".join(names)],
        cwd=folder,
        env=bare_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "LOADED []" in answer.stdout, answer.stdout


def test_planning_a_study_loads_no_framework(tmp_path: Path) -> None:
    """Imports all of ``common``, plans a study, and then reads ``sys.modules``."""
    code = """
import importlib, pkgutil, sys
import isoscale.common
for module in pkgutil.walk_packages(isoscale.common.__path__, "isoscale.common."):
    importlib.import_module(module.name)
from isoscale.common.registry import lookup, places
from isoscale.common.commands import main
for framework in lookup.frameworks():
    lookup.framework_info(framework)
    for strategy in lookup.strategies(framework):
        lookup.strategy_info(framework, strategy)
lookup.presets(), lookup.parity_specs()
assert main.main(["compare", "--dry_run"]) == 0
"""
    check_not_loaded(FRAMEWORKS, after=code, folder=tmp_path)


def test_bad_input_is_refused_before_heavy_packages_are_loaded(tmp_path: Path) -> None:
    """Light imports keep the answer to bad input well under two seconds."""
    code = """
import sys
from isoscale.common.commands import main
from isoscale.common.program import main as run_program
assert main.main(["compare", "--models=gpt_tyni"]) == 2
assert run_program.main("jax", ["--model=gpt_tyni"]) == 2
"""
    heavy = FRAMEWORKS | {"scipy", "sklearn", "rich", "threadpoolctl"}
    check_not_loaded(heavy, after=code, folder=tmp_path)
    assert not list(tmp_path.iterdir())
