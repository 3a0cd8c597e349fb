"""A stub of cuDNN's fused attention for CPUs: a program of ``test_jax_attention.py``.

    python -m tests.frameworks.cudnn_on_cpu CHECK

JAX's own code runs: its checks of shapes, masks and dtypes, its rules of differentiation, and its
division of the kernel over devices. The stub replaces only the kernel itself, the two calls of
cuDNN, and the version of cuDNN. Every check prints one line of JSON.
"""

import dataclasses
import functools
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax._src.cudnn import fused_attention_stablehlo as cudnn
from jax._src.interpreters import mlir

from isoscale.common.config.run_config import RunConfig
from isoscale.common.parity.cases import all_cases, make_config
from isoscale.common.registry import lookup
from isoscale.models.layers.flax_layers import dot_product_attention, fused_attention

kernels: list[dict[str, Any]] = []
"""The arguments of each kernel that JAX compiled."""


class _Version:
    @staticmethod
    def cudnn_get_version() -> int:
        return 91400


def _plain(query, key, value, kv_seqlen, *, scale, mask_type, layout):
    """Computes what the arguments of a kernel ask for, with the operations of the models."""
    assert layout == cudnn.AttentionLayout.BTNH.value
    mask = None
    if cudnn.has_padding(mask_type):
        # The softmax of a row without tokens.
        value = jnp.where(kv_seqlen[:, None, None, None] > 0, value, jnp.nan)
        mask = jnp.arange(key.shape[1]) < kv_seqlen[:, None]
    causal = mask_type in (cudnn.MaskType.CAUSAL, cudnn.MaskType.PADDING_CAUSAL)
    # The written-out code has a fixed scale.
    query = query * jnp.asarray(scale * query.shape[-1] ** 0.5, query.dtype)
    return dot_product_attention(query, key, value, mask, causal=causal, heads_first=False)


def _note(kind: str, query, q_seqlen, kv_seqlen, *, mask_type, **options) -> None:
    kernels.append(
        {
            "kind": kind,
            "query": list(query.shape),
            "lengths": [list(q_seqlen.shape), list(kv_seqlen.shape)],
            "mask": mask_type.name,
            "bias": options["variadic_args"][0],
        }
    )


def _forward(query, key, value, bias, q_seqlen, kv_seqlen, *others, is_training, **options):
    _note("forward", query, q_seqlen, kv_seqlen, **options)
    kept = {name: options[name] for name in ("scale", "mask_type", "layout")}
    batch, length, heads, _ = query.shape
    result = [_plain(query, key, value, kv_seqlen, **kept)]
    return [*result, jnp.zeros((batch, heads, length), jnp.float32)] if is_training else result


def _backward(query, key, value, bias, q_seqlen, kv_seqlen, *others, **options):
    _note("backward", query, q_seqlen, kv_seqlen, **options)
    kept = {name: options[name] for name in ("scale", "mask_type", "layout")}
    compute = functools.partial(_plain, kv_seqlen=kv_seqlen, **kept)
    return list(jax.vjp(compute, query, key, value)[1](others[-1]))


def install() -> None:
    """Lets JAX find a cuDNN, and run its two kernels on CPUs."""
    cudnn.cuda_versions = _Version
    for primitive, kernel in (
        (cudnn._dot_product_attention_fwd_p, _forward),
        (cudnn._dot_product_attention_bwd_p, _backward),
    ):
        lowering = mlir.lower_fun(kernel, multiple_results=True)
        mlir.register_lowering(primitive, lowering, platform="cpu")


def arguments(dtype: str, *, padded: bool) -> tuple[Any, ...]:
    """Returns query, key, value [B, T, N, H], the mask [B, T] or None, and an output gradient.

    One of the rows is empty, another has no padding.
    """
    random = np.random.Generator(np.random.Philox(key=5))
    shape = (4, 12, 2, 8)
    arrays = [jnp.asarray(random.normal(size=shape), dtype) for _ in range(4)]
    mask = jnp.arange(12) < jnp.asarray([7, 12, 1, 0])[:, None] if padded else None
    return *arrays[:3], mask, arrays[3]


def _results(attend: Callable, *given: Any, causal: bool) -> list[np.ndarray]:
    """Returns the output and the gradients, of rows that have a token."""
    query, key, value, mask, gradient = given
    rows = slice(0, 4 if mask is None else 3)

    @jax.jit
    def compute(query, key, value):
        result, pull = jax.vjp(lambda *a: attend(*a, mask, causal=causal), query, key, value)
        return result, *pull(gradient)

    found = compute(query, key, value)
    assert all(jnp.isfinite(array).all() for array in found)  # empty rows, too
    return [np.asarray(array[rows], np.float64) for array in found]


