"""NumPy. This file imports no framework: the registry reads it in every command."""

from isoscale.common.config.framework_info import FrameworkInfo
from isoscale.common.config.run_config import RunConfig

INFO = FrameworkInfo(
    name="numpy",
    packages=("numpy",),
    install="pip install numpy",
    default_strategy="bare",
    compile_modes=("eager",),
    platforms=("cpu",),
    model_module="numpy_model",
    variable_families=("NPY_",),
    variables=("NPY_DISABLE_CPU_FEATURES",),
)


def environment(config: RunConfig) -> dict[str, str]:
    """Returns the variables to set before the framework is imported."""
    return {"OPENBLAS_NUM_THREADS": str(config.threads_per_device)}
