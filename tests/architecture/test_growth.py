"""A new model is one new folder, and a new strategy is one new file; no existing file changes.

The test adds both to a copy of the code; ``compare`` and ``parity`` find them without registration.
"""

import json
from pathlib import Path

import pytest

from tests.architecture.conftest import hashes

pytestmark = pytest.mark.slow

SPEC = '''
import dataclasses
import math
import numpy as np
from isoscale.common.config.initializers import Initializer, Uniform, Zeros
from isoscale.common.config.model_spec import (
    Family, FeatureBatch, ModelSpec, Parameter, Preset, check_sizes,
)

@dataclasses.dataclass(frozen=True)
class LecunUniform(Initializer):
    """An initialiser that isoscale does not have."""

    def draw(self, generator, sizes):
        bound = math.sqrt(3 / sizes["input"])
        return generator.uniform(-bound, bound, tuple(sizes.values()))

    def distribution(self, sizes):
        return Uniform(low=-((3 / sizes["input"]) ** 0.5), high=(3 / sizes["input"]) ** 0.5)

@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearSpec(ModelSpec):
    linear_inputs: int = 6

    def __post_init__(self):
        check_sizes(self, "linear_inputs")

    def parameters(self):
        return (
            Parameter(name="out/kernel", shape=(self.linear_inputs, 3), dims=("input", "output"),
                      initializer=LecunUniform(), decay=True),
            Parameter(name="out/bias", shape=(3,), dims=("output",), initializer=Zeros(),
                      decay=False),
        )

    def batch_kind(self):
        return FeatureBatch(input_size=self.linear_inputs, num_classes=3)

    def forward_flops(self, *, global_batch_size):
        return 2 * global_batch_size * self.linear_inputs * 3

    def reference_forward(self, parameters, batch):
        logits = batch["inputs"] @ parameters["out/kernel"] + parameters["out/bias"]
        return logits, np.zeros(len(logits))

FAMILY = Family(
    presets={"linear_tiny": Preset(spec=LinearSpec(), global_batch_size=8, steps=4)},
    parity_specs={"linear": LinearSpec()},
)
'''
FLAX = """
from flax import nnx

class Linear(nnx.Module):
    def __init__(self, spec, *, dtype, param_dtype, tweaks):
        self.out = nnx.Linear(
            spec.linear_inputs, 3, dtype=dtype, param_dtype=param_dtype, rngs=nnx.Rngs(0)
        )

    def __call__(self, x, *, dropout=None):
        return self.out(x)

build = Linear
"""
TF = """
import tensorflow as tf
from isoscale.models.layers.tf_layers import Dense

class Linear(tf.Module):
    def __init__(self, spec, *, dtype, param_dtype, tweaks):
        super().__init__(name="linear")
        self.out = Dense(spec.linear_inputs, 3, param_dtype=param_dtype, name="out")

    def __call__(self, x, *, dropout=None):
        return self.out(x)

build = Linear
"""
TORCH = """
from torch import nn
from isoscale.models.layers.torch_layers import Dense

class Linear(nn.Module):
    def __init__(self, spec, *, dtype, param_dtype, tweaks):
        super().__init__()
        self.out = Dense(spec.linear_inputs, 3, tweaks=tweaks).to(param_dtype)

    def forward(self, x, *, dropout=None):
        return self.out(x)

build = Linear
"""
STRATEGY = """
from isoscale.frameworks.torch_runner.strategies import ddp

INFO = {
    "summary": "ddp under another name",
    "process_model": "per_device",
    "max_devices": 2,
    "mesh_axes": ("data",),
}
make = ddp.make
"""


def test_a_new_model_and_a_new_strategy_need_no_edit_of_existing_files(
    code_copy: Path, run_program, tmp_path
) -> None:
    before = hashes(code_copy)
    model = code_copy / "models" / "linear"
    model.mkdir()
    files = {"spec": SPEC, "flax_model": FLAX, "tf_model": TF, "torch_model": TORCH}
    for name, text in files.items():
        (model / f"{name}.py").write_text(text)
    (code_copy / "frameworks/torch_runner/strategies/ddp_again.py").write_text(STRATEGY)
    assert {name: h for name, h in hashes(code_copy).items() if name in before} == before

    answer = run_program(
        "isoscale.common.commands.main",
        "compare",
        "--models=linear_tiny",
        "--strategies=bare,ddp_again",
        "--devices=1,2",
        "--allow_oversubscription",
        "--nobase_cases",
        "--linear_inputs=5",
        "--runs=1",
        "--study=growth",
        code=code_copy,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    text = (tmp_path / "runs/out/growth/results.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert sorted((r["cell"]["framework"], r["cell"]["strategy"], r["cell"]["devices"])
                  for r in lines) == [
        ("jax", "bare", 1),
        ("tensorflow", "bare", 1),
        ("torch", "bare", 1),
        ("torch", "ddp_again", 1),
        ("torch", "ddp_again", 2),
    ]  # fmt: skip
    assert {r["cell"]["overrides"]["linear_inputs"] for r in lines} == {5}
    assert {r["parameters"] for r in lines} == {5 * 3 + 3}
    first = [r["loss_first"] for r in lines]
    assert max(first) == pytest.approx(min(first), rel=1e-5)

    answer = run_program(
        "isoscale.common.commands.main",
        "parity",
        "--models=linear",
        "--frameworks=jax,torch",
        "--strategies=ddp_again",
        "--dtype=float64",
        "--devices=2",
        "--steps=5",
        "--nopieces",
        code=code_copy,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    document = json.loads((tmp_path / "runs/out/parity/parity.json").read_text())
    assert sorted((run["framework"], run["strategy"]) for run in document["runs"]) == [
        ("jax", "bare"),
        ("torch", "bare"),
        ("torch", "ddp_again"),
    ]
    assert all(run["comparisons"] for run in document["runs"])