def check_arguments() -> dict[str, float]:
    """Returns the largest difference of the library's function from the written-out code."""
    written = functools.partial(dot_product_attention, heads_first=False)
    install()
    worst = {}
    for dtype, implementation in (
        ("float32", "xla"),
        ("bfloat16", "xla"),
        ("bfloat16", "cudnn"),
    ):
        library = functools.partial(fused_attention, implementation=implementation)
        differences = [0.0]
        for causal in (False, True):
            for padded in (False, True):
                given = arguments(dtype, padded=padded)
                pairs = zip(
                    _results(library, *given, causal=causal),
                    _results(written, *given, causal=causal),
                    strict=True,
                )
                differences += [np.abs(a - b).max() / np.abs(b).max() for a, b in pairs]
        worst[f"{implementation} {dtype}"] = max(map(float, differences))
    return worst


def check_program() -> list[str]:
    """Returns name and mask of cuDNN's calls in the programs that JAX writes for GPUs."""
    cudnn.cuda_versions = _Version
    found = []
    for causal in (False, True):
        for padded in (False, True):
            query, key, value, mask, gradient = arguments("bfloat16", padded=padded)

            def compute(query, key, value, mask=mask, gradient=gradient, causal=causal):
                attend = functools.partial(fused_attention, causal=causal)
                result, pull = jax.vjp(lambda *a: attend(*a, mask), query, key, value)
                return result, *pull(gradient)

            traced = jax.jit(compute).trace(query, key, value)
            text = traced.lower(lowering_platforms=("cuda",)).as_text()
            for line in text.splitlines():
                if "__cudnn$" in line:
                    name = line.partition("@__cudnn$")[2].partition("(")[0]
                    kind = line.replace("\\22", '"').partition('"mask_type": "')[2].partition('"')
                    found.append(f"{name} {kind[0]}")
    return found


def _config(
    case: str, *, platform: str, dtype: str = "bfloat16", parts: int = 1, **options: Any
) -> RunConfig:
    config = make_config(
        all_cases()[case], framework="jax", dtype=dtype, steps=1, tuning="stock", tweaks=[],
        platform=platform, **{"strategy": "bare", "devices": 1, **options},
    )  # fmt: skip
    return dataclasses.replace(config, gradient_accumulation_steps=parts)


def _train(config: RunConfig, case: str) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Returns what the runner reports; and logits, the first gradients, new parameters."""
    runner = lookup.load_runner(config)()
    runner.set_parameters({n: v.astype(np.float32) for n, v in all_cases()[case].initial().items()})
    batch = runner.place(all_cases()[case].batches("float32")[0])
    logits = runner.read_logits(runner.forward(batch))
    _, (gradients,) = runner.read_gradients(runner.gradients(batch))
    _, shares = runner.read_gradients(runner.gradients(batch, sync=False))
    trees = [gradients, *shares]
    if config.gradient_accumulation_steps > 1:  # only a step accumulates
        runner.step(batch)
        runner.wait()
        trees.append(runner.parameters())
    return runner.describe(), [logits, *(tree[name] for tree in trees for name in sorted(tree))]


def check_runner(case: str, strategy: str, devices: str, parts: str) -> dict[str, Any]:
    """Returns how a run with the stub of cuDNN differs from the same run that is written out."""
    options = {"strategy": strategy, "devices": int(devices), "parts": int(parts)}
    told, written = _train(_config(case, platform="cpu", **options), case)
    install()
    kernels.clear()
    fused_told, fused = _train(_config(case, platform="gpu", **options), case)
    differences = [
        float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-3))
        for a, b in zip(fused, written, strict=True)
    ]
    return {
        "told": [told["attention"], fused_told["attention"]],
        "difference": max(differences),
        "kernels": kernels,
    }


def check_choices() -> dict[str, str | None]:
    """Returns the choices of runs that cannot use cuDNN, and of one that can."""
    choices = {}

    def choice(name: str, case: str, **options: Any) -> None:
        told = lookup.load_runner(_config(case, **options))().describe()
        choices[name] = told.get("attention")

    choice("no cuDNN", "transformer_causal", platform="gpu")
    install()
    choice("cuDNN", "transformer_causal", platform="gpu")
    choice("float32", "transformer_causal", platform="gpu", dtype="float32")
    choice("CPU", "transformer_causal", platform="cpu")
    choice("no attention", "mlp_plain", platform="gpu")
    checked = cudnn.check_is_flash_attention

    def narrow(query, *others, **options):
        raise NotImplementedError(f"The head dim must be 64, but got {query.shape[-1]}.\nSorry.")

    cudnn.check_is_flash_attention = narrow
    choice("a shape that cuDNN refuses", "transformer_causal", platform="gpu")
    cudnn.check_is_flash_attention = checked

    def crash(*arguments, **options):
        raise jax.errors.JaxRuntimeError("INTERNAL: cuDNN graph failed")

    lowering = mlir.lower_fun(crash, multiple_results=True)
    mlir.register_lowering(cudnn._dot_product_attention_bwd_p, lowering, platform="cpu")
    choice("a backward pass that XLA cannot compile", "transformer_causal", platform="gpu")
    return choices


if __name__ == "__main__":
    check = globals()[f"check_{sys.argv[1]}"]
    print(json.dumps(check(*sys.argv[2:])), flush=True)
    os._exit(0)
