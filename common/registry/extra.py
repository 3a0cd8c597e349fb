"""A user's own models, data sets and strategies, in a folder outside the package.

``--extra=FOLDER``, or the variable ``ISOSCALE_EXTRA``, names the folder::

    FOLDER/models/<family>/spec.py, torch_model.py, flax_model.py, tf_model.py
    FOLDER/data/<name>.py
    FOLDER/strategies/<framework>/<name>.py

Every file follows the contract of its counterpart in the package. A family may have the models of
some frameworks only. isoscale imports a file of the folder only if the user names the folder, under
the package name ``isoscale_extra``: inside a family, ``from .spec import ...`` works.
"""

import ast
import functools
import hashlib
import importlib
import os
import re
import sys
import traceback
import types
from collections.abc import Collection, Sequence
from pathlib import Path

from isoscale.common.config.errors import ConfigError, in_one_line, shown
from isoscale.common.config.flags import Flags
from isoscale.common.config.read import MEBIBYTE, read_text

VARIABLE = "ISOSCALE_EXTRA"
FLAG = "extra"
PACKAGE = "isoscale_extra"
_PARTS = MODELS, DATA, STRATEGIES = "models", "data", "strategies"
SHARED_DIGESTS = MODEL_DIGEST, DATA_DIGEST = "extra model ", "extra data "
STRATEGY_DIGEST = "extra strategy "
"""How the names of the digests begin that a run records; the first two are of no framework."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)


def define_extra_flag(fv: Flags) -> None:
    """Defines ``--extra``; ``take`` reads it before all other flags, which depend on it."""
    fv.text(
        FLAG,
        None,
        "folder with own models/, data/, strategies/; its Python files are executed (default: the "
        f"variable {VARIABLE})",
    )


def take(argv: Sequence[str], *, create: bool = False) -> None:
    """Reads ``--extra`` from a command line; it holds for this process and its children.

    Args:
      argv: the command line.
      create: whether the folder may be missing or empty.

    Raises:
      ConfigError: the folder is missing, has no part that isoscale knows, or comes twice.
    """
    given = []
    for index, argument in enumerate(argv):
        name, separator, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == FLAG:
            given.append(value if separator else "".join(argv[index + 1 : index + 2]))
    if len(set(given)) > 1:
        raise ConfigError(f"--{FLAG} is given twice; it takes one folder")
    text, called = (given[0], f"--{FLAG}") if given else (os.environ.get(VARIABLE, ""), VARIABLE)
    if not text:
        if given:
            raise ConfigError(f"--{FLAG} needs a value: type --{FLAG}=FOLDER")
        return
    path = Path(os.path.abspath(os.path.expanduser(text)))
    if not create:
        if not path.is_dir():
            raise ConfigError(f"{called}={shown(text)} is not a folder")
        if not any((path / part).is_dir() for part in _PARTS):
            raise ConfigError(
                f"{called}={shown(text)} has none of the folders {', '.join(_PARTS)}; 'isoscale "
                f"new model NAME --{FLAG}=FOLDER' makes an example"
            )
    os.environ[VARIABLE] = str(path)


def folder() -> Path | None:
    """Returns the user's folder; None if the user has named none."""
    text = os.environ.get(VARIABLE)
    return Path(text) if text else None


def private_folder() -> dict[str, str]:
    """Returns path of the folder -> its name in records; {} without a folder."""
    found = folder()
    return {} if found is None else {str(found): "(extra)"}


def load(*parts: str, without: Collection[str] = ()) -> types.ModuleType:
    """Imports a file of the folder, for example ``load("models", "mine", "spec")``.

    Args:
      *parts: the folders, then the file without its ending.
      without: packages that the file may not import, also not through another file.

    Raises:
      ConfigError: the file cannot be imported, or imports such a package; the message names the
        file and the first error, or the package.
    """
    found = folder()
    assert found is not None, "callers first ask what the folder holds"
    if PACKAGE not in sys.modules:
        package = types.ModuleType(PACKAGE)
        package.__path__ = [str(found)]
        sys.modules[PACKAGE] = package
    path, known = path_of(*parts), set(without) & set(sys.modules)
    require_free(path, without)
    try:
        module = importlib.import_module(".".join((PACKAGE, *parts)))
    except Exception as error:  # whatever the user's file raises
        raise ConfigError(f"{path} cannot be imported: {_first(error)}") from error
    came = sorted((set(without) & set(sys.modules)) - known)
    if came:
        raise _not_free(path, came[0], "through another module")
    return module


