"""Reads checkpoints into native models, and writes native weights as checkpoints."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from isoscale.common.checkpoint import files
from isoscale.common.config.errors import ConfigError
from isoscale.common.config.model_spec import Arrays, ModelSpec
from isoscale.common.program.weights import read_weights, spec_of, write_weights
from isoscale.common.reference.functions import weighted_loss
from isoscale.common.registry import lookup
from isoscale.models.moe.spec import MoeSpec
from tests.common.checkpoint import small
from tests.common.checkpoint.test_damaged import forge
from tests.conftest import ROOT, bare_environment

pytestmark = pytest.mark.slow

LOGITS = {
    "torch": """
import numpy as np, torch
from isoscale.frameworks.torch_runner.weights import load_model
model = load_model("saved")
with torch.no_grad():
    np.save("logits.npy", model(torch.from_numpy(np.load("inputs.npy"))).numpy())
assert isinstance(model, torch.nn.Module) and not model.training
""",
    "jax": """
import numpy as np, jax, jax.numpy as jnp
from flax import nnx
jax.config.update("jax_enable_x64", True)
from isoscale.frameworks.jax_runner.weights import load_model
model = load_model("saved")
np.save("logits.npy", model(jnp.asarray(np.load("inputs.npy"))))
assert isinstance(model, nnx.Module)
""",
    "tensorflow": """
import numpy as np, tensorflow as tf
from isoscale.frameworks.tensorflow_runner.weights import load_model
model = load_model("saved")
np.save("logits.npy", model(tf.constant(np.load("inputs.npy"))).numpy())
assert isinstance(model, tf.Module)
""",
}
SAVE = {
    "torch": """
from isoscale.frameworks.torch_runner.weights import load_model, save_state_dict
print(save_state_dict(load_model("saved").state_dict(), "again", model="mlp_digits"))
""",
    "jax": """
import jax
jax.config.update("jax_enable_x64", True)
from isoscale.frameworks.jax_runner.weights import load_model, save_model
save_model(load_model("saved"), "again", name="mlp_digits")
""",
    "tensorflow": """
from isoscale.frameworks.tensorflow_runner.weights import load_model, save_model
save_model(load_model("saved"), "again", name="mlp_digits")
""",
}


def run(program: str, folder: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=bare_environment(),
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr


def some_parameters(spec: ModelSpec) -> Arrays:
    """Returns parameters that are neither 0 nor equal to the model's own initialisation."""
    random = np.random.default_rng(0)
    return {
        name: value + 0.1 * random.standard_normal(value.shape).astype(value.dtype)
        for name, value in spec.initial_parameters(seed=1).items()
    }


@pytest.mark.parametrize("framework", lookup.frameworks())
def test_weights_are_unchanged_after_loading_and_saving_a_checkpoint(
    framework: str, tmp_path: Path
) -> None:
    spec = spec_of("mlp_digits")
    parameters = {n: v.astype(np.float64) for n, v in some_parameters(spec).items()}
    write_weights(tmp_path / "saved", parameters, model="mlp_digits", spec=spec, came_from="test")
    inputs = np.random.default_rng(0).standard_normal((5, 64))
    np.save(tmp_path / "inputs.npy", inputs)
    run(LOGITS[framework] + SAVE[framework], tmp_path)
    expected, _ = spec.reference_forward(parameters, {"inputs": inputs})
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, rtol=0, atol=1e-12)
    again = read_weights(tmp_path / "again")
    assert again.spec == spec
    for name, value in again.parameters.items():
        np.testing.assert_array_equal(value, parameters[name], err_msg=name)


PAGE = (ROOT / "docs/checkpoints.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)


def snippet(word: str) -> str:
    """Returns the only Python snippet of docs/checkpoints.md that contains ``word``."""
    (found,) = [text for text in SNIPPETS if word in text]
    return found


def test_the_code_in_the_documents_gives_equal_logits_in_all_frameworks(tmp_path: Path) -> None:
    """All frameworks compute the same logits from one gpt_tiny checkpoint."""
    spec = spec_of("gpt_tiny")
    start = some_parameters(spec)
    write_weights(tmp_path / "saved", start, model="gpt_tiny", spec=spec, came_from="test")
    logits = {}
    for framework in lookup.frameworks():
        lines = snippet(f"isoscale.frameworks.{framework}_runner.weights import load_model")
        assert len([line for line in lines.splitlines() if line]) == 1 + 3  # the framework's import
        detach = ".detach()" if framework == "torch" else ""
        save = f"import numpy as np\nnp.save('{framework}.npy', logits{detach})\n"
        run(lines + save, tmp_path)
        logits[framework] = np.load(tmp_path / f"{framework}.npy")
    tokens = np.array([list(b"def main(argv):")])
    expected, _ = spec.reference_forward(start, {"tokens": tokens})
    for framework, found in logits.items():
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5, err_msg=framework)
    lines = snippet("torch_runner.weights import load_model") + snippet("save_state_dict")
    run(lines, tmp_path)
    for name, value in read_weights(tmp_path / "imported").parameters.items():
        np.testing.assert_array_equal(value, start[name], err_msg=name)


