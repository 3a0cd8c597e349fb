"""PyTorch. The facts that isoscale reads without importing a framework."""

from isoscale.common.config.framework_info import FrameworkInfo
from isoscale.common.config.run_config import RunConfig

INFO = FrameworkInfo(
    name="torch",
    packages=("torch",),
    install="pip install 'isoscale[torch]'",
    install_gpu="pip install 'isoscale[cuda-torch]'",
    default_strategy="ddp",
    compile_modes=("eager", "compile"),
    platforms=("cpu", "gpu"),
    model_module="torch_model",
    variable_families=(
        *("ATEN_", "C10_", "CAFFE2_", "KINETO_", "LRU_CACHE_CAPACITY", "PYTORCH_", "TORCH"),
        *("TP_SOCKET_IFNAME", "TRITON_"),
    ),
    kept_variables=("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"),
    # torchrun sets OMP_NUM_THREADS=1 in its ranks; a run replaces the value.
    launcher_variables=(
        "TORCHELASTIC_",
        "TORCH_NCCL_ASYNC_",
        "TP_SOCKET_IFNAME",
        "OMP_NUM_THREADS",
    ),
    variables=(
        "ATEN_CPU_CAPABILITY",
        "PYTORCH_ALLOC_CONF",
        "PYTORCH_CUDA_ALLOC_CONF",
        "TORCHINDUCTOR_FORCE_DISABLE_CACHES",
        "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
        "TORCH_COMPILE_DISABLE",
    ),
)


def environment(config: RunConfig) -> dict[str, str]:
    """Returns the environment variables to set before the import of PyTorch."""
    # Runs measure compile times without a cache.
    settings = {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    if config.platform == "cpu":
        threads = str(config.threads_per_device)
        settings |= {
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "CUDA_VISIBLE_DEVICES": "",
        }
    return settings
