"""Measures the cost of distributing a step: two devices against two independent one-device runs.

Weak scaling: each device trains the model's batch. The two independent runs (``bare``, one pinned
core each) start each window together, and only these windows count. The sum of their throughputs is
the limit of the hardware. The distributed run takes its turn between these windows; while it runs,
the others wait. The table shows the median over rounds, with its 95 % interval (order statistics),
of the distributed run's share of that limit in one round.
"""

from isoscale.common.analysis.estimates import median_estimate
from isoscale.common.registry import lookup
from tests.benchmarks.ours import LANES, Workers, make_config

TARGETS = {
    ("gpt_tiny", "pjit"): 0.75,
    ("gpt_tiny", "pmap"): 0.75,
    ("gpt_tiny", "ddp"): 0.75,
    ("gpt_tiny", "mirrored"): 0.95,
    ("mlp_large", "pjit"): 0.5,
    ("mlp_large", "pmap"): 0.5,
    ("mlp_large", "mirrored"): 0.5,
    ("mlp_large", "ddp"): None,
}
ROUNDS = 15
STEPS = {"gpt_tiny": 4, "mlp_large": 8}
HEADER = (
    "| framework | strategy | lane | model | independent, ms/step | two devices, ms/step "
    "| share of what the hardware allows [95 %] | target | met |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def table_row(framework: str, strategy: str, model: str, lane: str) -> str:
    alone = make_config(framework, model, lane)
    independent = Workers([alone, alone])
    steps = STEPS[model]
    shares, both, one = [], [], []
    together = None
    try:
        together = Workers([make_config(framework, model, lane, strategy=strategy)])
        for side in (independent, together):
            side.window(4)
        for index in range(ROUNDS):
            order = (independent, together) if index % 2 else (together, independent)
            seconds = {side: side.window(steps) for side in order}
            # Steps on one device's batch per second, summed over the two devices.
            allowed = sum(steps / s for s in seconds[independent])
            shares.append(2 * steps / max(seconds[together]) / allowed)
            both.append(1e3 * max(seconds[together]) / steps)
            one += [1e3 * s / steps for s in seconds[independent]]
    finally:
        independent.end()
        if together:
            together.end()
    share, target = median_estimate(shares), TARGETS[model, strategy]
    wanted = "-" if target is None else f"{100 * target:.0f} %"
    met = "-" if target is None else "yes" if share.median >= target else "**no**"
    return (
        f"| {framework} | {strategy} | {lane} | {model} | {median_estimate(one).median:.1f} "
        f"| {median_estimate(both).median:.1f} | {100 * share.median:.0f} % "
        f"[{100 * share.low:.0f}, {100 * share.high:.0f}] | {wanted} | {met} |"
    )


def rows():
    """Yields the lines of the table; measures each line first."""
    yield HEADER
    for lane in LANES:
        for framework in lookup.frameworks():
            for model, strategy in TARGETS:
                if strategy in lookup.strategies(framework):
                    yield table_row(framework, strategy, model, lane)
