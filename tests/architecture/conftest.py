import hashlib
from pathlib import Path

import pytest

from tests.conftest import copy_of_the_code


@pytest.fixture(scope="module")
def code_copy(tmp_path_factory: pytest.TempPathFactory):
    """A temporary copy of the code that a test may add files to."""
    return copy_of_the_code(tmp_path_factory.mktemp("copy"))


def hashes(folder: Path) -> dict[str, str]:
    """Returns the path of each Python file in a folder -> its SHA-256 digest."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.py"))
    }
