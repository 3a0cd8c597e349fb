"""TensorFlow. The facts that isoscale reads without importing a framework."""

from isoscale.common.config.framework_info import FrameworkInfo
from isoscale.common.config.run_config import RunConfig

INFO = FrameworkInfo(
    name="tensorflow",
    packages=("tensorflow",),
    install="pip install 'isoscale[tensorflow]'",
    install_gpu="pip install 'isoscale[cuda-tensorflow]'",
    newest_python=(3, 13),
    default_strategy="mirrored",
    compile_modes=("graph", "xla"),
    platforms=("cpu", "gpu"),
    model_module="tf_model",
    compile_cost=2,
    quick_compile=(
        "XLA_FLAGS",
        "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false",
    ),
    variable_families=("AUTOGRAPH_", "KERAS_", "TENSORFLOW_", "TF_", "XLA_"),
    # Terraform's.
    foreign_variables=(
        *("TF_CLI_ARGS", "TF_CLI_CONFIG_FILE", "TF_DATA_DIR", "TF_IN_AUTOMATION", "TF_LOG"),
        *("TF_PLUGIN_CACHE_", "TF_REGISTRY_", "TF_TOKEN_", "TF_VAR_", "TF_WORKSPACE"),
    ),
    variables=(
        "KERAS_BACKEND",
        "TF_CPP_MIN_LOG_LEVEL",
        "TF_DETERMINISTIC_OPS",
        "TF_ENABLE_ONEDNN_OPTS",
        "TF_FORCE_GPU_ALLOW_GROWTH",
        "TF_GPU_ALLOCATOR",
        "TF_GPU_THREAD_MODE",
        "TF_NUM_INTEROP_THREADS",
        "TF_NUM_INTRAOP_THREADS",
        "TF_USE_LEGACY_KERAS",
        "TF_XLA_FLAGS",
        "XLA_FLAGS",
    ),
)


def environment(config: RunConfig) -> dict[str, str]:
    """Returns the environment variables to set before the import of TensorFlow."""
    settings = {"TF_CPP_MIN_LOG_LEVEL": "2"}
    if config.platform == "cpu":
        settings["CUDA_VISIBLE_DEVICES"] = "-1"
    if config.platform == "gpu" and config.min_seconds:
        # Runs that take turns share a GPU; TensorFlow would reserve all of its memory.
        settings["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    return settings
