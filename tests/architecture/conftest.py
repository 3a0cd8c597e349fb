import pytest

from tests.conftest import copy_of_the_code


@pytest.fixture(scope="module")
def code_copy(tmp_path_factory: pytest.TempPathFactory):
    """A temporary copy of the code that a test may add files to."""
    return copy_of_the_code(tmp_path_factory.mktemp("copy"))
