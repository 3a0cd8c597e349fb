"""Kills at random moments with real frameworks: a hundred, in studies and in a training by hand."""

import json
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.common.processes.workers import wait_until
from tests.faults import kills
from tests.faults.disks import start

pytestmark = [pytest.mark.slow, pytest.mark.long]

GRIDS: dict[str, tuple[tuple[str, ...], float, int, int]] = {
    # Frameworks -> flags, seconds of the runs, series, kills in each.
    "torch": (("--strategies=bare,ddp", "--devices=1,2"), 20.0, 4, 12),
    "jax": (("--strategies=bare", "--devices=1"), 6.0, 1, 12),
    "tensorflow": (("--strategies=bare", "--devices=1"), 12.0, 1, 12),
}


def plan_of(framework: str) -> kills.Plan:
    flags, seconds, _, _ = GRIDS[framework]
    return kills.Plan(
        grid=(
            "--models=mlp_digits", f"--frameworks={framework}", *flags, "--runs=2", "--steps=30",
            "--allow_oversubscription",
        ),
        more=(),
        start_seconds=0.5,
        seconds=seconds,
    )  # fmt: skip


@pytest.mark.parametrize(
    "framework, seed", [(name, seed) for name in GRIDS for seed in range(GRIDS[name][2])]
)
def test_kills_of_real_runs_lose_double_and_repeat_nothing(
    framework: str, seed: int, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """The seeds make 72 kills or more."""
    plan = plan_of(framework)
    control = _controls.get(framework)
    if control is None:
        folder = tmp_path_factory.mktemp("control")
        control = _controls[framework] = kills.undisturbed(folder, lambda _: plan)
    count = GRIDS[framework][3]
    series = kills.Series(tmp_path, plan, control=control, seed=seed)
    assert series.strike(count).blows >= count


_controls: dict[str, Path] = {}

TRAINING = (
    "--model=mlp_digits", "--steps=600", "--warmup_steps=5", "--window_steps=20",
    "--latency_steps=0", "--save_checkpoint=saved", "--save_every=25", "--resume_from=latest",
    "--allow_oversubscription",
)  # fmt: skip
HAND_KILLS = 14


@pytest.mark.parametrize("strategy", ["bare", "ddp"])
def test_kills_of_a_training_that_saves_checkpoints_change_no_loss(
    strategy: str, tmp_path: Path
) -> None:
    """Two trainings, each killed 14 times; the last losses equal those of an unbroken training."""
    chance = random.Random(strategy)
    module = "isoscale.frameworks.torch_runner"
    flags = (*TRAINING, f"--strategy={strategy}", f"--devices={1 + (strategy == 'ddp')}")
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    unbroken.mkdir()
    broken.mkdir()
    with start(unbroken, module, *flags, "--run_dir=r") as program:
        began = time.monotonic()
        out, err = program.communicate(timeout=120)
        seconds = time.monotonic() - began
    assert program.returncode == 0, out + err
    blows, attempt, reached = 0, 0, 0
    while blows < HAND_KILLS:
        run_dir = f"r{attempt}"
        attempt += 1
        with start(broken, module, *flags, f"--run_dir={run_dir}") as program:
            found, hit = kills.struck(program, [chance.uniform(0.05, seconds)], chance)
        said = f"{strategy} {attempt} {hit}: {found}"
        kills.check_end(found, hit, said=said, is_run=True)
        assert wait_until(lambda: not kills.processes_in(broken), 10), said
        steps = [int(path.name[5:]) for path in (broken / "saved").glob("step_*")]
        assert max(steps, default=0) >= reached, said
        reached = max(steps, default=0)
        blows += len(hit)
        if (broken / run_dir / "result.json").exists() and found.code == 0:
            _check_equal(unbroken / "r", broken / run_dir)
            shutil.rmtree(broken / "saved")  # the next training starts anew
            reached = 0
    with start(broken, module, *flags, "--run_dir=last") as program:
        out, err = program.communicate(timeout=120)
    assert program.returncode == 0, out + err
    if (broken / "last/result.json").exists():
        _check_equal(unbroken / "r", broken / "last")
    assert not [path for path in (broken / "saved").iterdir() if path.name.startswith(".writing")]


def _check_equal(unbroken: Path, broken: Path) -> None:
    """Checks that a continued training has the losses and the evaluation of an unbroken one."""

    def read(folder: Path) -> tuple[dict[int, Any], dict[str, Any]]:
        lines = (folder / "steps.jsonl").read_text().splitlines()
        losses = {line["step"]: line["loss"] for line in map(json.loads, lines)}
        return losses, json.loads((folder / "result.json").read_text())

    (all_losses, whole), (losses, continued) = read(unbroken), read(broken)
    assert losses
    assert {step: all_losses[step] for step in losses} == losses
    assert max(losses) == max(all_losses)
    assert continued["losses_last"] == whole["losses_last"]
    assert continued["eval"] == whole["eval"]
