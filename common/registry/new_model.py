"""Writes a small model family into the user's own folder, as a start for a model."""

import keyword
import re
from collections.abc import Sequence
from pathlib import Path
from string import Template

from isoscale.common.config.errors import ConfigError, shown
from isoscale.common.config.framework_info import FrameworkInfo
from isoscale.common.disk.json_files import write_atomically
from isoscale.common.disk.writing import writing
from isoscale.common.registry import places

_TEMPLATES = Path(__file__).with_name("templates")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}", re.ASCII)


def check_name(name: str) -> None:
    """Raises ConfigError unless a new family can have the name."""
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ConfigError(
            f"'{shown(name)}' cannot be the name of a model: use lower-case letters, digits and "
            "underscores, with a letter first, as in my_net"
        )
    if name in places.families():
        raise ConfigError(f"there is a model family '{name}'; choose another name")


def write_model(folder: Path, name: str, frameworks: Sequence[FrameworkInfo]) -> list[Path]:
    """Writes the files of a new family and its test; returns their paths.

    Args:
      folder: the user's folder; it may be missing.
      name: name of the family.
      frameworks: the frameworks that get an implementation.

    Raises:
      ConfigError: the name is not allowed, a file exists, or a framework has no template.
      FolderError: a file cannot be written.
    """
    check_name(name)
    family, test = folder / "models" / name, folder / "tests" / f"test_{name}.py"
    files = {family / "spec.py": "spec", test: "test_model"}
    for info in frameworks:
        template = _TEMPLATES / f"{info.model_module}.py.template"
        if not template.exists():
            raise ConfigError(f"isoscale has no example of a model in {info.name}")
        files[family / f"{info.model_module}.py"] = info.model_module
    present = [path for path in files if path.exists()]
    if present:
        raise ConfigError(f"{present[0]} exists; choose another name, or remove the file")
    kind = "".join(word.capitalize() for word in name.split("_"))
    values = {"name": name, "kind": kind, "test": str(test)}
    for path, template_name in files.items():
        text = (_TEMPLATES / f"{template_name}.py.template").read_text(encoding="utf-8")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, Template(text).substitute(values))
    return sorted(files)
