"""Checks of one runner against itself: shares, restoring, blocks of steps, dropout."""

import numpy as np

from isoscale.common.config.model_spec import Arrays, DropoutProbe, ModelSpec
from isoscale.common.measure.runner import Placed, Runner, StepBlock
from isoscale.common.parity.compare import Comparison
from isoscale.common.parity.tolerances import (
    DEAD_SHARE_BOUND,
    ROUNDED_SHARE_BOUND,
    SMALL_NORM,
    SURPRISE_BOUND,
    Tolerance,
    absolute_differences,
    gradient_differences,
    relative_difference,
    surprise,
)
from isoscale.common.parity.trace import Layout

ITSELF = "itself"


def check_shares(
    comparison: Comparison, runner: Runner, batch: Placed, layout: Layout, bound: float | None
) -> None:
    """Checks that the unreduced gradients (one share per device) add up to the reduced ones."""
    _, (reduced,) = runner.read_gradients(runner.gradients(batch))
    _, shares = runner.read_gradients(runner.gradients(batch, sync=False))
    flat = [layout.flat(share) for share in shares]
    whole = layout.flat(reduced)
    values = gradient_differences(np.sum(flat, axis=0), whole, layout.starts)
    comparison.add_tensors("sum of unreduced gradients", 0, layout.names, values, bound)
    if len(shares) > 1:  # each share must be a part, not the reduced gradients
        same = float(np.allclose(flat[0], whole, rtol=1e-3))
        comparison.add("a share is not the whole", 0, {"": same}, 0.0)


def check_float32_sums(
    comparison: Comparison, runner: Runner, batch: Placed, spec: ModelSpec
) -> None:
    """Checks that gradients of biases and scales are float32 sums under bfloat16.

    ``ModelSpec`` states this rule. A sum taken in bfloat16, or rounded to bfloat16, has only zeros
    in the low 16 bits of its float32 value. A few float32 sums have these zeros too: for example,
    the gradient of a hidden unit that is active for one example only. So do sums that would be 0
    without rounding: terms that cancel leave few bits.
    """
    _, (gradients,) = runner.read_gradients(runner.gradients(batch))
    floor = SMALL_NORM * np.sqrt(sum(np.square(value).sum() for value in gradients.values()))
    shares = {}
    for parameter in spec.parameters():
        values = gradients[parameter.name].astype(np.float32)
        small = np.linalg.norm(values) < floor
        values = values[values != 0]
        if len(parameter.shape) == 1 and values.size and not small:
            shares[parameter.name] = float(np.mean(values.view(np.uint32) & 0xFFFF == 0))
    kind = "share of gradients rounded to bfloat16"
    comparison.add(kind, 0, shares, ROUNDED_SHARE_BOUND)


def check_alive(comparison: Comparison, gradients: np.ndarray, layout: Layout) -> None:
    """Checks that large activations leave gradients: two gradients of 0 are equal in any case.

    Args:
      comparison: takes the shares.
      gradients: flat array of all gradients.
      layout: of the flat array.
    """
    sizes = np.diff([*layout.starts, gradients.size])
    shares = np.add.reduceat(gradients == 0, layout.starts) / sizes
    kind = "gradients of exactly 0, share of a tensor"
    comparison.add_tensors(kind, 0, layout.names, shares, DEAD_SHARE_BOUND)


def check_used(comparison: Comparison, used: np.ndarray, layout: Layout, *, last_step: int) -> None:
    """Checks that every tensor has a gradient that is not 0 in some step.

    JAX gives zeros for a parameter that the model does not use; the other frameworks give nothing,
    which their runners report. One step is not enough: a model may start with a gradient of 0.

    Args:
      comparison: takes the result.
      used: for each tensor, whether an entry of its gradient differed from 0 in some step.
      layout: of the flat arrays of gradients.
      last_step: number of the last step.
    """
    kind = "no gradient, 0 in every step"
    comparison.add_tensors(kind, last_step, layout.names, np.where(used, 0.0, 1.0), 0.0)


