"""Facts that PyTorch reports about itself, for ``isoscale doctor``."""

import ctypes
import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from isoscale.common.machine.native_output import printed_by


def _mkl_takes_for_intel() -> bool | str:
    """Returns whether MKL's own check treats this processor as an Intel one.

    Some users replace the function of that check by a preloaded library. The function of the
    process therefore comes before the one in PyTorch's library. ``unknown``: neither has it.
    """
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    for path in (None, str(library)):
        try:
            return bool(ctypes.CDLL(path).mkl_serv_intel_cpu_true())
        except (AttributeError, OSError):
            continue
    return "unknown"


def _onednn_says() -> str | None:
    a = torch.ones(64, 64).to_mkldnn()

    def compute() -> None:
        with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
            torch.relu(a)

    said = re.search(r"info,cpu,isa:(.+)", printed_by(compute))
    return said[1].strip() if said else None


def _compiler() -> dict[str, Any]:
    """Returns whether a C++ compiler and Python's headers exist: ``torch.compile`` needs both."""
    name = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    return {"name": name, "found": shutil.which(name), "python_headers": headers.exists()}


def facts(*, platform: str, cuda_packages: list[str]) -> dict[str, Any]:
    """Returns the facts; ``common/program/examine.py`` defines arguments and keys."""
    cuda = torch.version.cuda
    hip = getattr(torch.version, "hip", None)
    record: dict[str, Any] = {
        "versions": {"torch": torch.__version__},
        "build": f"CUDA {cuda}" if cuda else f"ROCm {hip}" if hip else "CPU only",
        "cuda": cuda,
        "compiler": _compiler(),
        "tf32_by_default": (
            f"float32_matmul_precision={torch.get_float32_matmul_precision()}, "
            f"cudnn.allow_tf32={torch.backends.cudnn.allow_tf32}; isoscale sets 'highest' and "
            "False (no TF32)"
        ),
    }
    if platform != "cpu":
        count = torch.cuda.device_count()
        return {
            **record,
            "devices": [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(count)],
        }
    mkl = torch.backends.mkl.is_available()
    onednn = _onednn_says() if torch.backends.mkldnn.is_available() else None
    blas = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
    return {
        **record,
        "devices": ["cpu"],
        "threads": torch.get_num_threads(),
        "matrix_library": "MKL" if mkl else blas[1] if blas else "unknown",
        "mkl_takes_for_intel": _mkl_takes_for_intel() if mkl else "unknown",
        "instruction_set": {
            "ATen": torch.backends.cpu.get_cpu_capability(),
            **({"oneDNN": onednn} if onednn else {}),
        },
    }


def matrix_product(size: int, *, platform: str) -> Callable[[], None]:
    """Returns a blocking function that multiplies two float32 matrices [size, size], no TF32."""
    torch.set_float32_matmul_precision("highest")  # no TF32
    device = "cpu" if platform == "cpu" else "cuda"
    a, b = torch.randn(size, size, device=device), torch.randn(size, size, device=device)

    def product() -> None:
        torch.mm(a, b)
        if platform != "cpu":
            torch.cuda.synchronize()

    return product
