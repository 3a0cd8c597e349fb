"""Every run records which kernel computes its attention."""

import json
import subprocess
import sys

import pytest

from isoscale.common.registry import lookup
from tests.conftest import environment_of

CODE = """
import contextlib, json, os, sys
from isoscale.common.parity.cases import all_cases, make_config
from isoscale.common.registry import lookup
framework, case, kernel = sys.argv[1:]
config = make_config(
    all_cases()[case], framework=framework, strategy="bare", devices=1, dtype="bfloat16",
    steps=1, tuning="stock", tweaks=[], platform="cpu",
)
os.environ.update(lookup.framework_environment(framework, config))
make = lookup.load_runner(config)
forced = contextlib.nullcontext()
if kernel:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    forced = sdpa_kernel(SDPBackend.__members__[kernel])
with forced:
    print("KERNEL", json.dumps(make().describe().get("attention")), flush=True)
os._exit(0)
"""
CASES = [
    *((framework, "mlp_plain", "", None) for framework in lookup.frameworks()),
    ("jax", "transformer_encoder", "", "written out"),
    ("tensorflow", "transformer_encoder", "", "written out"),
    ("torch", "transformer_encoder", "", "scaled_dot_product_attention (FLASH_ATTENTION)"),
    ("torch", "transformer_causal_padded", "MATH", "scaled_dot_product_attention (MATH)"),
    ("torch", "moe_plain", "MATH", "scaled_dot_product_attention (MATH)"),
]


@pytest.mark.slow
@pytest.mark.parametrize("framework, case, kernel, told", CASES)
def test_a_run_records_the_kernel_of_its_attention(
    framework: str, case: str, kernel: str, told: str | None
) -> None:
    answer = subprocess.run(
        [sys.executable, "-P", "-c", CODE, framework, case, kernel],
        env=environment_of(),
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = (text for text in answer.stdout.splitlines() if text.startswith("KERNEL "))
    assert json.loads(line.removeprefix("KERNEL ")) == told
