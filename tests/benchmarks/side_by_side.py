"""Compares the three frameworks, and the best matrix product, on one pinned core.

Each framework has one process. The processes take turns, window by window; the others wait. The
medians name the slowest and the fastest framework. The table shows the median over rounds, with its
95 % interval (order statistics), of their ratio in one round. The share is the rate of a step in
analytic FLOP/s, divided by the best float32 rate that one of the three frameworks reaches in a
product of 1024 x 1024 matrices.
"""

import statistics

from isoscale.common.analysis.estimates import median_estimate
from isoscale.common.registry import lookup
from tests.benchmarks.ours import LANES, Workers, make_config
from tests.benchmarks.sgemm import best_rate

WINDOW_STEPS = {
    "mlp_medium": 100,
    "mlp_large": 10,
    "gpt_tiny": 4,
    "transformer_small": 6,
    "moe_tiny": 6,
}
ROUNDS = 15
LARGEST_RATIO = {"gpt_tiny": 1.20, "transformer_small": 1.20, "moe_tiny": 1.25}
LEAST_SHARE = {"gpt_tiny": 0.5}


def table_row(model: str, lane: str, rate: float) -> str:
    names = lookup.frameworks()
    configs = {name: make_config(name, model, lane) for name in names}
    workers = {name: Workers([config]) for name, config in configs.items()}
    steps = WINDOW_STEPS[model]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    try:
        for side in workers.values():
            side.window(steps)
        for index in range(ROUNDS):
            shift = index % len(names)
            for name in (*names[shift:], *names[:shift]):
                seconds[name].append(workers[name].window(steps)[0] / steps)
    finally:
        for side in workers.values():
            side.end()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    slowest, fastest = max(medians, key=medians.get), min(medians, key=medians.get)
    ratio = median_estimate(
        [a / b for a, b in zip(seconds[slowest], seconds[fastest], strict=True)]
    )
    config = configs[fastest]
    flops = config.spec.training_flops(global_batch_size=config.global_batch_size)
    shares = {name: flops / value / rate for name, value in medians.items()}
    largest, least = LARGEST_RATIO.get(model), LEAST_SHARE.get(model)
    wanted, met = [], []
    if lane == "tuned" and largest:
        wanted.append(f"at most {largest:.2f}x")
        met.append(ratio.median <= largest)
    if lane == "tuned" and least:
        wanted.append(f"at least {100 * least:.0f} %")
        met.append(min(shares.values()) >= least)
    figures = " | ".join(
        f"{1e3 * medians[name]:.2f} ({100 * shares[name]:.0f} %)" for name in names
    )
    return (
        f"| {model} | {lane} | {figures} | {slowest} / {fastest} {ratio.median:.2f}x "
        f"[{ratio.low:.2f}, {ratio.high:.2f}] | {', '.join(wanted) or '-'} "
        f"| {', '.join('yes' if entry else '**no**' for entry in met) or '-'} |"
    )


def rows():
    """Yields the lines of the table; measures each line first."""
    framework, rate = best_rate()
    yield f"Best product: {framework}, {rate / 1e9:.0f} GFLOP/s.\n"
    columns = " | ".join(f"{name}, ms/step (share)" for name in lookup.frameworks())
    yield f"| model | lane | {columns} | slowest / fastest [95 %] | target | met |"
    yield "|---" * (5 + len(lookup.frameworks())) + "|"
    for lane in LANES:
        for model in WINDOW_STEPS:
            yield table_row(model, lane, rate)
