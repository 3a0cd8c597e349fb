from pathlib import Path

import pytest

from isoscale.common.config.errors import ConfigError
from isoscale.common.processes.lock import locked


def test_two_processes_cannot_share_a_folder(tmp_path: Path) -> None:
    with (
        locked(tmp_path, called="study 'a'"),
        pytest.raises(ConfigError, match="study 'a' is in use by another process"),
        locked(tmp_path, called="study 'a'"),
    ):
        pass
    with locked(tmp_path, called="study 'a'"):
        pass


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"cannot write to .*nothing: No such file"),
        locked(tmp_path / "nothing", called="x"),
    ):
        pass
