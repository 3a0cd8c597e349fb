"""The plan of a study: which cells, and in which order their runs are executed."""

from collections.abc import Callable, Sequence

import numpy as np

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.run_config import RunConfig


def choose_pairs(
    frameworks: Sequence[str],
    strategies: Sequence[str] | None,
    known: dict[str, list[str]],
    *,
    frameworks_given: bool,
) -> list[tuple[str, str]]:
    """Returns the (framework, strategy) pairs of a grid.

    Args:
      frameworks: the chosen frameworks.
      strategies: the chosen strategies, each in every framework that has it; None: all.
      known: framework -> its strategies.
      frameworks_given: whether the user named the frameworks (then each must take part).

    Raises:
      ConfigError: a strategy that none of the frameworks has, or a framework left without one.
    """
    if strategies is None:
        return [(framework, name) for framework in frameworks for name in known[framework]]
    pairs = [
        (framework, name)
        for framework in frameworks
        for name in strategies
        if name in known[framework]
    ]
    for name in strategies:
        if not any(strategy == name for _, strategy in pairs):
            owners = [framework for framework, names in known.items() if name in names]
            raise ConfigError(
                f"strategy '{name}' belongs to {', '.join(owners)}; --frameworks="
                f"{','.join(frameworks)}"
            )
    idle = [f for f in frameworks if not any(framework == f for framework, _ in pairs)]
    if frameworks_given and idle:
        raise ConfigError(
            f"--strategies={','.join(strategies)} has none for framework '{idle[0]}', which has "
            f"{', '.join(known[idle[0]])}"
        )
    return pairs


def round_order(cells: int, *, seed: int, round_index: int) -> list[int]:
    """Returns the random order of the cells in a round: a function of (seed, round) alone."""
    return np.random.default_rng((seed, round_index)).permutation(cells).tolist()


def matrix_product_rate() -> float:
    """Returns this machine's float32 matrix-product rate in FLOP/s, from a tenth of a second."""
    import time

    size = 512
    a = np.ones((size, size), np.float32)
    best, end = float("inf"), time.perf_counter() + 0.1
    while time.perf_counter() < end:
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def estimate_seconds(config: RunConfig, *, rate: float) -> float:
    """Returns a rough *estimate* of a run's duration, for ``--dry_run`` and nothing else.

    Ten seconds to start and compile, and steps at a third of ``rate`` with 2 ms each of overhead;
    a further device helps nothing when cores are shared.
    """
    steps = 1 + config.warmup_steps + config.steps + config.latency_steps
    flops = config.spec.training_flops(global_batch_size=config.global_batch_size)
    return 10.0 + steps * (2e-3 + flops / (rate / 3))


def another_round_fits(
    *, used_seconds: float, run_seconds: list[float], cells: int, budget_seconds: float
) -> bool:
    """Returns whether a further complete round is expected to end within the budget.

    Args:
      used_seconds: since the study, or this session of it, began.
      run_seconds: duration of each run so far.
      cells: runs in a round.
      budget_seconds: the time budget.
    """
    if not run_seconds:
        return False
    expected = cells * sum(run_seconds) / len(run_seconds)
    return used_seconds + expected <= budget_seconds


def expand(
    pairs: Sequence[tuple[str, str]],
    *,
    models: Sequence[str],
    devices: Sequence[int],
    batches: Sequence[int | None],
    dtypes: Sequence[str],
    build: Callable[..., list[RunConfig]],
    max_devices: Callable[[str, str], int | None],
) -> list[RunConfig]:
    """Returns the cells of the grid, each validated; ``build`` gives those of one point.

    A strategy with a limit (``bare``: one device) takes part with the device counts it can do, and
    at least with its limit.
    """
    configs: list[RunConfig] = []
    for model in models:
        for dtype in dtypes:
            for batch in batches:
                for framework, strategy in pairs:
                    limit = max_devices(framework, strategy)
                    counts = [n for n in devices if limit is None or n <= limit] or [limit or 1]
                    for count in counts:
                        configs += build(
                            framework=framework,
                            strategy=strategy,
                            model=model,
                            devices=count,
                            batch=batch,
                            dtype=dtype,
                        )
    return configs
