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
        slow={"QUICK_STEP_SECONDS": "3"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kills.undisturbed(tmp_path_factory.mktemp("control"), plan)


EACH = 25


def check(seed: int, kills_: int, control: Path, folder: Path) -> None:
    series = kills.Series(folder, plan(folder), control=control, seed=seed)
    assert series.strike(kills_).blows >= kills_


@pytest.mark.parametrize(
    "seed, kills_",
    [(0, 15), *(pytest.param(seed, EACH, marks=pytest.mark.long) for seed in range(1, 21))],
)
def test_kills_at_random_moments_lose_double_and_repeat_nothing(
    seed: int, kills_: int, control: Path, tmp_path: Path
) -> None:
    """With the seeds of ``test_more_kills.py``: 1,015 kills or more."""
    check(seed, kills_, control, tmp_path)
