"""Studies of a stub runner under kills at random moments: nothing is lost, doubled or repeated."""

from pathlib import Path

import pytest

from tests.faults import kills
from tests.faults.quick_program import interpreter

pytestmark = pytest.mark.slow


def plan(folder: Path) -> kills.Plan:
    """Returns a study of three cells with two runs each: one, two and three processes."""
    return kills.Plan(
        grid=(
            "--models=mlp_digits", "--frameworks=torch", "--strategies=bare,ddp", "--devices=1,2",
            "--runs=2", "--steps=20", "--allow_oversubscription",
        ),
        more=(interpreter(folder),),
        start_seconds=0.4,
        seconds=3.0,
        reports=0.1,
        report_seconds=1.5,
    )  # fmt: skip


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kills.undisturbed(tmp_path_factory.mktemp("control"), plan)


_FIRST = 15
_EACH = 25


@pytest.mark.parametrize(
    "seed, count",
    [
        (0, _FIRST),
        *(pytest.param(n, _EACH, marks=pytest.mark.long) for n in range(1, 41)),
    ],
)
def test_kills_at_random_moments_lose_double_and_repeat_nothing(
    seed: int, count: int, control: Path, tmp_path: Path
) -> None:
    """The seeds make 1,015 kills or more."""
    series = kills.Series(tmp_path, plan(tmp_path), control=control, seed=seed)
    found = series.strike(count)
    assert found.blows >= count
    print(found)