@pytest.mark.parametrize("framework", lookup.frameworks())
def test_a_training_starts_from_the_written_weights(
    framework: str, run_program, tmp_path: Path
) -> None:
    spec, sizes = spec_of("mlp_digits"), ("--model=mlp_digits", "--global_batch_size=32")
    start = some_parameters(spec)
    write_weights(tmp_path / "w", start, model="mlp_digits", spec=spec, came_from="test")
    answer = run_program(
        lookup.program(framework), *sizes, "--steps=5", "--optimizer=sgd", "--resume_from=w",
        "--run_dir=r",
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout + answer.stderr
    first = json.loads((tmp_path / "r/steps.jsonl").read_text().splitlines()[0])
    data = lookup.data_source("synthetic").load(
        spec, global_batch_size=32, pool=0, seed=0, dtype="float32"
    )
    logits, _ = spec.reference_forward(start, data.batches[0])
    expected = weighted_loss(logits, data.batches[0])
    assert first["step"] == 0
    assert first["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_foreign_state_dict_is_refused(tmp_path: Path) -> None:
    program = """
import torch
from isoscale.common.config.errors import ConfigError
from isoscale.frameworks.torch_runner.weights import load_model, save_state_dict
good = load_model("saved").state_dict()
for change, message in (
    (lambda d: d.pop("dense.0.weight"), "dense.0.weight: found no tensor, expected [128, 64]"),
    (lambda d: d.update(extra=torch.ones(2)), "extra: found [2], expected no tensor"),
    (lambda d: d.update({"dense.0.weight": d["dense.0.weight"].T}),
     "dense.0.weight: found [64, 128], expected [128, 64]"),
    (lambda d: d.update({"dense.0.bias": torch.ones(128, dtype=torch.int64)}),
     "dense.0.bias is not a dense tensor of floating-point numbers"),
    (lambda d: d.update({"dense.0.bias": 1.0}), "dense.0.bias is not a dense tensor"),
    (lambda d: d["dense.0.weight"].fill_(float("nan")), "dense_0/kernel contains NaN"),
):
    bad = {name: value.clone() for name, value in good.items()}
    change(bad)
    try:
        save_state_dict(bad, "again", model="mlp_digits")
    except ConfigError as error:
        assert message in str(error), str(error)
    else:
        raise AssertionError(message)
"""
    spec = spec_of("mlp_digits")
    write_weights(
        tmp_path / "saved", spec.initial_parameters(seed=0), model="mlp_digits", spec=spec,
        came_from="test",
    )  # fmt: skip
    run(program, tmp_path)


def test_sizes_are_converted_to_the_types_of_the_spec(tmp_path: Path) -> None:
    spec = spec_of("mlp_digits", dropout_rate=0, hidden_sizes=[8])
    assert (spec.dropout_rate, spec.hidden_sizes) == (0.0, (8,))
    write_weights(tmp_path, some_parameters(spec), model="mlp_digits", spec=spec, came_from="test")
    assert read_weights(tmp_path).spec == spec
    with pytest.raises(ConfigError, match="already contains 'step_000000000'"):
        write_weights(tmp_path, some_parameters(spec), model="mlp_digits", spec=spec, came_from="x")
    for sizes, message in (
        ({"hidden_sizes": 128}, "hidden_sizes=128 must be a list, for example"),
        ({"input_size": "64"}, "input_size=64 must be a whole number, for example 64"),
        ({"d_model": 64}, "unknown size of mlp_digits 'd_model'"),
    ):
        with pytest.raises(ConfigError, match=message):
            spec_of("mlp_digits", **sizes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"family": "../evil"}, "unknown model family .* Your own models need --extra=FOLDER"),
        ({"sizes": {"num_layers": 10**9}}, "size"),
        ({"sizes": {"input_size": 3, "hidden_sizes": [1] * 100_000, "num_classes": 2,
                    "dropout_rate": 0.0}}, "is too large for 12 tensors"),
        ({"sizes": {"input_size": 3, "hidden_sizes": [4.0], "num_classes": 2,
                    "dropout_rate": 0.0}}, "hidden_sizes=4.0 must be a whole number, for example"),
        ({"family": "moe", "sizes": {**dataclasses.asdict(MoeSpec()), "num_layers": 10**9}},
         "num_layers=1000000000 is too large for 12 tensors"),
        ({"sizes": {"input_size": 10**9, "hidden_sizes": [4], "num_classes": 2,
                    "dropout_rate": 0.0}}, "dense_0/kernel: found"),
        ({"sizes": {"input_size": "x", "hidden_sizes": [4], "num_classes": 2,
                    "dropout_rate": 0.0}}, "input_size"),
        ({"sizes": {"input_size": 3, "hidden_sizes": None, "num_classes": 2,
                    "dropout_rate": 0.0}}, "hidden_sizes=None must be a list, for example"),
        ({"family": "x" * 100_000}, "unknown model family"),
        ({"sizes": {"input_size": 3, "hidden_sizes": [4, 4], "num_classes": 2,
                    "dropout_rate": 0}}, "dense_1/kernel: found"),
    ],
)  # fmt: skip
def test_a_manifest_with_a_wrong_model_is_refused(changes, message: str, tmp_path: Path) -> None:
    path = small.save(tmp_path, 5)
    forge(path, (path / files.TENSORS).read_bytes(), **changes)
    with pytest.raises(ConfigError, match=message) as caught:
        read_weights(path)
    assert len(str(caught.value)) < 1000
