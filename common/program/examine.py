"""Examines one framework in its own process.

    python -m isoscale.common.program.examine --help

``isoscale doctor`` starts this program with each framework's interpreter. The optional file
``frameworks/<name>_runner/examine.py`` contains the calls of the framework's own API:

    facts(*, platform, cuda_packages) -> dict          any of the keys of ``FACTS``, and more
    matrix_product(size, *, platform) -> () -> None    a blocking float32 product, without TF32

Importing that file must limit the framework to one CPU thread, if the framework allows it.
"""

import itertools
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from isoscale.common.config.errors import ConfigError, in_one_line, require_choice
from isoscale.common.config.flags import Flags
from isoscale.common.config.run_config import PLATFORMS, RunConfig
from isoscale.common.disk.json_files import to_json, write_json
from isoscale.common.machine import describe
from isoscale.common.machine.cores import available_cores, pin
from isoscale.common.machine.visible_gpus import VISIBLE
from isoscale.common.measure.windows import summarize
from isoscale.common.processes import launch
from isoscale.common.processes.frame import exit_code_of, leave_at_once
from isoscale.common.processes.heartbeat import Heartbeat, path_for
from isoscale.common.registry import lookup
from isoscale.common.registry.build_config import plain_config

EXAMINATION = "examination.json"
SIZES = (256, 4096)
"""Smallest and largest matrix: below, the call itself takes most time; above, minutes pass."""

FACTS = (
    "devices",  # names of the devices that the framework sees; GPUs only with --platform=gpu
    "build",  # what the framework was built for, in words
    "cuda",  # CUDA version that the framework was built for; None: without CUDA
    "matrix_library",  # library that multiplies matrices on the CPU
    "instruction_set",  # library -> instruction set that the library reports
    "threads",  # size of the thread pool on one pinned core
    "tf32_by_default",
)
"""Facts that are ``unknown`` unless the framework's ``facts`` returns them."""

_MEASURE_SECONDS = 1.0
_GPU_FACTOR = 4
"""Factor on the size for a GPU: at the CPU's size, kernel launches would take most time."""
_CUDA_PACKAGES = ("nvidia-", "tensorrt")
"""Prefixes of the names of CUDA packages that belong to no single framework."""


def define_flags() -> Flags:
    fv = Flags(
        usage=(
            "Describes one framework on this machine, and measures its float32 matrix product on\n"
            "one pinned core or on one GPU.\n\n"
            "  python -m isoscale.common.program.examine --framework=jax"
        )
    )
    fv.text("framework", None, "framework to examine (required): " + "|".join(lookup.frameworks()))
    fv.text("platform", "cpu", "|".join(PLATFORMS))
    define_size_flag(fv)
    fv.boolean("product", True, "measure the matrix product (--noproduct: only read the facts)")
    fv.text("out_dir", None, f"folder for {EXAMINATION} (default: prints the result)")
    return fv


def define_size_flag(fv: Flags) -> None:
    """Defines ``--sgemm_size``; ``doctor`` has the same flag and passes its value on."""
    low, high = SIZES
    text = f"rows and columns of the matrices, {low} to {high}"
    fv.integer("sgemm_size", 1024, text, minimum=low, maximum=high)


def measure(product: Callable[[], None], *, size: int) -> dict[str, Any]:
    """Measures the rate of a blocking product of two size x size matrices.

    The first product is a warm-up and does not count.

    Returns:
      ``best_flops_per_second`` and ``median_flops_per_second`` of ``n`` products, and
      ``core_share``: processor seconds of this process per second of wall time. The share is well
      below 1 if other programs use the CPU core, or if a GPU does the work.
    """
    product()
    seconds: list[float] = []
    used, began = time.process_time(), time.perf_counter()
    while len(seconds) < 3 or time.perf_counter() - began < _MEASURE_SECONDS:
        start = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - start)
    share = (time.process_time() - used) / (time.perf_counter() - began)
    flops = 2 * size**3
    return {
        "size": size,
        "best_flops_per_second": flops / min(seconds),
        "median_flops_per_second": flops / (summarize(seconds).median or 0.0),
        "n": len(seconds),
        "core_share": share,
    }


def _config(framework: str, platform: str) -> RunConfig:
    """Returns a small configuration to pass to a framework's ``environment``."""
    devices = max(1, len(describe.gpus())) if platform == "gpu" else 1
    model = lookup.default_models()[0]
    return plain_config(
        framework=framework,
        strategy=lookup.framework_info(framework).default_strategy,
        model=model,
        spec=lookup.preset(model).spec,
        devices=devices,
        global_batch_size=devices,
        steps=1,
        platform=platform,
        process_model="single",  # a framework may have no strategy yet
    )


