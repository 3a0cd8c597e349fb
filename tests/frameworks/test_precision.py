"""Every framework sets TF32 in both ways, and reports what is in force."""

import subprocess
import sys

import pytest

from isoscale.common.registry import lookup
from tests.conftest import environment_of

CODE = """
import importlib, sys
precision = importlib.import_module(f"isoscale.frameworks.{sys.argv[1]}_runner.precision")
for allowed in (False, True, False):
    precision.set_tf32(allowed)
    print("IN FORCE", precision.in_force())
"""
ASKED = {
    "jax": "import jax; print('ASKED', jax.config.jax_default_matmul_precision)",
    "tensorflow": "import tensorflow as tf; "
    "print('ASKED', tf.config.experimental.tensor_float_32_execution_enabled())",
    "torch": "import torch; print('ASKED', torch.get_float32_matmul_precision(), "
    "torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)",
}
ANSWERS = {"jax": "highest", "tensorflow": "False", "torch": "highest False False"}
ALLOWED = {"jax": "high", "tensorflow": "True", "torch": "high True True"}


def output(framework: str, code: str) -> list[str]:
    answer = subprocess.run(
        [sys.executable, "-P", "-c", code, framework],
        env=environment_of(),
        capture_output=True,
        text=True,
        check=True,
    )
    return answer.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("framework", lookup.frameworks())
def test_tf32_is_set_in_both_ways(framework: str) -> None:
    ask = f"    {ASKED[framework]}\n"
    assert output(framework, CODE + ask) == [
        "IN FORCE highest (no TF32)",
        f"ASKED {ANSWERS[framework]}",
        "IN FORCE high (TF32)",
        f"ASKED {ALLOWED[framework]}",
        "IN FORCE highest (no TF32)",
        f"ASKED {ANSWERS[framework]}",
    ]
