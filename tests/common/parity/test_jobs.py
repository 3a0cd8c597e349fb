"""Tests how jobs that train a case share processes."""

from pathlib import Path

from isoscale.common.config.run_config import STOCK
from isoscale.common.parity.jobs import JobFlags
from isoscale.common.parity.matrix import Matrix, cases_of, plan
from isoscale.common.processes.limits import Limits


def test_jobs_of_one_group_have_the_same_process_model(tmp_path: Path) -> None:
    flags = JobFlags(
        tuning=STOCK,
        tweaks=[],
        platform="cpu",
        env=[],
        quick_compile=True,
        folder=tmp_path,
        called="--out_dir",
        resume=False,
        limits=Limits(watchdog_seconds=60, compile_seconds=60),
    )
    matrix = Matrix(
        cases=cases_of(["mlp_plain"], ["float64"], pieces=False, presets=False),
        strategies=None,
        devices=[1],
        all_devices=True,
        steps=None,
        flags=flags,
    )
    jobs = plan(matrix, ["torch"])
    models = {(job.group, job.process_model) for job in jobs}
    assert {model for _, model in models} == {"single", "per_device"}
    assert len({group for group, _ in models}) == len(models)
