"""The tweaks of JAX; see ``common/tuning/tweaks.py``."""

from isoscale.common.tuning.shared import (
    has_short_steps,
    huge_pages,
    keep_memory,
    several_steps,
    works_on_sequences,
)
from isoscale.common.tuning.tweaks import Tweak

TWEAKS = (
    huge_pages(
        why=(
            "in every step, XLA on CPU gets its temporary buffers from malloc; each buffer above "
            "32 MiB has new pages, and page faults cost a fifth to a quarter of a step"
        ),
        # malloc keeps the memory of a small step.
        pays=lambda config: not has_short_steps(config),
    ),
    keep_memory(
        why=(
            "after a step, XLA frees memory and malloc returns this memory to Linux; the next step "
            "gets new pages; saves 2 to 10 % of a step in addition to huge-pages, two fifths for "
            "mlp_large on two devices"
        ),
        pays=lambda config: not has_short_steps(config),
    ),
    Tweak(
        name="dense-2d",
        what="dense layers flatten [B, T, D] to [B T, D] before their product",
        why=(
            "the gradient of a 3-D product contracts two dims; XLA on CPU then transposes both "
            "operands; saves a quarter of a transformer's step"
        ),
        where="models that work on sequences, on the CPU",
        needs="nothing",
        source="https://docs.jax.dev/en/latest/_autosummary/jax.lax.dot_general.html",
        applies=lambda config: config.platform == "cpu" and works_on_sequences(config),
        pays=lambda config: True,
    ),
    Tweak(
        name="kernel-gradient",
        what="computes a dense layer's kernel gradient as input^T x output gradient",
        why=(
            "by default JAX computes the transposed gradient; pjit sums the transposed gradient "
            "over the devices, then XLA transposes the sum back; every operation of the optimizer "
            "then reads the gradient across its rows; saves a fifth to a half of an MLP's step; "
            "measurements showed no difference "
            "for gpt_tiny"
        ),
        where="strategy pjit on several CPU devices",
        needs="nothing",
        source="https://docs.jax.dev/en/latest/notebooks/Custom_derivative_rules_for_Python_code.html",
        applies=lambda config: (
            config.platform == "cpu" and config.strategy == "pjit" and config.devices > 1
        ),
        pays=lambda config: not works_on_sequences(config),
    ),
    Tweak(
        name="attention-bhsd",
        what="attention with heads before the sequence: the projections already give [B, N, T, H]",
        why=(
            "both products are then plain batched products without a transposition; saves 1 to 4 % "
            "of a step, measured in interleaved windows"
        ),
        where="models that work on sequences, on the CPU",
        needs="nothing",
        source="https://docs.jax.dev/en/latest/_autosummary/jax.lax.dot_general.html",
        applies=lambda config: config.platform == "cpu" and works_on_sequences(config),
        pays=lambda config: True,
    ),
    Tweak(
        name="expert-major",
        what="gathers the slots of all groups expert by expert: [E, B C, D]",
        why=(
            "one product per expert replaces transpositions around the expert dim; saves a sixth "
            "of a step"
        ),
        where="mixtures of experts on the CPU",
        needs="nothing",
        source="https://docs.jax.dev/en/latest/_autosummary/jax.lax.dot_general.html",
        applies=lambda config: config.platform == "cpu" and config.spec.experts > 0,
        pays=lambda config: True,
    ),
    several_steps(
        how="jax.lax.scan over batches on the device",
        why="each call costs 0.1 to 0.5 ms, independent of its computation",
        source="https://docs.jax.dev/en/latest/_autosummary/jax.lax.scan.html",
    ),
)
