"""JAX's attention uses cuDNN's kernel on GPUs; here a stub computes what cuDNN would be asked.

The stub shows that the runner chooses the kernel, and that JAX calls it with the right arguments.
Only a GPU shows that the kernel itself is right: ``isoscale selftest``.
"""

import json
import subprocess
import sys
from typing import Any

import pytest

from isoscale.common.config.run_config import RunConfig
from isoscale.common.parity.cases import all_cases, make_config
from isoscale.common.registry import lookup
from tests.conftest import ROOT, environment_of

FUSED = "cuDNN's fused kernel (bfloat16)"
MASKS = {
    "transformer_causal": "CAUSAL",
    "transformer_encoder": "PADDING",
    "transformer_causal_padded": "PADDING_CAUSAL",
}


def answer_of(*arguments: str, devices: int = 1) -> Any:
    """Returns what a check of the stub prints."""
    environment = lookup.framework_environment("jax", config_of(devices=devices))
    _, quick = lookup.framework_info("jax").quick_compile or ("", "")
    environment["XLA_FLAGS"] += f" {quick}"
    answer = subprocess.run(
        [sys.executable, "-m", "tests.frameworks.cudnn_on_cpu", *arguments],
        cwd=ROOT,
        env=environment_of(**environment),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    return json.loads(answer.stdout.splitlines()[-1])


def config_of(*, platform: str = "cpu", tuning: str = "stock", devices: int = 1) -> RunConfig:
    return make_config(
        all_cases()["transformer_causal"], framework="jax", strategy="pjit", devices=devices,
        dtype="bfloat16", steps=1, tuning=tuning, tweaks=[], platform=platform,
    )  # fmt: skip


@pytest.mark.slow
def test_the_library_gets_the_arguments_that_the_models_mean() -> None:
    """Output and gradients, with and without padding and causal mask; also with an empty row."""
    differences = answer_of("arguments")
    assert differences["xla float32"] < 1e-6
    # Both round the same products to bfloat16; a wrong mask or scale makes a difference of 0.1.
    assert differences["xla bfloat16"] < 1e-2
    assert differences["cudnn bfloat16"] < 1e-2


@pytest.mark.slow
def test_the_program_for_a_gpu_calls_cudnn_forward_and_backward() -> None:
    masks = ("NO_MASK", "PADDING", "CAUSAL", "PADDING_CAUSAL")
    assert answer_of("program") == [
        f"fmhaSoftmax{direction} {mask}" for mask in masks for direction in ("", "Backward")
    ]


@pytest.mark.slow
def test_a_run_that_cannot_use_cudnn_is_written_out_and_says_why() -> None:
    failed = "written out (cuDNN's kernel failed: {})"
    assert answer_of("choices") == {
        "no cuDNN": failed.format("RuntimeError: cuDNN is not detected."),
        "cuDNN": FUSED,
        "float32": "written out (cuDNN's kernel is for bfloat16, not float32)",
        "CPU": "written out",
        "no attention": None,
        "a shape that cuDNN refuses": failed.format(
            "NotImplementedError: The head dim must be 64, but got 8."
        ),
        "a backward pass that XLA cannot compile": failed.format(
            "JaxRuntimeError: INTERNAL: cuDNN graph failed"
        ),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "case, strategy, devices, parts",
    [
        ("transformer_causal", "bare", 1, 2),
        ("transformer_causal_padded", "pjit", 2, 1),
        ("transformer_encoder", "pjit", 2, 2),
        ("transformer_encoder", "pmap", 2, 2),
    ],
)
def test_a_step_with_cudnn_equals_the_written_out_step(
    case: str, strategy: str, devices: int, parts: int
) -> None:
    found = answer_of("runner", case, strategy, str(devices), str(parts), devices=devices)
    assert found["told"] == ["written out", FUSED]
    assert found["difference"] < 1e-2
    kernels, mask = found["kernels"], MASKS[case]
    assert {kernel["kind"] for kernel in kernels} == {"forward", "backward"}
    rows = all_cases()[case].global_batch_size // devices
    assert {kernel["query"][0] for kernel in kernels} == {rows, rows // parts}
    assert kernels[0]["query"][0] == rows // parts  # the trial has the size of a step
    for kernel in kernels:
        assert kernel["mask"] == mask
        assert not kernel["bias"]  # cuDNN would compute the gradient of a mask that is a bias
        if "PADDING" in mask:  # each device gets the lengths of its own rows
            assert kernel["lengths"] == [kernel["query"][:1]] * 2


def test_the_layout_tweak_is_for_cpus_where_no_run_uses_cudnn() -> None:
    assert "attention-bhsd" in config_of(tuning="tuned").tweaks
    assert "attention-bhsd" not in config_of(tuning="tuned", platform="gpu").tweaks
