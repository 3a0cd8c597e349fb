"""Known problems of PyTorch; see ``common/machine/problem.py``. Imports no framework."""

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
    # Disturbed figures prove nothing, and one framework has nothing to be slower than.
    shown = "torch" in rates and not disturbed and rates["torch"] < 0.8 * max(rates.values())
    if shown != slow:
        return None
    figures = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
    marks = f"; disturbed by other programs: {', '.join(disturbed)}" if disturbed else ""
    return (
        f"the processor is {machine['cpu_vendor']} with avx512f, and MKL's own check says that it "
        f"is not Intel's; best float32 product on one core, measured, in GFLOP/s: "
        f"{figures or UNKNOWN}{marks}"
    )


def _torchrun(facts: Facts) -> str | None:
    if "torch" not in examined(facts) or cores(facts) < 2:
        return None
    if "OMP_NUM_THREADS" in facts["environment"]:
        return None
    return "OMP_NUM_THREADS is not set"


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
    return f"PyTorch {torch['versions']['torch']} is built for CUDA {torch['cuda']}, no GPU shows"


def _compiler(facts: Facts) -> str | None:
    compiler = examined(facts).get("torch", {}).get("compiler")
    if compiler is None:
        return None
    lacks = [] if compiler["found"] else [f"the C++ compiler '{compiler['name']}' is not found"]
    if not compiler["python_headers"]:
        lacks.append("Python.h of its interpreter is not found")
    return " and ".join(lacks) or None


_MKL_REMEDY = (
    "No supported switch is known: MKL_ENABLE_INSTRUCTIONS and its like change nothing. Preloading "
    "a library that defines mkl_serv_intel_cpu_true does, unsupported by the vendor and in need of "
    "a C compiler: --tuning=tuned does it, or --tweaks=+mkl-as-intel alone, and reports say so."
)

PROBLEMS = (
    Problem(
        id="mkl_slow_here",
        severity="problem",
        topic="kernels",
        evidence=lambda facts: _mkl(facts, slow=True),
        meaning="PyTorch multiplies matrices with MKL, which keeps its AVX-512 kernels for Intel "
        "processors: a gap to the other frameworks here is partly this library's choice, not "
        "PyTorch's.",
        remedy=_MKL_REMEDY,
    ),
    Problem(
        id="mkl_without_avx512",
        severity="note",
        topic="kernels",
        evidence=lambda facts: _mkl(facts, slow=False),
        meaning="PyTorch multiplies matrices with MKL, which keeps its AVX-512 kernels for Intel "
        "processors. The figures do not show that it costs much here; that depends on the "
        "processor, the sizes and the number of threads.",
        remedy=_MKL_REMEDY,
    ),
    Problem(
        id="torchrun_threads",
        severity="note",
        topic="execution",
        evidence=_torchrun,
        meaning="torchrun gives its workers OMP_NUM_THREADS=1 where it is not set. isoscale sets "
        "the threads of its CPU runs itself, from --threads_per_device.",
        remedy="Nothing to do in isoscale; in your own scripts set OMP_NUM_THREADS.",
    ),
    Problem(
        id="gloo_loopback",
        severity="note",
        topic="execution",
        evidence=_gloo,
        meaning="Between processes on CPU, gradients travel through gloo over TCP loopback: 27 MB "
        "took 16 ms on a 2-core AMD machine (a memory-shared all-reduce 9 to 10 ms). It is not "
        "measured here. Strategies that drive all devices from one process do not pay it.",
        remedy="Nothing to do; compare strategies with it in mind.",
    ),
    Problem(
        id="compiler_for_torch_compile",
        severity="note",
        topic="execution",
        evidence=_compiler,
        meaning="--compile_modes=torch:compile builds C++ on CPU and fails without it; eager, the "
        "default, does not need it.",
        remedy="Install a C++ compiler and Python's headers (Debian, Ubuntu: apt install g++ "
        "python3-dev), or name the compiler in CXX.",
    ),
    Problem(
        id="cuda_build_without_gpu",
        severity="note",
        topic="execution",
        evidence=_cuda_without_gpu,
        meaning="It works on the CPU and takes gigabytes of disk for CUDA; otherwise harmless.",
        remedy="Nothing to do. For the small build, in a new environment: "
        "pip install torch --index-url https://download.pytorch.org/whl/cpu.",
    ),
)
