"""JAX/Flax + optax. The facts that isoscale reads without importing a framework."""

import os

from isoscale.common.config.framework_info import FrameworkInfo
from isoscale.common.config.run_config import RunConfig, handed_on
from isoscale.common.processes import ranks

INFO = FrameworkInfo(
    name="jax",
    packages=("jax", "flax", "optax"),
    install="pip install 'isoscale[jax]'",
    install_gpu="pip install 'isoscale[cuda-jax]'",
    default_strategy="pjit",
    compile_modes=("jit",),
    platforms=("cpu", "gpu", "tpu"),
    model_module="flax_model",
    compile_cost=1,
    quick_compile=(
        "XLA_FLAGS",
        "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false",
    ),
    variable_families=("FLAX_", "JAX_", "LIBTPU_", "NPROC", "OPTAX_", "PJRT_", "XLA_"),
    joined_variables=("XLA_FLAGS",),
    variables=(
        "JAX_COMPILATION_CACHE_DIR",
        "JAX_DEFAULT_MATMUL_PRECISION",
        "JAX_ENABLE_COMPILATION_CACHE",
        "JAX_ENABLE_X64",
        "JAX_PLATFORMS",
        "JAX_TRACEBACK_FILTERING",
        "LIBTPU_INIT_ARGS",
        "NPROC",
        "XLA_FLAGS",
        "XLA_PYTHON_CLIENT_ALLOCATOR",
        "XLA_PYTHON_CLIENT_MEM_FRACTION",
        "XLA_PYTHON_CLIENT_PREALLOCATE",
    ),
    cuda_packages=("jax-cuda",),
)

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def _visible_gpus(config: RunConfig, count: int) -> dict[str, str]:
    """Returns the variable that shows a process its own GPUs: JAX reserves memory on all it sees.

    A value of the user's shell stays as it is, unless each rank must have a part of it.
    """
    per_device = config.process_model == "per_device"
    given = os.environ.get(_VISIBLE)
    if given is not None and not per_device:
        return {}
    first = ranks.own().local_rank if per_device else 0
    seen = list(map(str, range(first + count))) if given is None else given.split(",")
    own = seen[first : first + count]
    return {_VISIBLE: ",".join(own)} if len(own) == count else {}


def environment(config: RunConfig) -> dict[str, str]:
    """Returns the environment variables to set before the import of JAX."""
    count = config.devices // config.processes  # devices of this process
    settings = {
        "JAX_PLATFORMS": {"gpu": "cuda"}.get(config.platform, config.platform),
        "JAX_ENABLE_COMPILATION_CACHE": "false",  # runs measure compile times without a cache
    }
    if config.platform == "gpu":
        settings |= _visible_gpus(config, count)
    if config.platform == "gpu" and config.min_seconds:
        # Runs that take turns share a GPU; JAX would reserve most of its memory.
        settings["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    if config.platform == "cpu":
        # The flags of --env come first: of a repeated flag, the last value counts.
        handed = handed_on(config.env).get("XLA_FLAGS")
        settings["XLA_FLAGS"] = " ".join(
            [
                *([handed] if handed else []),
                f"--xla_force_host_platform_device_count={count}",
                # With the default scheduler, collectives of several CPU devices on few cores can
                # deadlock (pmap, 4 devices on 2 cores).
                "--xla_cpu_enable_concurrency_optimized_scheduler=false",
            ]
        )
    return settings
