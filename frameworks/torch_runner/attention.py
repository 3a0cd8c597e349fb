"""Names the kernel that PyTorch chooses for a model's attention."""

import torch
from torch import nn
from torch.nn.attention import SDPBackend

from isoscale.common.config.run_config import RunConfig
from isoscale.models.layers.torch_layers import Attention


def kernel(model: nn.Module, config: RunConfig, *, device: torch.device) -> str | None:
    """Returns the kernels of ``scaled_dot_product_attention``, as PyTorch chooses them.

    PyTorch chooses by device, dtype, shape and mask, in every call. ``MATH`` is not fused.

    Args:
      model: the model of the run.
      config: configuration of the run.
      device: device of this process.

    Returns:
      The names of ``torch.nn.attention.SDPBackend``; None: the model has no layer of the class
      ``Attention``, or its sequences have no fixed length.
    """
    layers = [module for module in model.modules() if isinstance(module, Attention)]
    length = config.spec.sequence
    if not layers or length is None:
        return None
    dtype = getattr(torch, config.dtype)
    padded = "padding_mask" in config.spec.input_names
    names = set()
    for layer in layers:
        heads = (1, layer.num_heads, length, layer.query.out_features // layer.num_heads)
        # A choice for training; the number of examples does not matter.
        query = torch.empty(heads, dtype=dtype, device=device, requires_grad=True)
        rows = length if layer.causal else 1
        mask = torch.ones((1, 1, rows, length), dtype=torch.bool, device=device)
        choice = torch._fused_sdp_choice(
            query,
            query,
            query,
            attn_mask=mask if padded else None,
            is_causal=layer.causal and not padded,
        )
        names.add(SDPBackend(choice).name)
    return f"scaled_dot_product_attention ({', '.join(sorted(names))})"
