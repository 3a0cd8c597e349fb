"""The precision of float32 products and convolutions in PyTorch."""

import torch


def set_tf32(allowed: bool) -> None:
    """Sets whether float32 products and convolutions may use TF32."""
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


def in_force() -> str:
    """Returns the precision of float32 products, as PyTorch reports it."""
    found = torch.get_float32_matmul_precision()
    without = found == "highest" and not torch.backends.cudnn.allow_tf32
    return f"{found} ({'no TF32' if without else 'TF32'})"
