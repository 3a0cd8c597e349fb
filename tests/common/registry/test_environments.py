"""Tests which environment variables a run gets."""

import dataclasses

import pytest

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.run_config import RunConfig
from isoscale.common.registry import environments, lookup
from isoscale.common.registry.build_config import plain_config

# Every variable that the families of the issue name, and their brothers.
CHANGING = {
    "JAX_DISABLE_JIT": "1", "JAX_NUM_CPU_DEVICES": "4", "JAX_DEBUG_NANS": "1",
    "JAX_NOT_YET_INVENTED": "1", "XLA_FLAGS": "--xla_cpu_use_thunk_runtime=false",
    "TF_XLA_FLAGS": "--tf_xla_auto_jit=2", "TF_ENABLE_ONEDNN_OPTS": "0", "KERAS_BACKEND": "jax",
    "TORCHDYNAMO_DISABLE": "1", "TORCH_DISTRIBUTED_DEBUG": "DETAIL", "TORCHELASTIC_RUN_ID": "7",
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1", "PYTORCH_CUDA_ALLOC_CONF": "x", "ATEN_CPU_CAPABILITY":
    "default", "OMP_NUM_THREADS": "8", "OMP_PROC_BIND": "close", "GOMP_CPU_AFFINITY": "0-1",
    "KMP_AFFINITY": "compact", "MKL_NUM_THREADS": "8", "NCCL_ALGO": "Tree", "GLOO_SOCKET_IFNAME":
    "eth0", "CUDA_LAUNCH_BLOCKING": "1", "NVIDIA_TF32_OVERRIDE": "1", "DNNL_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_NUM_THREADS": "8", "MALLOC_ARENA_MAX": "1", "MALLOC_CONF": "narenas:1",
    "GLIBC_TUNABLES": "glibc.malloc.check=3", "LD_PRELOAD": "/usr/lib/libjemalloc.so",
    "PYTHONMALLOC": "debug", "PYTHONDEVMODE": "1", "PYTHONOPTIMIZE": "2",
}  # fmt: skip
NEEDED = {
    "PATH": "/bin", "HOME": "/home/x", "LANG": "C", "LD_LIBRARY_PATH": "/cuda/lib", "PYTHONPATH":
    "/x", "PYTHONUNBUFFERED": "1", "SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "1", "CUDA_HOME":
    "/cuda", "HIP_VISIBLE_DEVICES": "0", "TORCHINDUCTOR_CACHE_DIR": "/tmp/x",
}  # fmt: skip
RANK = {
    "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500",
}  # fmt: skip


