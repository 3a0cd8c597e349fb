"""Facts that TensorFlow reports about itself, for ``isoscale doctor``."""

import os
import re
from collections.abc import Callable
from typing import Any

# With this variable oneDNN prints its instruction set at its first use. It also prints a line for
# each product: the line costs microseconds, the product takes milliseconds.
os.environ["ONEDNN_VERBOSE"] = "1"

import tensorflow as tf

from isoscale.common.machine.native_output import printed_by

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
for _gpu in tf.config.list_physical_devices("GPU"):
    tf.config.experimental.set_memory_growth(_gpu, True)


def facts(*, platform: str, cuda_packages: list[str]) -> dict[str, Any]:
    """Returns the facts; ``common/program/examine.py`` defines arguments and keys."""
    physical = tf.config.list_physical_devices(platform.upper())
    details = [tf.config.experimental.get_device_details(device) for device in physical]
    build = tf.sysconfig.get_build_info()
    cuda = build.get("cuda_version") if build.get("is_cuda_build") else None
    cudnn = build.get("cudnn_version", "unknown")
    record: dict[str, Any] = {
        "versions": {"tensorflow": tf.__version__},
        "devices": [
            f"{device.name.removeprefix('/physical_device:')} "
            f"{detail.get('device_name', '')}".strip()
            for device, detail in zip(physical, details, strict=True)
        ],
        "build": f"CUDA {cuda}, cuDNN {cudnn}" if cuda else "CPU only",
        "cuda": cuda,
        "threads": tf.config.threading.get_intra_op_parallelism_threads(),
        "tf32_by_default": (
            f"{tf.config.experimental.tensor_float_32_execution_enabled()}; isoscale turns it off"
        ),
    }
    if platform == "cpu":
        said = printed_by(matrix_product(256, platform=platform))
        used = ",gemm_api," in said or ",matmul," in said
        isa = re.search(r"info,cpu,isa:(.+)", said)
        if used:
            record["matrix_library"] = "oneDNN"
        if isa:
            record["instruction_set"] = {"oneDNN": isa[1].strip()}
    return record


def matrix_product(size: int, *, platform: str) -> Callable[[], None]:
    """Returns a blocking function that multiplies two float32 matrices [size, size], no TF32."""
    tf.config.experimental.enable_tensor_float_32_execution(False)
    a, b = tf.random.normal((size, size)), tf.random.normal((size, size))
    multiply = tf.function(lambda a, b: tf.matmul(a, b))

    def product() -> None:
        multiply(a, b)
        if platform != "cpu":  # on a CPU the call returns after the product
            tf.test.experimental.sync_devices()

    return product
