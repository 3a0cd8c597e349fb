"""PyTorch. This file imports no framework: it is what others may know without one."""

from common.config.framework_info import FrameworkInfo
from common.config.run_config import RunConfig

INFO = FrameworkInfo(
    name="torch",
    packages=("torch",),
    install="pip install torch==2.13.0",
    default_strategy="ddp",
    compile_modes=("eager", "compile"),
    model_module="torch_model",
)


def environment(config: RunConfig) -> dict[str, str]:
    """Returns what must be set before PyTorch is imported."""
    threads = str(config.threads_per_device)
    settings = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    if config.platform == "cpu":
        settings["CUDA_VISIBLE_DEVICES"] = ""
    return settings