def _versions(packages: Sequence[str]) -> dict[str, str]:
    """Returns package -> installed version, without importing the packages."""
    owners = metadata.packages_distributions()
    return {
        name: metadata.version(owners[name][0]) if name in owners else describe.UNKNOWN
        for name in packages
    }


def _cuda_packages() -> list[str]:
    """Returns "name version" of each installed CUDA package, sorted."""
    of_frameworks = (lookup.framework_info(name).cuda_packages for name in lookup.frameworks())
    starts = (*_CUDA_PACKAGES, *itertools.chain.from_iterable(of_frameworks))
    found = ((d.metadata["Name"] or "", d.version) for d in metadata.distributions())
    return sorted({f"{n} {v}" for n, v in found if n.lower().startswith(starts)})


def examine(
    framework: str, *, platform: str, size: int | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Returns the record of a framework's examination; imports the framework into this process.

    Args:
      framework: name of the framework.
      platform: ``cpu``: examine on one pinned core, with GPUs hidden; ``gpu``: examine on the
        GPUs that the framework sees.
      size: rows and columns of the matrices on a CPU; larger on a GPU. None: no product.
      say: called with a description of each next activity.

    Raises:
      Exception: any exception that the framework raises during import or use.
    """
    info = lookup.framework_info(framework)
    pinned = None
    if platform == "cpu":
        first = available_cores()[:1]
        pinned = first if pin(first) else None
    environment = lookup.framework_environment(framework, _config(framework, platform))
    if platform == "gpu":
        environment.pop(VISIBLE, None)  # a run shows JAX only the GPUs that it uses
    os.environ.update(environment)
    record: dict[str, Any] = {
        "interpreter": {"python": sys.version.split()[0], "executable": sys.executable},
        "versions": _versions((*info.packages, "numpy")),
        "cuda_packages": _cuda_packages(),
        "environment_set": environment,
        "pinned_cores": pinned or describe.UNKNOWN,
        **dict.fromkeys(FACTS, describe.UNKNOWN),
        "matrix_product": describe.UNKNOWN,
    }
    say(f"importing {framework}")
    began = time.perf_counter()
    module = lookup.load_examination(framework)
    record["import_seconds"] = time.perf_counter() - began
    if module is not None:
        say(f"reading the facts of {framework}")
        facts = module.facts(platform=platform, cuda_packages=record["cuda_packages"])
        record["versions"] |= facts.pop("versions", {})
        record |= facts
        # A framework that sees no GPU would measure the CPU again.
        if size is not None and (platform == "cpu" or record["devices"]):
            size *= 1 if platform == "cpu" else _GPU_FACTOR
            say(f"multiplying matrices with {framework}")
            try:
                product = module.matrix_product(size, platform=platform)
                record["matrix_product"] = measure(product, size=size)
            except Exception as error:
                # Keep the facts: a user must be able to tell too little GPU memory from a GPU
                # that the framework does not see.
                if platform == "cpu":
                    raise
                record["product_error"] = in_one_line(error)
    record["native_libraries"] = describe.native_libraries()
    return record


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit code: 0 done, 1 the framework failed, 2 bad input."""
    launch.die_with_launcher()
    return exit_code_of(lambda: _run(list(sys.argv[1:] if argv is None else argv)))


def _run(argv: list[str]) -> int:
    fv = define_flags()
    if not fv.parse(argv):
        return 0
    if fv.framework is None:
        raise ConfigError(f"--framework is required; known: {', '.join(lookup.frameworks())}")
    require_choice("framework", fv.framework, lookup.frameworks())
    require_choice("platform", fv.platform, PLATFORMS)
    size = fv.sgemm_size if fv.product else None
    folder = Path(fv.out_dir) if fv.out_dir else None
    heart = Heartbeat(path_for(folder, 0) if folder else None)
    try:
        record = examine(fv.framework, platform=fv.platform, size=size, say=heart.beat)
    except Exception as error:
        # This is the outermost frame: the record reports any failure of the framework.
        traceback.print_exc()
        record = {"error": in_one_line(error)}
    if folder is None:
        print(to_json(record, indent=2))
    else:
        write_json(folder / EXAMINATION, record)
    return 1 if "error" in record else 0


if __name__ == "__main__":
    leave_at_once(main())
