"""Tests what a user reads about a framework that an interpreter lacks."""

import sys
from importlib import metadata
from pathlib import Path

import pytest

from isoscale.common.config.errors import ConfigError
from isoscale.common.registry import lookup
from isoscale.common.registry.interpreters import how_to_install, package_versions

LINES = {
    "jax": "jax is not installed in /p (no flax): /p -m pip install 'isoscale[jax]'",
    "tensorflow": (
        "tensorflow is not installed in /p (no flax): /p -m pip install 'isoscale[tensorflow]'"
    ),
    "torch": "torch is not installed in /p (no flax): /p -m pip install 'isoscale[torch]'",
}


@pytest.mark.parametrize("framework", lookup.frameworks())
def test_the_line_installs_one_framework(framework: str) -> None:
    said, install = how_to_install(framework, "/p", ["flax"], version=(3, 11))
    assert said == LINES[framework]
    assert said.endswith(install)


def test_an_interpreter_without_isoscale_gets_it_from_the_checkout() -> None:
    """pip would look for isoscale in an index."""
    _, both = how_to_install("jax", "/p", ["jax", "isoscale.common"], version=(3, 11))
    assert both == f"/p -m pip install '{lookup.ROOT}[jax]'"
    said, only = how_to_install("jax", "/p", ["isoscale.common"], version=(3, 11))
    assert (said, only) == (
        f"isoscale is not installed in /p: /p -m pip install {lookup.ROOT}",
        f"/p -m pip install {lookup.ROOT}",
    )


def test_tensorflow_has_no_packages_for_a_newer_python() -> None:
    """The command of other versions would succeed there and install nothing."""
    said, _ = how_to_install("tensorflow", "/p", ["tensorflow"], version=(3, 14))
    assert said == (
        "tensorflow has no packages for Python 3.14 (/p): add --python_tensorflow=PATH, a Python "
        "3.13 with isoscale[tensorflow]"
    )
    for framework in ("jax", "torch"):
        said, _ = how_to_install(framework, "/p", [framework], version=(3, 14))
        assert "pip install" in said


def test_a_version_is_read_from_another_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    from isoscale.common.registry import interpreters

    path = sys.executable
    monkeypatch.setattr(interpreters.sys, "executable", "/other")
    version, lacks = interpreters._missing_packages("torch", path)
    assert version == sys.version_info[:2]
    assert lacks == []


def test_versions_of_packages_are_read_without_importing_them(tmp_path: Path) -> None:
    assert package_versions("torch", sys.executable) == {"torch": metadata.version("torch")}
    assert set(package_versions("jax", sys.executable)) == {"jax", "flax", "optax"}
    trap = tmp_path / "python"
    trap.write_text("#!/bin/sh\nexit 1\n")
    trap.chmod(0o755)
    with pytest.raises(ConfigError, match=f"--python_torch={trap} is not a Python interpreter"):
        package_versions("torch", str(trap))
