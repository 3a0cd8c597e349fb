"""Tests of the rank of a process, and of the variables that isoscale sets for ranks."""

import stat
from pathlib import Path

import pytest

from isoscale.common.config.errors import ConfigError
from isoscale.common.processes import ranks
from isoscale.common.processes.ranks import Rank

GIVEN = {
    "RANK": "2", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "host",
    "MASTER_PORT": "1234",
}  # fmt: skip


def test_ranks_get_the_variables_that_torchrun_sets_and_a_file_instead_of_a_server(
    tmp_path: Path,
) -> None:
    with ranks.environments(3, folder=tmp_path) as found:
        assert [e["RANK"] for e in found] == ["0", "1", "2"]
        assert {e["WORLD_SIZE"] for e in found} == {"3"}
        assert len({e["ISOSCALE_STORE"] for e in found}) == 1
        assert set(ranks.VARIABLES) - set(found[0]) == {"MASTER_ADDR", "MASTER_PORT"}
        assert {e["GLOO_SOCKET_IFNAME"] for e in found} == {"lo"}
        folder = Path(found[0]["ISOSCALE_STORE"]).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder.parent == tmp_path
    assert not list(tmp_path.iterdir())


def test_a_rank_started_by_isoscale_reads_its_rank_and_local_rank(tmp_path: Path) -> None:
    with ranks.environments(3, folder=tmp_path) as variables:
        found = [ranks.read(devices=3, variables=e) for e in variables]
    assert found == [Rank(rank=i, local_rank=i, local_world_size=3) for i in range(3)]


def test_a_meeting_file_that_other_users_can_reach_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("ISOSCALE_STORE", raising=False)
    assert ranks.store() is None
    with ranks.environments(2, folder=tmp_path) as (variables, _):
        path = Path(variables["ISOSCALE_STORE"])
        monkeypatch.setenv("ISOSCALE_STORE", str(path))
        assert ranks.store() == path
        path.parent.chmod(0o755)
        with pytest.raises(PermissionError, match="other users may enter"):
            ranks.store()


def test_a_process_without_the_variable_rank_is_no_rank() -> None:
    assert ranks.read(devices=4, variables={}) is None
    assert ranks.read(devices=4, variables={"LOCAL_RANK": "1"}) is None


def test_the_local_rank_defaults_to_the_rank() -> None:
    found = ranks.read(devices=4, variables=GIVEN)
    assert found == Rank(rank=2, local_rank=2, local_world_size=4)
    on_second = {**GIVEN, "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    found = ranks.read(devices=4, variables=on_second)
    assert found == Rank(rank=2, local_rank=0, local_world_size=2)


def test_own_reads_the_environment(monkeypatch) -> None:
    for name in ranks.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert ranks.own() == Rank(rank=0, local_rank=0)
    monkeypatch.setenv("RANK", "3")
    assert ranks.own() == Rank(rank=3, local_rank=3)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert ranks.own() == Rank(rank=3, local_rank=1)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"RANK": "x"}, "RANK is set, but RANK='x' is not a whole number"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE='' is not a whole number"),
        ({"MASTER_PORT": "-1"}, "MASTER_PORT='-1' is not a whole number"),
        ({"MASTER_ADDR": ""}, "MASTER_ADDR is not"),
        ({"LOCAL_RANK": "first"}, "LOCAL_RANK='first' is not a whole number"),
        ({"WORLD_SIZE": "3"}, "RANK=2 of WORLD_SIZE=3 does not fit devices=4"),
        ({"RANK": "4"}, "RANK=4 of WORLD_SIZE=4 does not fit devices=4"),
        ({"LOCAL_WORLD_SIZE": ""}, "LOCAL_WORLD_SIZE is not: set it to the number of ranks"),
        ({"LOCAL_WORLD_SIZE": "two"}, "LOCAL_WORLD_SIZE='two' is not a whole number"),
        ({"LOCAL_WORLD_SIZE": "0"}, "LOCAL_WORLD_SIZE=0 must be a whole number, 1 to WORLD_SIZE=4"),
        ({"LOCAL_WORLD_SIZE": "8"}, "LOCAL_WORLD_SIZE=8 must be a whole number, 1 to WORLD_SIZE=4"),
        ({"LOCAL_WORLD_SIZE": "2"}, "LOCAL_RANK=2 must be below LOCAL_WORLD_SIZE=2"),
        ({"LOCAL_RANK": "1"}, "LOCAL_RANK=1 does not fit RANK=2 with LOCAL_WORLD_SIZE=4"),
        (
            {"RANK": "0", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"},
            "LOCAL_RANK=1 does not fit RANK=0 with LOCAL_WORLD_SIZE=2",
        ),
    ],
)
def test_invalid_rank_variables_are_refused(change: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ranks.read(devices=4, variables=GIVEN | change)
