"""Every module has one name: ``isoscale.common...``, ``isoscale.models...``, ..."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.conftest import CODE, ROOT, build_wheel, copy_of_the_code, environment_of

PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]


def test_the_package_list_equals_the_packages_on_disk() -> None:
    """A package that is missing from the list works in the checkout but is missing from a wheel."""
    folders = [path.parent for top in CODE for path in (ROOT / top).rglob("__init__.py")]
    on_disk = {".".join(("isoscale", *folder.relative_to(ROOT).parts)) for folder in folders}
    assert set(PACKAGES) == on_disk | {"isoscale.runs"}
    with_modules = {path.parent for top in CODE for path in (ROOT / top).rglob("*.py")}
    assert with_modules == set(folders)


def test_every_file_is_imported_under_one_name() -> None:
    """``import common`` would make a second copy of each class, unequal to the first."""
    code = """
import pkgutil, importlib
import isoscale.common
from tests.conftest import files_under_two_names
for module in pkgutil.walk_packages(isoscale.common.__path__, "isoscale.common."):
    importlib.import_module(module.name)
from isoscale.common.commands import main
assert main.main(["compare", "--dry_run"]) == 0
print("BEFORE", files_under_two_names())
import common.config.errors
print("AFTER", list(files_under_two_names().values()))
"""
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "BEFORE {}\n" in answer.stdout, answer.stdout
    assert "['common.config.errors', 'isoscale.common.config.errors']" in answer.stdout


def test_programs_of_a_copy_import_the_code_of_the_copy(tmp_path: Path) -> None:
    code = copy_of_the_code(tmp_path)
    program = (
        "import sys; from isoscale.common.registry import lookup; lookup.presets(); "
        "print(*[m.__file__ for n, m in sys.modules.items() if n.startswith('isoscale.')])"
    )
    answer = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env=environment_of(code),
        capture_output=True,
        text=True,
        check=True,
    )
    files = answer.stdout.split()
    assert len(files) > 20
    assert all(file.startswith(f"{code}/") for file in files)


@pytest.mark.slow
def test_user_folders_named_like_ours_have_no_effect(run_program, tmp_path: Path) -> None:
    """A user may have files such as ``models/mlp.py`` in the working folder and on the path."""
    for name in ("models/mlp.py", "common/__init__.py", "frameworks/__init__.py", "numpy.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("raise RuntimeError('not ours')\n")
    (tmp_path / "isoscale").mkdir()
    (tmp_path / "numpy.py").rename(tmp_path / "isoscale/numpy.py")
    answer = run_program(
        "isoscale.common.commands.main", "compare", "--models=mlp_digits", "--frameworks=torch",
        "--strategies=bare,ddp", "--devices=2", "--allow_oversubscription", "--steps=5",
        "--study=s", "--noreport", "--runs=1", "--nobase_cases",
        PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_children_import_nothing_from_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "probe.py").write_text("print('from the working folder')")
    program = (
        "import os, sys, pathlib; from isoscale.common.processes import launch; "
        "process = launch.start(launch.module_command(sys.executable, 'probe'), "
        "environment=os.environ, "
        "log=pathlib.Path('log')); process.wait()"
    )
    subprocess.run([sys.executable, "-P", "-c", program], cwd=tmp_path, check=True)
    assert "No module named probe" in (tmp_path / "log").read_text()


def test_mypy_sees_errors_across_packages(tmp_path: Path) -> None:
    """mypy treats an import that it cannot follow as ``Any``, which hides every mistake."""
    code = copy_of_the_code(tmp_path)
    path = code / "frameworks/torch_runner/__init__.py"
    good = 'name="torch"'
    assert path.read_text().count(good) == 1

    def mypy() -> str:
        return subprocess.run(
            [
                *(sys.executable, "-m", "mypy", f"--config-file={ROOT / 'pyproject.toml'}"),
                *("--follow-imports=silent", f"--cache-dir={tmp_path / 'cache'}"),
                *("-m", "isoscale.frameworks.torch_runner"),
            ],
            cwd=tmp_path,
            env=environment_of(code, MYPYPATH=str(code.parent)),
            capture_output=True,
            text=True,
        ).stdout

    assert "Success" in mypy()
    path.write_text(path.read_text().replace(good, "name=1"))
    assert 'Argument "name" to "FrameworkInfo" has incompatible type "int"' in mypy()


@pytest.mark.slow
def test_the_wheel_contains_code_recipes_and_templates(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path)
    names = set(zipfile.ZipFile(wheel).namelist())
    files = {str(path.relative_to(ROOT)) for top in CODE for path in (ROOT / top).rglob("*.py")}
    files |= {f"runs/{path.name}" for path in (ROOT / "runs").glob("*.flags")}
    files |= {str(p.relative_to(ROOT)) for p in (ROOT / "common").rglob("templates/*")}
    assert {f"isoscale/{file}" for file in files} <= names
    assert not [name for name in names if "secret" in name or not name.startswith("isoscale")]
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]
