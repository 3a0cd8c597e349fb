"""The import rule: common <- models <- frameworks; a framework is imported when it is chosen."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from isoscale.common.registry import lookup
from tests.conftest import CODE, ROOT, bare_environment

OURS = "isoscale."
FLOORS = {
    # Floor of each folder of ``common``: it imports from folders on lower floors only.
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
def test_our_own_code_has_one_name(path: Path) -> None:
    """Any project may have folders named ``common``, ``models`` and ``frameworks``."""
    assert not {name.split(".")[0] for name in imported(path)} & set(CODE)


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_nothing_imports_to_the_right(path: Path) -> None:
    forbidden = {"common": {"models", "frameworks", "tests"}, "models": {"frameworks", "tests"}}
    assert not tops(path) & forbidden.get(path.parts[0], {"tests"})


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_framework_free_files_are(path: Path) -> None:
    free = (
        path.parts[0] == "common"
        or path.name in ("spec.py", "layer_specs.py")
        or (path.parts[0] == "frameworks" and path.name in FRAMEWORK_FREE)
    )
    if free:
        assert not tops(path) & FRAMEWORKS


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_a_framework_knows_no_other(path: Path) -> None:
    families = [{"jax", "jaxlib", "flax", "optax"}, {"tensorflow", "keras"}, {"torch"}]
    assert sum(bool(tops(path) & family) for family in families) <= 1
    if path.parts[0] == "frameworks":
        others = {name for name in imported(path) if name.startswith(f"{OURS}frameworks.")}
        assert all(name.split(".")[2] == path.parts[1] for name in others)


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parts[0] == "models"], ids=str)
def test_a_family_imports_from_itself_and_from_the_layers(path: Path) -> None:
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
def test_imports_run_from_higher_floors_to_lower_ones(path: Path) -> None:
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
def test_only_the_registry_looks_things_up_by_name(path: Path) -> None:
    """Only the registry imports by a name known at run time, and ``main`` imports a command."""
    text = (ROOT / path).read_text()
    by_name = [word for word in ("import_module", "__import__", "find_spec(") if word in text]
    allowed = path.parts[:2] == ("common", "registry") or path == Path("common/commands/main.py")
    assert allowed or not by_name


def test_what_the_registry_imports_by_name_is_on_lower_floors_or_to_the_right() -> None:
    """The registry's own list, which its imports by name are held to."""
    text = (ROOT / "common/registry/lookup.py").read_text()
    calls = re.findall(r"import_module\((.*?)\)", text)
    assert calls == ["name", "package"]  # ``_load``, and packages of a framework
    for package in lookup.BY_NAME:
        parts = package.split(".")
        assert (ROOT / Path(*parts[1:])).is_dir()
        if parts[1] == "common":
            assert FLOORS[parts[2]] < FLOORS["registry"]
    with pytest.raises(AssertionError, match=r"isoscale.common.report"):
        lookup._load("isoscale.common.report.words")


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_no_file_is_longer_than_500_lines(path: Path) -> None:
    assert len((ROOT / path).read_text().splitlines()) <= 500


def test_nothing_carries_the_name_of_a_package() -> None:
    names = {part for path in SOURCES for part in (*path.parts[:-1], path.stem)}
    assert not names & (FRAMEWORKS | {"numpy", "scipy", "absl", "rich", "tensorboard"})


def check_not_loaded(names: set[str], *, after: str, folder: Path) -> None:
    """Fails if a fresh process has loaded one of the modules after it ran the code."""
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


def test_no_framework_is_loaded_without_being_chosen(tmp_path: Path) -> None:
    """Imports all of ``common``, plans a study, and then reads ``sys.modules``."""
    code = """
import importlib, pkgutil, sys
import isoscale.common
for module in pkgutil.walk_packages(isoscale.common.__path__, "isoscale.common."):
    importlib.import_module(module.name)
from isoscale.common.registry import lookup
from isoscale.common.commands import main
for framework in lookup.frameworks():
    lookup.framework_info(framework)
    for strategy in lookup.strategies(framework):
        lookup.strategy_info(framework, strategy)
lookup.presets(), lookup.parity_specs()
assert main.main(["compare", "--dry_run"]) == 0
"""
    check_not_loaded(FRAMEWORKS, after=code, folder=tmp_path)


def test_bad_input_is_refused_before_anything_heavy_is_loaded(tmp_path: Path) -> None:
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