def config(framework: str = "torch", **changes: object) -> RunConfig:
    found = plain_config(
        framework=framework,
        strategy="bare",
        model="mlp_digits",
        spec=lookup.preset("mlp_digits").spec,
        devices=1,
        global_batch_size=8,
        steps=1,
    )
    return dataclasses.replace(found, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("framework", lookup.frameworks())
def test_a_run_gets_no_variable_that_changes_what_is_measured(framework: str) -> None:
    shell = {**NEEDED, **CHANGING}
    assert environments.of_run(config(framework), shell) == NEEDED
    assert environments.of_worker(shell) == NEEDED
    assert environments.removed(shell) == sorted(CHANGING)


def test_variables_of_terraform_are_removed_without_a_word() -> None:
    foreign = {
        "TF_CLI_CONFIG_FILE": "/home/x/.terraformrc", "TF_CLI_ARGS_plan": "-parallelism=2",
        "TF_VAR_region": "eu", "TF_LOG": "DEBUG", "TF_LOG_PATH": "/tmp/x", "TF_DATA_DIR": "/tmp/x",
        "TF_TOKEN_app_terraform_io": "secret", "TF_WORKSPACE": "a", "TF_IN_AUTOMATION": "1",
    }  # fmt: skip
    of_tensorflow = {"TF_DATA_EXPERIMENT_OPT_IN": "x", "TF_CPP_MIN_LOG_LEVEL": "0"}
    assert environments.of_run(config(), {**NEEDED, **foreign}) == NEEDED
    assert environments.removed_line(config(), {**NEEDED, **foreign}) is None
    assert environments.removed({**foreign, **of_tensorflow}) == sorted(of_tensorflow)


def test_a_second_call_returns_the_same_environment() -> None:
    """A program compares its environment with this one, and restarts if they differ."""
    changed = config("jax", tweaks=("huge-pages",), env=("LD_PRELOAD=/x/a.so", "JAX_A=b=c"))
    first = environments.of_run(changed, {**NEEDED, **CHANGING})
    assert first["LD_PRELOAD"] == "/x/a.so"
    assert first["JAX_A"] == "b=c"
    assert first["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    assert environments.of_run(changed, first) == first


def test_only_a_rank_keeps_what_its_launcher_gave_it() -> None:
    shell = {**NEEDED, **CHANGING, **RANK}
    given = ("TORCHELASTIC_RUN_ID", "TORCH_NCCL_ASYNC_ERROR_HANDLING", "GLOO_SOCKET_IFNAME")
    # A run replaces the number of threads.
    kept = {name: CHANGING[name] for name in (*given, "NCCL_ALGO", "OMP_NUM_THREADS")}
    assert environments.of_run(config(), shell, rank=True) == {**NEEDED, **RANK, **kept}
    assert environments.of_run(config(), shell) == NEEDED
    assert environments.removed(shell) == sorted(CHANGING)  # nobody needs to hear of the rank


def test_on_gpus_the_variables_of_the_network_stay() -> None:
    shell = {**NEEDED, **CHANGING}
    kept = {name: CHANGING[name] for name in ("NCCL_ALGO", "GLOO_SOCKET_IFNAME")}
    assert environments.of_run(config(platform="gpu"), shell) == {**NEEDED, **kept}


@pytest.mark.parametrize(
    "framework, entry, part",
    [
        ("torch", "TF_X", "must be NAME=VALUE"),
        ("torch", "=1", "must be NAME=VALUE"),
        ("torch", "TF X=1", "must be NAME=VALUE"),
        ("torch", "PATH=/bin", "set it in the shell"),
        ("torch", "RANK=1", "isoscale sets RANK itself"),
        ("torch", "ISOSCALE_STORE=/x", "isoscale sets ISOSCALE_STORE itself"),
        ("torch", "OMP_NUM_THREADS=3", "a run of torch sets OMP_NUM_THREADS itself"),
        ("jax", "JAX_PLATFORMS=tpu", "a run of jax sets JAX_PLATFORMS itself"),
        ("jax", "GLIBC_TUNABLES=glibc.malloc.hugetlb=1", "--tweaks=+huge-pages"),
        (
            "torch",
            "LD_PRELOAD=/missing/a.so",
            "there is no file /missing/a.so; the run would go on",
        ),
        ("torch", "LD_PRELOAD=/bin/sh /missing/a.so", "there is no file /missing/a.so;"),
        ("torch", "LD_PRELOAD=/bin", "there is no file /bin;"),
        ("torch", "LD_AUDIT=/bin/sh:./a.so", "there is no file ./a.so;"),
        ("torch", "NCCL_TOPO_FILE=/missing/a b.xml", "there is no file /missing/a b.xml;"),
        ("torch", "TF_X=" + "a" * 1001, "at most 1000 printable"),
        ("torch", "TF_X=a\nb", "at most 1000 printable"),
    ],
)
def test_bad_entries_of_env_are_refused(framework: str, entry: str, part: str) -> None:
    with pytest.raises(ConfigError, match=part.replace("+", r"\+")):
        environments.check_handed(config(framework, env=(entry,)))


@pytest.mark.parametrize(
    "value", ["/bin/sh", "/bin/sh:/bin/ls", "/bin/sh /bin/ls", "libjemalloc.so.2", "$LIB/a/b.so"]
)
def test_files_that_exist_or_that_the_linker_looks_for_are_accepted(value: str) -> None:
    environments.check_handed(config(env=(f"LD_PRELOAD={value}",)))


def test_two_values_for_one_variable_are_refused() -> None:
    with pytest.raises(ConfigError, match="two values for TF_X"):
        environments.check_handed(config(env=("TF_X=1", "TF_X=2")))


def test_the_user_can_add_flags_of_xla_but_not_lose_ours() -> None:
    changed = config("jax", env=("XLA_FLAGS=--xla_a=1",))
    environments.check_handed(changed)
    flags = lookup.framework_environment("jax", changed)["XLA_FLAGS"].split()
    assert flags[0] == "--xla_a=1"
    assert "--xla_force_host_platform_device_count=1" in flags[1:]


def test_the_line_of_removed_variables_is_short_and_printable() -> None:
    shell = {f"JAX_{number:02}": "secret" for number in range(15)}
    shell["JAX_00\x1b[31m"] = "secret"
    line = environments.removed_line(config(env=("JAX_03=1",)), shell)
    assert line is not None
    assert line.isprintable()
    assert "JAX_02" in line
    assert "JAX_03," not in line
    assert " and 3 more (--env=NAME=VALUE" in line
    assert "secret" not in line
