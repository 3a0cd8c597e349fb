"""The tweaks of PyTorch; see ``common/tuning/tweaks.py``."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.run_config import RunConfig
from isoscale.common.disk.folders import check_folder
from isoscale.common.machine.describe import UNKNOWN
from isoscale.common.tuning.shared import (
    cache_folder,
    cpu_vendor,
    huge_pages,
    keep_memory,
)
from isoscale.common.tuning.tweaks import Tweak

_NAME = "isoscale-mkl-as-intel-"
_PRELOADED = "int mkl_serv_intel_cpu_true(void) { return 1; }\n"


def _on_other_cpu(config: RunConfig) -> bool:
    """Returns whether the CPU is an x86 CPU of another vendor than Intel.

    On these CPUs, MKL may choose slower kernels than the CPU supports.
    """
    x86 = platform.machine() in ("x86_64", "AMD64")
    return config.platform == "cpu" and x86 and cpu_vendor() not in (UNKNOWN, "GenuineIntel")


def _compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def _preload_missing() -> str | None:
    if sys.platform != "linux":
        return "LD_PRELOAD needs Linux"
    if not _compiler():
        return "needs a C compiler (cc, gcc or clang)"
    try:
        folder = str(cache_folder())
    except RuntimeError as error:
        return f"needs a folder to build in: {error}"
    # The dynamic linker reads both characters as the end of a name.
    bad = {" ", ":"} & set(folder)
    if bad:
        return f"{folder!r} contains {min(bad)!r}; set XDG_CACHE_HOME"
    try:
        if not _library().exists():
            check_folder(folder, flag="XDG_CACHE_HOME")
    except (OSError, ConfigError):  # a read-only home
        return f"needs a folder to build in: {folder!r} cannot be written; set XDG_CACHE_HOME"
    return None


def _library() -> Path:
    digest = hashlib.sha256((_PRELOADED + platform.machine()).encode()).hexdigest()[:12]
    return cache_folder() / f"{_NAME}{digest}.so"


def _preload() -> dict[str, str]:
    """Returns LD_PRELOAD with the path of the library; builds it once per machine and user.

    Raises:
      ConfigError: the library cannot be built.
    """
    library = _library()
    if not library.exists():
        partial = library.with_suffix(f".{os.getpid()}")
        try:
            library.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(
                [_compiler() or "cc", "-shared", "-fPIC", "-O2", "-x", "c", "-o", partial, "-"],
                input=_PRELOADED.encode(),
                check=True,
                capture_output=True,
                timeout=60,
            )
            partial.replace(library)
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None) or str(error).encode()
            line = (said.decode(errors="replace").strip() or "no message").splitlines()[0]
            raise ConfigError(f"tweak 'mkl-as-intel': {library} cannot be built: {line}") from None
    return {"LD_PRELOAD": str(library)}


def _preloaded() -> bool:
    return _NAME in Path("/proc/self/maps").read_text()


TWEAKS = (
    huge_pages(
        why="PyTorch keeps most of its memory; measurements on the CPU showed no difference",
        pays=lambda config: False,
    ),
    keep_memory(
        why="measurements on the CPU showed no difference, as with huge-pages",
        pays=lambda config: False,
    ),
    Tweak(
        name="mkl-as-intel",
        what="preloads a one-line library with an mkl_serv_intel_cpu_true() that returns 1",
        why=(
            "MKL uses its best kernels on Intel processors only; on Zen 4, products of matrices of "
            "1024 x 128 and larger were 10 to 20 % faster"
        ),
        where="x86 processors of other vendors than Intel, under Linux",
        needs="a C compiler; Intel does not support this tweak",
        source="https://danieldk.eu/Intel-MKL-on-AMD-Zen",
        applies=_on_other_cpu,
        pays=lambda config: True,
        missing=_preload_missing,
        variables={"LD_PRELOAD": (_NAME,)},
        environment=_preload,
        in_effect=_preloaded,
        unsupported=True,
    ),
    Tweak(
        name="compile",
        what="compile_mode=compile: torch.compile compiles the model",
        why="fuses element-wise operations; 20 to 35 s to compile; no gain was measured on the CPU",
        where="everywhere",
        needs="a C++ compiler",
        source="https://docs.pytorch.org/docs/stable/generated/torch.compile.html",
        applies=lambda config: True,
        pays=lambda config: config.platform == "gpu",
        missing=lambda: (
            None
            if shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
            else "needs a C++ compiler (c++, g++ or clang++)"
        ),
        changes={"compile_mode": "compile"},
    ),
    Tweak(
        name="onednn-linear",
        what="computes dense layers and their input gradients with oneDNN's linear instead of MKL",
        why=(
            "oneDNN checks the features of the processor, not its vendor; saves about 10 % of a "
            "product; measurements on Zen 4 showed no difference for a whole step"
        ),
        where="float32, bfloat16; no torch.compile; x86 processors of vendors other than Intel",
        needs="a private operation of PyTorch, which PyTorch does not support",
        source="https://github.com/pytorch/pytorch/blob/main/aten/src/ATen/native/mkldnn/Linear.cpp",
        # Inductor cannot compile this operation for every input.
        applies=lambda config: (
            _on_other_cpu(config) and config.dtype != "float64" and config.compile_mode != "compile"
        ),
        pays=lambda config: False,
        unsupported=True,
    ),
    Tweak(
        name="foreach-optimizer",
        what="the optimizer applies each operation to the list of all tensors (foreach=True)",
        why=(
            "without this tweak, isoscale uses the fused kernel, which is up to 2x faster on the "
            "CPU; foreach is PyTorch's own default on GPUs"
        ),
        where="everywhere",
        needs="nothing",
        source="https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html",
        applies=lambda config: True,
        pays=lambda config: False,
    ),
    Tweak(
        name="one-bucket",
        what="DDP reduces all gradients in one bucket: bucket_cap_mb=512 instead of 25",
        why=(
            "each reduction over gloo costs a fixed time, but a single reduction cannot overlap "
            "with computation; on two CPU devices, measurements showed no difference for gpt_tiny, "
            "mlp_large and mlp_medium"
        ),
        where="strategy ddp",
        needs="nothing",
        source="https://docs.pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html",
        applies=lambda config: config.strategy == "ddp",
        pays=lambda config: False,
    ),
)
