"""Tests how jobs that train a case share processes."""

import sys
from pathlib import Path

import pytest

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.run_config import STOCK
from isoscale.common.disk.json_files import write_json
from isoscale.common.parity import jobs as parity_jobs
from isoscale.common.parity.documents import ParityLine
from isoscale.common.parity.jobs import JobFlags, make_pool
from isoscale.common.parity.matrix import Matrix, cases_of, plan
from isoscale.common.parity.probe import ParityJob
from isoscale.common.processes.job_pool import JobPool
from isoscale.common.processes.limits import Limits
from isoscale.common.registry import extra


def planned(
    folder: Path, *, platform: str = "cpu", dtype: str = "float64"
) -> tuple[list[ParityJob], JobFlags]:
    flags = JobFlags(
        tuning=STOCK,
        tweaks=[],
        platform=platform,
        env=[],
        quick_compile=True,
        folder=folder,
        called="--out_dir",
        resume=False,
        limits=Limits(watchdog_seconds=60, compile_seconds=60),
    )
    matrix = Matrix(
        cases=cases_of(["mlp_plain"], [dtype], pieces=False, presets=False),
        strategies=None,
        devices=[1],
        all_devices=True,
        steps=None,
        flags=flags,
    )
    return plan(matrix, ["torch"]), flags


def test_jobs_of_one_group_have_the_same_process_model(tmp_path: Path) -> None:
    jobs, _ = planned(tmp_path)
    models = {(job.group, job.process_model) for job in jobs}
    assert {model for _, model in models} == {"single", "per_device"}
    assert len({group for group, _ in models}) == len(models)


@pytest.mark.parametrize(
    "where, name, value, said",
    [
        (parity_jobs, "package_versions", {"torch": "0.1"}, "torch"),
        (extra, "digest", "0123456789ab", "--extra"),
    ],
)
def test_results_of_other_packages_and_other_own_files_are_not_kept(
    where: object, name: str, value: object, said: str, tmp_path: Path, monkeypatch
) -> None:
    """parity and relay would otherwise call results of other code within bounds."""
    jobs, flags = planned(tmp_path)

    def pool() -> JobPool[ParityLine]:
        return make_pool(jobs, ParityLine, flags=flags, pythons={"torch": sys.executable})

    flags.work.mkdir()
    write_json(flags.work / "request.json", pool()._request())
    pool().check_resumable(called="it")
    monkeypatch.setattr(where, name, lambda *words: value)
    with pytest.raises(ConfigError, match=f"changed since it was interrupted .{said}.; start"):
        pool().check_resumable(called="it")


def test_on_gpus_no_job_uses_tf32(tmp_path: Path) -> None:
    """Its products have 10 bits after the binary point: the bounds of float32 need more."""
    jobs, _ = planned(tmp_path, platform="gpu", dtype="float32")
    configs = [job.config(job.of_case()) for job in jobs]
    assert {(c.platform, c.dtype, c.tf32) for c in configs} == {("gpu", "float32", False)}
