"""Records the commit in wheels and source distributions; pyproject.toml has all the rest."""

import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
OURS = runpy.run_path(str(ROOT / "common" / "machine" / "own_version.py"))


def write_commit(common: Path) -> None:
    """Writes the commit of this code into a copy of ``common``."""
    common.mkdir(parents=True, exist_ok=True)
    (common / OURS["COMMIT_FILE"]).write_text(f"{OURS['commit_of'](ROOT)}\n", encoding="utf-8")


class BuildWithCommit(build_py):
    """Copies the code, then writes the commit beside it."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # an editable install asks git each time
            write_commit(Path(self.build_lib, "isoscale", "common"))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        written = Path(self.build_lib, "isoscale", "common", OURS["COMMIT_FILE"])
        return [*super().get_outputs(include_bytecode), str(written)]


class SourceWithCommit(sdist):
    """Copies the sources, then writes the commit beside them: a copy has no git history."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        write_commit(Path(base_dir, "common"))


setup(cmdclass={"build_py": BuildWithCommit, "sdist": SourceWithCommit})
