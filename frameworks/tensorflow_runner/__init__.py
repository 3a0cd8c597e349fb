"""TensorFlow. This file imports no framework: it is what others may know without one."""

from isoscale.common.config.framework_info import FrameworkInfo
from isoscale.common.config.run_config import RunConfig

INFO = FrameworkInfo(
    name="tensorflow",
    packages=("tensorflow",),
    install="pip install tensorflow",
    default_strategy="mirrored",
    compile_modes=("graph", "xla"),
    platforms=("cpu", "gpu"),
    model_module="tf_model",
    quick_compile=(
        "XLA_FLAGS",
        "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false",
    ),
)


def environment(config: RunConfig) -> dict[str, str]:
    """Returns what must be set before TensorFlow is imported."""
    settings = {"TF_CPP_MIN_LOG_LEVEL": "2"}
    if config.platform == "cpu":
        settings["CUDA_VISIBLE_DEVICES"] = "-1"
    return settings
