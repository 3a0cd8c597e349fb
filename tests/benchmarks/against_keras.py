"""Compares the speed of isoscale's runners with Keras 3 on the same backend and the same model.

Each framework, lane and model has a fresh process on one pinned core: float32, AdamW, ``bare``. In
the process the runner, Keras's ``train_on_batch`` and Keras's ``fit`` alternate, window by window,
in rotating order. All use the same environment, batches and start values; the benchmark compares
their losses first. If the runner issues blocks of steps, ``fit`` gets the same number of steps per
execution. On TensorFlow, Keras runs with XLA (its default) and without. The table shows the median
over rounds, with its 95 % interval (order statistics), of the ratio between Keras's fastest way and
the runner in one round: drift of the machine cancels.
"""

import math
import statistics
import time
from collections import deque
from collections.abc import Callable

from isoscale.common.analysis.estimates import median_estimate
from isoscale.common.registry import lookup
from tests.benchmarks.ours import LANES, Ours, answer_as_child, make_config, measure_in_child

MODELS = ("mlp_medium", "mlp_large", "gpt_tiny", "transformer_small", "moe_tiny")
ROUNDS = 10
WINDOW_SECONDS = 0.5
WARMUP = 10
"""One block of steps of the tuned lane."""


def target(framework: str, lane: str, model: str) -> float | None:
    """Returns how many times as fast as Keras the runner must be; None: no target."""
    if framework == "jax":
        if model.startswith("mlp"):
            return 0.98
        return 1.4 if lane == "tuned" and model in ("gpt_tiny", "transformer_small") else None
    if framework == "tensorflow":
        return 1.5 if model == "mlp_medium" else 1.0
    return 1.15 if model == "gpt_tiny" else 1.5


def _steps_of_a_window(side: Callable[[int, int], tuple[float, float]]) -> int:
    """Returns the number of steps in a window, a multiple of ``WARMUP``."""
    side(0, WARMUP)
    count = WARMUP
    while (seconds := side(0, count)[0]) < 0.8 * WINDOW_SECONDS:  # a call may cost more than a step
        count = WARMUP * math.ceil(count / WARMUP * min(4.0, WINDOW_SECONDS / seconds))
    return count


def measure(framework: str, lane: str, model: str) -> dict:
    """Runs the rounds of one framework, lane and model in this process.

    Returns:
      ``seconds`` per step in each round, for ``ours`` and for each way of Keras; and the relative
      difference between Keras's loss and ours, at the first step and in the mean of the next ones.
    """
    runner = Ours(make_config(framework, model, lane))
    from tests.benchmarks.keras_models import make_step  # after the runner has set up its devices

    def ours(first: int, steps: int) -> tuple[float, float]:
        del first  # the runner counts its steps
        seconds, losses = runner.window(steps)
        return seconds, sum(losses) / steps

    def timed(step: Callable[[int, int], float]) -> Callable[[int, int], tuple[float, float]]:
        def window(first: int, steps: int) -> tuple[float, float]:
            start = time.perf_counter()
            loss = step(first, steps)
            return time.perf_counter() - start, loss

        return window

    sides = {"ours": ours}
    initial = runner.config.spec.initial_parameters(seed=0)
    block = runner.config.steps_per_dispatch
    modes: dict[str, str | bool] = {"": "auto"}
    if framework == "tensorflow":
        modes[", no XLA"] = False  # XLA is Keras's default there, and does not suit every model
    for mark, mode in modes.items():
        ways = make_step(
            model, initial, runner.batches, steps_per_execution=block, jit_compile=mode
        )
        sides |= {name + mark: timed(step) for step, name in ways}

    # Both ways of Keras train one model: the first way makes the first step, the other the next.
    first = sides["train_on_batch"](0, 1)[1] / sides["ours"](0, 1)[1]
    later = sides["fit"](1, WARMUP)[1] / sides["ours"](1, WARMUP)[1]
    counts = {name: _steps_of_a_window(side) for name, side in sides.items()}
    done = dict.fromkeys(sides, 0)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    order = deque(sides)
    for _ in range(ROUNDS):
        for name in order:
            seconds[name].append(sides[name](done[name], counts[name])[0] / counts[name])
            done[name] += counts[name]
        order.rotate()
    return {
        "seconds": seconds,
        "first_loss_difference": abs(first - 1),
        "later_loss_difference": abs(later - 1),
    }


def table_row(framework: str, lane: str, model: str) -> str:
    """Measures in a fresh process; returns the line of the table."""
    found = measure_in_child("tests.benchmarks.against_keras", framework, lane, model)
    first, later = found["first_loss_difference"], found["later_loss_difference"]
    # Keras's Adam adds its epsilon elsewhere, so the losses differ slightly after the first step.
    assert first < 1e-4, f"{framework} {lane} {model}: not the same model: {first}"
    assert later < 1e-3, f"{framework} {lane} {model}: not the same update: {later}"
    seconds: dict[str, list[float]] = found["seconds"]
    typical = {name: 1e3 * statistics.median(values) for name, values in seconds.items()}
    ours = typical.pop("ours")
    way, *others = sorted(typical, key=typical.__getitem__)
    slower = ", ".join(f"{name} {typical[name]:.3f}" for name in others)
    pairs = zip(seconds[way], seconds["ours"], strict=True)
    ratio = median_estimate([keras / ours for keras, ours in pairs])
    goal = target(framework, lane, model)
    met = "-" if goal is None else "yes" if ratio.median >= goal else "**no**"
    return (
        f"| {framework} | {lane} | {model} | {typical[way]:.3f} ({way}; {slower}) | {ours:.3f} "
        f"| {ratio.median:.3f} [{ratio.low:.3f}, {ratio.high:.3f}] | {goal or '-'} | {met} |"
    )


def rows():
    """Yields the lines of the table; measures each line first."""
    yield (
        "| framework | lane | model | Keras, ms/step (way) | runner, ms/step "
        "| runner is x times as fast [95 %] | target | met |\n|---|---|---|---|---|---|---|---|"
    )
    for framework in lookup.frameworks():
        for lane in LANES:
            for model in MODELS:
                yield table_row(framework, lane, model)
    yield f"\nn = {ROUNDS} rounds of windows of about {WINDOW_SECONDS} s, {WARMUP} steps at least."


if __name__ == "__main__":
    answer_as_child(measure)
