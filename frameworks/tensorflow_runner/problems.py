"""Known problems of TensorFlow; see ``common/machine/problem.py``. Does not import TensorFlow."""

from isoscale.common.machine.problem import Facts, Problem, examined, operating_system


def _tensorflow_platform(facts: Facts) -> str | None:
    system = operating_system(facts)
    if "tensorflow" not in examined(facts):
        return None
    if system == "macOS" or (system == "Windows" and facts["gpus"]):
        return f"TensorFlow {examined(facts)['tensorflow']['versions']['tensorflow']} on {system}"
    return None


PROBLEMS = (
    Problem(
        id="tensorflow_gpu_platform",
        severity="note",
        topic="gpu",
        evidence=_tensorflow_platform,
        meaning="TensorFlow's own packages do not support GPUs on this system (macOS; native "
        "Windows since 2.11).",
        remedy="Use Linux, or WSL2 on Windows, for --platform=gpu.",
    ),
)
