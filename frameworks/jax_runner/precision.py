"""The precision of float32 products in JAX."""

import jax


def set_tf32(allowed: bool) -> None:
    """Sets whether float32 products may use TF32; ``high`` uses TF32 where the GPU has it.

    Source: the documentation of ``jax.lax.Precision``.
    """
    jax.config.update("jax_default_matmul_precision", "high" if allowed else "highest")


def in_force() -> str:
    """Returns the precision of float32 products, as JAX reports it."""
    found = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return f"{found} ({'no TF32' if found == 'highest' else 'TF32'})"
