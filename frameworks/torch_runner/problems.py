"""Known problems of PyTorch; see ``common/machine/problem.py``. Does not import PyTorch."""

from isoscale.common.machine.describe import UNKNOWN
from isoscale.common.machine.problem import Facts, Problem, cores, examined, is_disturbed


def _mkl(facts: Facts, *, slow: bool) -> str | None:
    torch, machine = examined(facts).get("torch"), facts["machine"]
    if (
        torch is None
        or torch.get("mkl_takes_for_intel") is not False
        or machine["cpu_vendor"] in (UNKNOWN, "GenuineIntel")
        or "avx512f" not in machine["instruction_sets"]
    ):
        return None
    products = {
        name: entry["matrix_product"]
        for name, entry in examined(facts).items()
        if entry["matrix_product"] != UNKNOWN
    }
    rates = {name: p["best_flops_per_second"] / 1e9 for name, p in products.items()}
    disturbed = [name for name, product in products.items() if is_disturbed(product)]
    # Disturbed figures are no evidence, and a single framework has no figure to compare with.
    shown = "torch" in rates and not disturbed and rates["torch"] < 0.8 * max(rates.values())
    if shown != slow:
        return None
    figures = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
    marks = f"; disturbed by other programs: {', '.join(disturbed)}" if disturbed else ""
    return (
        f"the processor is {machine['cpu_vendor']} with avx512f; MKL's own check reports "
        f"another vendor than Intel; best measured float32 product on one core, in GFLOP/s: "
        f"{figures or UNKNOWN}{marks}"
    )


def _torchrun(facts: Facts) -> str | None:
    if "torch" not in examined(facts) or cores(facts) < 2:
        return None
    return f"PyTorch {examined(facts)['torch']['versions']['torch']} on {cores(facts)} cores"


def _gloo(facts: Facts) -> str | None:
    if "torch" not in examined(facts) or cores(facts) < 2:
        return None
    return f"PyTorch ddp can run on {cores(facts)} CPU devices, one process each"


def _cuda_without_gpu(facts: Facts) -> str | None:
    torch = examined(facts).get("torch")
    if (
        torch is None
        or facts["gpus"]
        or facts["gpu_driver_fails"]
        or torch["cuda"] in (None, UNKNOWN)
    ):
        return None
    return f"PyTorch {torch['versions']['torch']} is built for CUDA {torch['cuda']}; no GPU found"


def _compiler(facts: Facts) -> str | None:
    compiler = examined(facts).get("torch", {}).get("compiler")
    if compiler is None:
        return None
    lacks = [] if compiler["found"] else [f"the C++ compiler '{compiler['name']}' is not found"]
    if not compiler["python_headers"]:
        lacks.append("Python.h of its interpreter is not found")
    return " and ".join(lacks) or None


_MKL_REMEDY = (
    "No supported setting is known; MKL_ENABLE_INSTRUCTIONS and similar variables have no effect. "
    "The tweak mkl-as-intel helps: it preloads a library that defines mkl_serv_intel_cpu_true. It "
    "needs a C compiler, and Intel does not support it. Add --tuning=tuned, or only "
    "--tweaks=+mkl-as-intel, to the command; reports show the tweak."
)

PROBLEMS = (
    Problem(
        id="mkl_slow_here",
        severity="problem",
        topic="kernels",
        evidence=lambda facts: _mkl(facts, slow=True),
        meaning="PyTorch multiplies matrices with MKL, which uses its AVX-512 kernels on Intel "
        "processors only. MKL, not PyTorch, causes a part of the gap to the other frameworks on "
        "this machine.",
        remedy=_MKL_REMEDY,
    ),
    Problem(
        id="mkl_without_avx512",
        severity="note",
        topic="kernels",
        evidence=lambda facts: _mkl(facts, slow=False),
        meaning="PyTorch multiplies matrices with MKL, which uses its AVX-512 kernels on Intel "
        "processors only. The figures do not show a high cost on this machine; the cost depends on "
        "the processor, the sizes and the number of threads.",
        remedy=_MKL_REMEDY,
    ),
    Problem(
        id="torchrun_threads",
        severity="note",
        topic="execution",
        evidence=_torchrun,
        meaning="torchrun sets OMP_NUM_THREADS=1 for its workers if the variable is not set. "
        "isoscale sets the threads of its CPU runs itself, from --threads_per_device.",
        remedy="No action needed in isoscale; set OMP_NUM_THREADS in your own scripts.",
    ),
    Problem(
        id="gloo_loopback",
        severity="note",
        topic="execution",
        evidence=_gloo,
        meaning="On CPU, gloo sends gradients between processes over TCP loopback: 27 MB took 16 "
        "ms on a 2-core AMD machine (an all-reduce in shared memory took 9 to 10 ms). The cost on "
        "this machine was not measured. Strategies with one process for all devices do not have "
        "this cost.",
        remedy="No action needed; consider this cost when you compare strategies.",
    ),
    Problem(
        id="compiler_for_torch_compile",
        severity="note",
        topic="execution",
        evidence=_compiler,
        meaning="On CPU, --compile_modes=torch:compile builds C++ code and fails without compiler "
        "and headers; the default, eager, does not need them.",
        remedy="Install a C++ compiler and Python's headers (Debian, Ubuntu: apt install g++ "
        "python3-dev), or set CXX to the compiler's name.",
    ),
    Problem(
        id="cuda_build_without_gpu",
        severity="note",
        topic="execution",
        evidence=_cuda_without_gpu,
        meaning="This build of PyTorch works on the CPU. Its CUDA libraries use gigabytes of disk.",
        remedy="No action needed. To install the small build, in a new environment: "
        "pip install torch --index-url https://download.pytorch.org/whl/cpu.",
    ),
)
