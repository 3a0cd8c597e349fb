"""XLA's program for JAX's step on two devices: tests for costs that the results do not show.

Results are equal whether XLA transposes a gradient before or after the sum over devices, and
whether it updates a buffer in place or copies it. The time differs.
"""

import functools
import json
import os
import re
import subprocess
import sys

import pytest

from isoscale.common.config.run_config import RunConfig
from tests.benchmarks.ours import make_config
from tests.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.two_cores]

SCRIPT = """
import json, os, sys
from tests.benchmarks.ours import Ours, make_config

ours = Ours(make_config("jax", "mlp_medium", sys.argv[2], strategy=sys.argv[1]))
runner, batch = ours.runner, ours.batches[0]
step = runner._train.lower(runner._state, runner.place(batch)).compile()
print(json.dumps(step.as_text()), flush=True)
os._exit(0)
"""


LANES = [("pjit", "tuned"), ("pmap", "stock")]


@functools.cache
def compiled_step(strategy: str, lane: str) -> tuple[RunConfig, str]:
    """Returns the configuration and the optimized program of one device."""
    config = make_config("jax", "mlp_medium", lane, strategy=strategy)
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT, strategy, lane],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    return config, json.loads(answer.stdout.splitlines()[-1])


def kernel_shapes(config: RunConfig) -> set[str]:
    shapes = [parameter.shape for parameter in config.spec.parameters()]
    return {",".join(map(str, shape)) for shape in shapes if len(shape) == 2}


def reduced_arrays(text: str) -> set[str]:
    """Returns shape and layout of each matrix that the program sums over the devices."""
    calls = re.findall(r"= (.*?) all-reduce(?:-start)?\(", text)
    return set(re.findall(r"f32\[(\d+,\d+\]\{\d,\d\})", " ".join(calls)))


@pytest.mark.parametrize("strategy, lane", LANES)
def test_gradients_are_reduced_in_the_layout_of_the_optimizer(strategy, lane) -> None:
    config, text = compiled_step(strategy, lane)
    assert reduced_arrays(text) == {f"{shape}]{{1,0}}" for shape in kernel_shapes(config)}


@pytest.mark.parametrize("strategy, lane", LANES)
def test_the_state_is_updated_in_place(strategy, lane) -> None:
    config, text = compiled_step(strategy, lane)
    aliases = text.splitlines()[0].count("-alias)")
    # The parameters, two moments, and the count of steps.
    assert aliases == 3 * len(config.spec.parameters()) + 1
    copied = re.findall(r"= f32\[([\d,]+)\]\S* copy\(", text)
    assert not {shape.removeprefix("1,") for shape in copied} & kernel_shapes(config)
