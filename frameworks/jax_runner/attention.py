"""Chooses the kernel of a model's attention: cuDNN's fused kernel where it runs, else written out.

Dims: B batch, T query sequence, S key sequence, N num_heads, H head_dim.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from isoscale.common.config.errors import in_one_line
from isoscale.common.config.model_spec import FeatureBatch
from isoscale.common.config.run_config import RunConfig
from isoscale.frameworks.jax_runner.strategy import Strategy, Tree
from isoscale.models.layers.flax_layers import Attention, fused_attention

_FUSED_DTYPE = "bfloat16"
_LONGEST_REASON = 200
"""Characters of an error that the record of a run keeps."""


class Call(NamedTuple):
    """The shapes with which a layer calls its attention, and the kind of the mask.

    Attributes:
      query_BTNH, key_BSNH: shapes; B counts the examples of one device's step, or of one part of it
        with gradient accumulation.
      padded: whether the call has a padding mask.
      causal: whether positions attend only to themselves and earlier positions.
    """

    query_BTNH: tuple[int, ...]
    key_BSNH: tuple[int, ...]
    padded: bool
    causal: bool


def choose(model: nnx.Module, config: RunConfig, *, strategy: Strategy) -> str | None:
    """Sets the kernel of every attention layer, once and for all ranks alike.

    In bfloat16 on a GPU, compiles and runs cuDNN's kernel forward and backward, for every shape
    with which the model calls it. The layers use the kernel if all of this works.

    Args:
      model: the abstract model (``nnx.eval_shape``); the function changes its layers.
      config: configuration of the run.
      strategy: spreads the trial over the devices like a step.

    Returns:
      The kernel, and the reason if it is not cuDNN's; None: the model has no layer of the class
      ``Attention``.
    """
    layers = [module for _, module in nnx.iter_modules(model) if isinstance(module, Attention)]
    if not layers:
        return None
    if config.platform != "gpu":
        return "written out"
    if config.dtype != _FUSED_DTYPE:
        return f"written out (cuDNN's kernel is for {_FUSED_DTYPE}, not {config.dtype})"
    failures = strategy.gather(_failure(model, config, strategy))
    failure = next((reason for reason in failures if reason is not None), None)
    if failure is not None:
        return f"written out (cuDNN's kernel failed: {failure})"
    for layer in layers:
        layer.attend = fused_attention
    return f"cuDNN's fused kernel ({_FUSED_DTYPE})"


def _failure(model: nnx.Module, config: RunConfig, strategy: Strategy) -> str | None:
    """Returns why cuDNN's kernel cannot compute the model's attention here; None: it can."""
    try:
        for call in sorted(calls(model, config)):
            _try(call, config, strategy)
    # JAX refuses shapes, XLA and cuDNN whole machines: ValueError, or a kind of RuntimeError.
    except (RuntimeError, ValueError) as error:
        return in_one_line(error)[:_LONGEST_REASON]
    return None


def calls(model: nnx.Module, config: RunConfig) -> set[Call]:
    """Returns the calls of attention in one forward pass of one device; computes nothing."""
    found: set[Call] = set()

    def note(
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        padding_mask_BS: jax.Array | None,
        *,
        causal: bool,
    ) -> jax.Array:
        del value
        found.add(Call(query.shape, key.shape, padding_mask_BS is not None, causal))
        return query

    noting = nnx.clone(model)
    for _, module in nnx.iter_modules(noting):
        if isinstance(module, Attention):
            module.attend = note
    nnx.eval_shape(lambda noting, inputs: noting(*inputs), noting, _inputs(config))
    return found


def _inputs(config: RunConfig) -> list[jax.ShapeDtypeStruct]:
    """Returns shapes and dtypes of the model's inputs on one device."""
    rows = config.global_batch_size // config.devices // config.gradient_accumulation_steps
    kind = config.spec.batch_kind()
    if isinstance(kind, FeatureBatch):
        known = {"inputs": ((rows, kind.input_size), jnp.dtype(config.parameter_dtype))}
    else:
        shape = (rows, kind.sequence_length)
        known = {"tokens": (shape, jnp.dtype("int32")), "padding_mask": (shape, jnp.dtype("bool"))}
    return [jax.ShapeDtypeStruct(*known[name]) for name in config.spec.input_names]


def _try(call: Call, config: RunConfig, strategy: Strategy) -> None:
    """Computes attention and its gradients once on the devices of the run.

    Raises:
      RuntimeError, ValueError: cuDNN's kernel cannot compute them.
    """

    def compute(state: Tree, batch: Tree) -> Any:
        del state

        def attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
            return fused_attention(query, key, value, batch.get("mask"), causal=call.causal)

        result, pull = jax.vjp(attend, batch["query"], batch["key"], batch["value"])
        return result, pull(batch["query"])

    def zeros(shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros((config.devices * shape[0], *shape[1:]), jnp.dtype(config.dtype))

    batch = {"query": zeros(call.query_BTNH), "key": zeros(call.key_BSNH)}
    batch["value"] = batch["key"]
    if call.padded:
        batch["mask"] = np.ones(batch["key"].shape[:2], bool)
    run = strategy.wrap(compute, call="forward")
    jax.block_until_ready(run({}, strategy.place_batch(batch)))
