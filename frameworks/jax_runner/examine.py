"""Facts that JAX reports about itself, for ``isoscale doctor``."""

import os
import re
from collections.abc import Callable
from typing import Any

# By default JAX reserves most of a GPU's memory when it starts; these facts need little memory.
os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"

import jax
import jax.numpy as jnp
import jaxlib

# Mark in XLA's compiled CPU program -> the library that multiplies matrices.
_LIBRARIES = {
    "__ynn_fusion": "YNNPACK",
    "__xnn_fusion": "XNNPACK",
    "__onednn": "oneDNN",
}


def _product() -> Any:
    return jax.jit(lambda a, b: jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST))


def _matrix_library() -> str:
    """Returns the library that the compiled program of a matrix product names.

    The program does not name an instruction set.
    """
    a = jnp.ones((256, 256), jnp.float32)
    text = _product().lower(a, a).compile().as_text() or ""
    named = [name for mark, name in _LIBRARIES.items() if mark in text]
    return f"{named[0]} in XLA" if named else "unknown"


def facts(*, platform: str, cuda_packages: list[str]) -> dict[str, Any]:
    """Returns the facts; ``common/program/examine.py`` defines arguments and keys."""
    plugins = [name for name in cuda_packages if re.match(r"jax-cuda\d+-plugin ", name)]
    precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    record: dict[str, Any] = {
        "versions": {"jax": jax.__version__, "jaxlib": jaxlib.__version__},
        "build": ", ".join(plugins) or "CPU only (no CUDA plugin is installed)",
        "cuda": plugins[0].split("-")[1].removeprefix("cuda") if plugins else None,
        "tf32_by_default": (
            f"jax_default_matmul_precision={precision}; isoscale sets 'highest' (no TF32)"
        ),
    }
    if platform == "gpu" and not plugins:  # JAX would fail without a message
        return {**record, "devices": []}
    try:
        devices = jax.devices()
    except RuntimeError as error:
        if platform == "cpu":
            raise
        return {**record, "devices": [], "gpu_error": str(error).splitlines()[0]}
    record["devices"] = [f"{device} ({device.device_kind})" for device in devices]
    if platform == "cpu":
        record["matrix_library"] = _matrix_library()
    return record


def matrix_product(size: int, *, platform: str) -> Callable[[], None]:
    """Returns a blocking function that multiplies two float32 matrices [size, size], no TF32."""
    keys = jax.random.split(jax.random.key(0))
    a, b = (jax.random.normal(key, (size, size), jnp.float32) for key in keys)
    compiled = _product().lower(a, b).compile()
    return lambda: compiled(a, b).block_until_ready()
