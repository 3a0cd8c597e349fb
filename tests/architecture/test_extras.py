"""Each extra installs one framework, with one CUDA stack; isoscale itself needs none of them."""

import dataclasses
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from isoscale.common.registry import lookup
from tests.conftest import ROOT, build_wheel

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OF = {"jax": "jax", "jaxlib": "jax", "flax": "jax", "optax": "jax", "torch": "torch",
      "tensorflow": "tensorflow", "keras": "tensorflow"}  # fmt: skip
"""Package -> its framework."""
ONE = {"jax", "tensorflow", "torch", "cuda-jax", "cuda-tensorflow", "cuda-torch"}
NONE = {"", "dev", "digits"}


@dataclasses.dataclass
class Declared:
    """The requirements of isoscale as a package states them."""

    texts: list[str]
    extras: set[str]

    def of(self, extra: str, *, python: str = "3.12") -> set[tuple[str, str]]:
        """Returns (package, its extra) that an extra of isoscale requires; "" is no extra."""
        found: set[tuple[str, str]] = set()
        environment = {"python_version": python, "sys_platform": "linux"}
        for requirement in map(Requirement, self.texts):
            marker = requirement.marker
            always = marker is None or marker.evaluate({**environment, "extra": ""})
            here = marker is None or marker.evaluate({**environment, "extra": extra})
            if not here or (always and extra):
                continue
            if canonicalize_name(requirement.name) == "isoscale":
                for other in requirement.extras:
                    found |= self.of(other, python=python)
            else:
                parts = requirement.extras or {""}
                found |= {(canonicalize_name(requirement.name), part) for part in parts}
        return found


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> Declared:
    """The requirements in the metadata of a wheel that is built now."""
    wheel = build_wheel(tmp_path_factory.mktemp("wheel"))
    (distribution,) = metadata.distributions(path=[str(wheel)])
    extras = set(distribution.metadata.get_all("Provides-Extra") or [])
    return Declared(list(distribution.requires or []), extras)


def frameworks(packages: Iterable[tuple[str, str]]) -> set[str]:
    return {OF[name] for name, _ in packages if name in OF}


@pytest.mark.slow
def test_the_metadata_of_a_wheel_has_one_framework_for_each_extra(declared: Declared) -> None:
    assert declared.extras == ONE | NONE - {""} | {"all"}
    for extra in ONE:
        assert frameworks(declared.of(extra)) == {extra.removeprefix("cuda-")}, extra
    for extra in NONE:
        assert frameworks(declared.of(extra)) == set(), extra
    assert frameworks(declared.of("all")) == set(lookup.frameworks())
    with_images = {extra for extra in declared.extras | {""} if ("scikit-learn", "") in
                   declared.of(extra)}  # fmt: skip
    assert with_images == {"digits"}
    for name in lookup.frameworks():
        packages = {package for package, _ in declared.of(name)}
        assert packages >= set(lookup.framework_info(name).packages)


@pytest.mark.slow
def test_one_cuda_stack_for_each_extra(declared: Declared) -> None:
    """The CUDA version of an extra is part of its name, not a default that may change.

    The wheel of PyTorch on PyPI has its own CUDA, and no extra for it.
    """
    assert ("jax", "cuda12") in declared.of("cuda-jax")
    assert declared.of("cuda-tensorflow") == {("tensorflow", "and-cuda")}
    assert declared.of("cuda-torch") == {("torch", "")}


@pytest.mark.slow
def test_python_3_14_gets_every_framework_but_tensorflow(declared: Declared) -> None:
    assert frameworks(declared.of("all", python="3.13")) == {"jax", "tensorflow", "torch"}
    assert frameworks(declared.of("all", python="3.14")) == {"jax", "torch"}
    assert lookup.framework_info("tensorflow").newest_python == (3, 13)
    assert PROJECT["requires-python"] == ">=3.11,<3.15"


def closure(extra: str) -> set[str]:
    """Returns the installed packages that isoscale with an extra needs, directly or not."""
    seen: set[tuple[str, str]] = set()
    waiting = [("isoscale", ""), ("isoscale", extra)]
    while waiting:
        name, part = waiting.pop()
        if (name, part) in seen:
            continue
        seen.add((name, part))
        try:
            texts = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # a CUDA package, for example
        for requirement in map(Requirement, texts):
            if requirement.marker is None or requirement.marker.evaluate({"extra": part}):
                found = canonicalize_name(requirement.name)
                waiting += [(found, other) for other in ("", *requirement.extras)]
    return {name for name, _ in seen}


def test_no_package_that_an_extra_needs_needs_another_framework() -> None:
    """Follows the requirements of the installed packages: flax could need TensorFlow one day."""
    assert len(closure("all")) > 60
    for extra in sorted(ONE):
        found = {OF[name] for name in closure(extra) if name in OF}
        assert found == {extra.removeprefix("cuda-")}, extra
    for extra in NONE:
        assert not closure(extra) & set(OF), extra
        assert ("scikit-learn" in closure(extra)) == (extra == "digits")


def pip(*arguments: str) -> subprocess.CompletedProcess:
    """Asks pip what it would install, with the pinned versions; installs nothing."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"),
            *("--quiet", f"--constraint={ROOT / 'constraints.txt'}", *arguments),
        ],
        capture_output=True,
        text=True,
    )


@pytest.mark.network
@pytest.mark.parametrize("extra", sorted(set(OF.values())))
def test_pip_resolves_each_extra_to_one_framework(extra: str) -> None:
    answer = pip("--report=-", "--no-build-isolation", f"{ROOT}[{extra}]")
    assert answer.returncode == 0, answer.stderr
    entries = json.loads(answer.stdout)["install"]
    names = {canonicalize_name(entry["metadata"]["name"]) for entry in entries}
    assert len(names) > 20
    assert {OF[name] for name in names if name in OF} == {extra}
    assert "scikit-learn" not in names


@pytest.mark.network
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("extra", sorted(set(OF.values())))
def test_each_python_has_wheels_of_a_framework(extra: str, python: str, tmp_path: Path) -> None:
    """If TensorFlow has some for 3.14: remove the limit from pyproject.toml and from its facts."""
    tags = ("2014", "_2_17", "_2_27", "_2_28")
    answer = pip(
        *("--no-deps", "--only-binary=:all:", f"--target={tmp_path}", f"--python-version={python}"),
        *(f"--platform=manylinux{tag}_x86_64" for tag in tags),
        *lookup.framework_info(extra).packages,
    )
    none = (extra, python) == ("tensorflow", "3.14")
    assert (answer.returncode != 0) == none, answer.stderr
    if none:
        assert "No matching" in answer.stderr or "ResolutionImpossible" in answer.stderr