def require_free(path: Path, packages: Collection[str]) -> None:
    """Checks the import statements of a file, at its top or inside a function.

    Raises:
      ConfigError: the file imports one of some packages, is missing, or is not Python.
    """
    for node in ast.walk(_tree(path)) if packages else ():
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        else:
            continue
        for name in names:
            if name.partition(".")[0] in packages:
                raise _not_free(path, name, f"line {node.lineno}")


def _not_free(path: Path, name: str, where: str) -> ConfigError:
    return ConfigError(
        f"{path} imports {name} ({where}); only a framework's own model file or strategy may "
        "import the framework: a run must load no other one"
    )


def _first(error: Exception) -> str:
    if isinstance(error, SyntaxError) and error.lineno:
        return f"line {error.lineno}: {in_one_line(error)}"
    if isinstance(error, NotImplementedError) and error.__traceback__:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        return f"the class of the sizes lacks the function {frame.f_code.co_name}()"
    return in_one_line(error)


def path_of(*parts: str) -> Path:
    """Returns the path of a file of the folder, from the words of ``load``."""
    return (folder() or Path()).joinpath(*parts).with_suffix(".py")


@functools.cache
def names(*parts: str) -> tuple[str, ...]:
    """Returns the names that a part of the folder holds: of families, data sets or strategies.

    Args:
      *parts: ``models``, ``data``, or ``strategies`` and a framework.

    Raises:
      ConfigError: a name cannot be the name of a Python module.
    """
    found = folder()
    if found is None:
        return ()
    top = found.joinpath(*parts)
    if parts == (MODELS,):
        listed = [path.name for path in top.glob("*") if path.is_dir() and path.name[0] not in "._"]
    else:
        listed = [path.stem for path in top.glob("*.py") if path.stem != "__init__"]
    for name in listed:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{top / name}: '{shown(name)}' must be letters, digits and underscores"
            )
    return tuple(sorted(listed))


def require_new(kind: str, own: Collection[str], *parts: str) -> None:
    """Raises ConfigError if the folder holds a name that isoscale has, too."""
    both = sorted(set(names(*parts)) & set(own))
    if both:
        raise ConfigError(
            f"{(folder() or Path()).joinpath(*parts, both[0])}: isoscale has a {kind} '{both[0]}'; "
            "choose another name"
        )


@functools.cache
def _tree(path: Path) -> ast.Module:
    try:
        return ast.parse(read_text(path, most=MEBIBYTE))
    except (ValueError, SyntaxError) as error:  # FolderError is a ValueError
        raise ConfigError(f"{path} cannot be read: {_first(error)}") from None


@functools.cache
def defined(path: Path) -> frozenset[str]:
    """Returns the names that a Python file defines at its top, without executing the file.

    Raises:
      ConfigError: the file is missing, or is not Python.
    """
    found: set[str] = set()
    for node in _tree(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {ast.unparse(target) for target in node.targets}
        elif isinstance(node, ast.AnnAssign):
            found.add(ast.unparse(node.target))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
    return frozenset(found)


def require_defined(path: Path, name: str, *, contract: str) -> None:
    """Raises ConfigError if a file lacks a function or a name of its contract."""
    if name not in defined(path):
        raise ConfigError(f"{path} lacks {name}: {contract}")


@functools.cache
def digest(*parts: str) -> str:
    """Returns the first 12 digits of the SHA-256 of a file, or of all Python files of a folder.

    Without a folder of the user, the result is empty.
    """
    found = folder()
    if found is None:
        return ""
    top = found.joinpath(*parts)
    paths = sorted(top.rglob("*.py")) if top.is_dir() else [top.with_suffix(".py")]
    content = hashlib.sha256()
    for path in paths:
        content.update(f"{path.relative_to(top.parent)}\0".encode())
        content.update(path.read_bytes())
    return content.hexdigest()[:12]
