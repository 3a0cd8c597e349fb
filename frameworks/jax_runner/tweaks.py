"""What makes JAX faster than it is out of the box; see ``common/tuning/tweaks.py``."""

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
            "XLA on CPU takes its temporary buffers from malloc in every step; above 32 MiB each "
            "comes as fresh pages, and page faults cost a fifth to a quarter of a step"
        ),
        # What a small step needs, malloc keeps.
        pays=lambda config: not has_short_steps(config),
    ),
    keep_memory(
        why=(
            "what XLA frees after a step goes back to the kernel, and comes again as fresh pages; "
            "2 to 10 % of a step on top of huge-pages, two fifths of mlp_large on two devices"
        ),
        pays=lambda config: not has_short_steps(config),
    ),
    Tweak(
        name="dense-2d",
        what="dense layers flatten [B, T, D] to [B T, D] before their product",
        why=(
            "the gradient of a 3-D product contracts two dims, for which XLA on CPU transposes "
            "both operands; a quarter of a transformer's step"
        ),
        where="models that work on sequences, on the CPU",
        needs="nothing",
        source="https://docs.jax.dev/en/latest/_autosummary/jax.lax.dot_general.html",
        applies=lambda config: config.platform == "cpu" and works_on_sequences(config),
        pays=lambda config: True,
    ),
    Tweak(
        name="kernel-gradient",
        what="a dense layer's kernel gradient is written as input^T x output gradient",
        why=(
            "the default is its transpose, and pjit adds it up over the devices before turning it "
            "round: every operation of the optimizer then reads it across its rows; a fifth to a "
            "half of an MLP's step; no difference was shown for gpt_tiny"
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
        what="attention with the heads before the sequence, [B, N, T, H], from the projections on",
        why=(
            "both products are then plain batched ones, without a transposition inside; 1 to 4 % "
            "of a step in interleaved windows"
        ),
        where="models that work on sequences, on the CPU",
        needs="nothing",
        source="https://docs.jax.dev/en/latest/_autosummary/jax.lax.dot_general.html",
        applies=lambda config: config.platform == "cpu" and works_on_sequences(config),
        pays=lambda config: True,
    ),
    Tweak(
        name="expert-major",
        what="the slots of all groups are gathered expert by expert, [E, B C, D]",
        why="one product per expert instead of transpositions around the expert dim; a sixth",
        where="mixtures of experts on the CPU",
        needs="nothing",
        source="https://docs.jax.dev/en/latest/_autosummary/jax.lax.dot_general.html",
        applies=lambda config: config.platform == "cpu" and config.spec.experts > 0,
        pays=lambda config: True,
    ),
    several_steps(
        how="jax.lax.scan over batches that lie on the device",
        why="a call costs 0.1 to 0.5 ms, whatever it computes",
        source="https://docs.jax.dev/en/latest/_autosummary/jax.lax.scan.html",
    ),
)