def check_restore(comparison: Comparison, runner: Runner, batch: Placed, layout: Layout) -> None:
    """Checks that a step repeats exactly after parameters and optimizer state are restored."""
    parameters, optimizer = runner.parameters(), runner.optimizer_state()
    runner.step(batch)
    runner.wait()
    once, then = layout.flat(runner.parameters()), runner.optimizer_state()
    runner.set_parameters(parameters)
    runner.set_optimizer_state(optimizer)
    runner.step(batch)
    runner.wait()
    kind = "a step repeated after restoring"
    values = absolute_differences(layout.flat(runner.parameters()), once, layout.starts)
    comparison.add_tensors(kind, 0, layout.names, values, 0.0)
    again = runner.optimizer_state()
    for slot, arrays in again.slots.items():
        for name, value in arrays.items():
            difference = float(np.abs(value - then.slots[slot][name]).max())
            comparison.add(kind, 0, {f"{slot} of {name}": difference}, 0.0)
    comparison.add(kind, 0, {"step of step": float(abs(again.step - then.step))}, 0.0)
    # A step that changes no parameter would also repeat exactly.
    still = float(np.array_equal(once, layout.flat(parameters)))
    comparison.add("a step that moves nothing", 0, {"": still}, 0.0)


def check_block(
    comparison: Comparison,
    runner: Runner,
    batches: list[Arrays],
    layout: Layout,
    *,
    steps: int,
    tolerance: Tolerance,
) -> None:
    """Checks that a block equals its single steps, and that a rehearsal changes no parameter."""
    start, state = runner.parameters(), runner.optimizer_state()
    block = StepBlock(runner.place_pool(batches), state.step, steps)
    runner.rehearse(block)
    values = absolute_differences(
        layout.flat(runner.parameters()), layout.flat(start), layout.starts
    )
    comparison.add_tensors("rehearsal of a block", 0, layout.names, values, 0.0)
    placed = [runner.place(batch) for batch in batches]
    numbers = range(block.first, block.first + steps)
    handles = [runner.step(placed[i % len(placed)]) for i in numbers]
    one_by_one, losses = layout.flat(runner.parameters()), runner.metrics(handles)
    runner.set_parameters(start)
    runner.set_optimizer_state(state)
    together = runner.metrics([runner.step(block)])
    values = absolute_differences(layout.flat(runner.parameters()), one_by_one, layout.starts)
    kind = "block of steps, parameters"
    comparison.add_tensors(kind, 0, layout.names, values, tolerance.parameter)
    for i, row in enumerate(losses):
        relative = {n: relative_difference(together[i][n], value) for n, value in row.items()}
        comparison.add("block of steps, loss", i, relative, tolerance.loss)


def check_dropout(
    comparison: Comparison,
    runner: Runner,
    probe: DropoutProbe,
    *,
    rate: float,
    examples: int,
    dtype: str,
) -> None:
    """Checks dropout: rate, scale, independent masks, and no dropout in the forward pass.

    Args:
      comparison: takes the differences.
      runner: trains the probe's model.
      probe: makes the masks visible.
      rate: probability that an activation is dropped.
      examples: examples per step.
      dtype: of the parameters and inputs.
    """
    from scipy import stats  # late: scipy loads slowly, and a refused command needs none of it

    batch = {
        name: value.astype(dtype) if value.dtype.kind == "f" else value
        for name, value in probe.batch(examples).items()
    }
    placed = runner.place(batch)
    start = probe.start()
    masks = []
    for step in range(2):
        runner.set_parameters(start)
        runner.step(placed)
        runner.wait()
        values = probe.activations(start, runner.parameters(), examples)
        kept = np.round(values).astype(bool)
        masks.append(kept)
        scaled = np.where(kept, 1 / (1 - rate), 0.0)
        comparison.add(
            "dropout, scale of what is kept", step, {"": float(np.abs(values - scaled).max())}, 1e-4
        )
        value = surprise(stats.binomtest(int((~kept).sum()), kept.size, rate).pvalue)
        comparison.add("dropout, rate: -log10 of p", step, {"": value}, SURPRISE_BOUND)
    # Two examples (on the same device or on different ones) and two steps have independent masks:
    # two entries agree with this probability.
    agree = rate**2 + (1 - rate) ** 2
    pairs = {"two steps": (masks[0], masks[1])}
    pairs |= {f"examples 0 and {i}": (masks[0][0], masks[0][i]) for i in range(1, examples)}
    for name, (one, other) in pairs.items():
        value = surprise(stats.binomtest(int((one == other).sum()), one.size, agree).pvalue)
        kind = "dropout, masks are independent: -log10 of p"
        comparison.add(kind, 0, {name: value}, SURPRISE_BOUND)
    parameters = probe.spec.initial_parameters(seed=0)
    runner.set_parameters(parameters)
    expected, _ = probe.spec.reference_forward(parameters, batch)
    logits = runner.read_logits(runner.forward(placed))
    difference = float(np.abs(logits - expected).max())
    comparison.add("dropout, none in the forward pass alone", 0, {"": difference}, 1e-5)
