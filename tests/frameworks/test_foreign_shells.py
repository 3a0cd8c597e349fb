"""What a user's shell sets changes nothing: on clusters, and after a launcher, much is set."""

import json
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.registry import lookup

pytestmark = pytest.mark.slow

SHELL = {
    # Each binds the thread that loads libgomp to one core.
    "GOMP_CPU_AFFINITY": "0-1",
    "OMP_PROC_BIND": "close",
    "OMP_PLACES": "cores",
    # Each changes what is compiled, or how fast it is.
    "JAX_DISABLE_JIT": "1",
    "JAX_NUM_CPU_DEVICES": "7",
    "JAX_DEBUG_NANS": "1",
    "TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "XLA_FLAGS": "--xla_no_such_flag=1",  # a framework that reads it aborts
    "TORCHDYNAMO_DISABLE": "1",
    "MALLOC_ARENA_MAX": "1",
    # A crash, and a wait for a launcher that has ended.
    "TORCH_DISTRIBUTED_DEBUG": "NO_SUCH_LEVEL",
    "TORCHELASTIC_RUN_ID": "7",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "PYTHONMALLOC": "debug",
}
RUNS = [
    # scikit-learn loads libgomp before the framework.
    ("jax", ("--dataset=digits",)),
    ("tensorflow", ()),
    ("torch", ("--strategy=ddp", "--devices=2", "--allow_oversubscription")),
]


@pytest.mark.parametrize("framework, more", RUNS, ids=[name for name, _ in RUNS])
def test_a_foreign_shell_moves_no_thread_and_changes_no_program(
    framework: str, more: tuple[str, ...], run_program, tmp_path: Path
) -> None:
    answer = run_program(
        lookup.program(framework), "--model=mlp_digits", "--steps=5", "--run_dir=r", *more, **SHELL
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr

    def record(name: str) -> Any:
        return json.loads((tmp_path / "r" / name).read_text())

    assert not set(record("environment.json")) & (set(SHELL) - {"XLA_FLAGS"})
    assert "xla_no_such_flag" not in record("environment.json").get("XLA_FLAGS", "")
    for rank in record("machine.json")["ranks"]:
        cores = ",".join(map(str, rank["pinned_cores"]))
        assert list(rank["threads_by_cpus"]) == [cores]
    assert record("result.json")["environment"] == record("environment.json")
    (line,) = (text for text in answer.stderr.splitlines() if "do not get" in text)
    for name in sorted(SHELL)[:12]:
        assert name in line
    assert "and 3 more" in line


@pytest.mark.two_cores
def test_a_variable_that_the_user_hands_on_and_that_moves_threads_fails_the_run(
    run_program, tmp_path: Path
) -> None:
    """libgomp binds its threads when the first of them works: in this small model, in a step."""
    two = ("--model=mlp_digits", "--steps=5", "--threads_per_device=2")
    answer = run_program(lookup.program("torch"), *two, "--run_dir=r", "--env=OMP_PROC_BIND=close")
    assert answer.returncode == 1, answer.stdout + answer.stderr
    result = json.loads((tmp_path / "r/result.json").read_text())
    assert result["cell"]["env"] == ["OMP_PROC_BIND=close"]
    assert "threads left their cores: 1 on CPU 1 of" in result["error"]
    answer = run_program(lookup.program("torch"), *two, "--run_dir=s", OMP_PROC_BIND="close")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (rank,) = json.loads((tmp_path / "s/machine.json").read_text())["ranks"]
    assert len(rank["pinned_cores"]) == 2
    assert list(rank["threads_by_cpus"]) == [",".join(map(str, rank["pinned_cores"]))]


def test_what_the_start_up_of_python_sets_does_not_reach_a_framework(
    run_program, tmp_path: Path
) -> None:
    """Some installations set variables in ``sitecustomize``, in every process anew."""
    (tmp_path / "site").mkdir()
    path = tmp_path / "site/sitecustomize.py"
    run = (lookup.program("jax"), "--model=mlp_digits", "--steps=2")
    path.write_text("import os; os.environ['JAX_DISABLE_JIT'] = '1'")
    answer = run_program(*run, "--run_dir=r", PYTHONPATH=str(path.parent))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "JAX_DISABLE_JIT" not in json.loads((tmp_path / "r/environment.json").read_text())
    # Too late: the C library has read it.
    path.write_text("import os; os.environ['GLIBC_TUNABLES'] = 'glibc.malloc.check=1'")
    answer = run_program(*run, "--run_dir=s", PYTHONPATH=str(path.parent))
    assert answer.returncode == 2, answer.stdout + answer.stderr
    assert "sets GLIBC_TUNABLES (sitecustomize, ...)" in answer.stderr
