"""The plan of a study: its cells, and the order in which their runs are executed."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from isoscale.common.config.cell import Cell
from isoscale.common.config.errors import ConfigError
from isoscale.common.config.run_config import RunConfig

MOST_CELLS = 5000
"""Most cells of a grid: one round of so many runs of ten seconds takes 14 hours."""


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
      strategies: the chosen strategies; each is used in every framework that has it; None: all.
      known: framework -> its strategies.
      frameworks_given: whether the user named the frameworks; each then needs a strategy.

    Raises:
      ConfigError: no chosen framework has one of the strategies, or a named framework has no chosen
        strategy.
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
                f"strategy '{name}' belongs to {', '.join(owners)}, but --frameworks="
                f"{','.join(frameworks)}; add {owners[0]} to --frameworks, or remove {name}"
            )
    idle = [f for f in frameworks if not any(framework == f for framework, _ in pairs)]
    if frameworks_given and idle:
        raise ConfigError(
            f"--strategies={','.join(strategies)} names no strategy of framework '{idle[0]}'; "
            f"allowed: {', '.join(known[idle[0]])}"
        )
    return pairs


_NOT_IN_GROUP = (
    "framework",
    "strategy",
    "devices",
    "processes",
    "mesh",
    "oversubscribed",
    "compile_mode",
    "steps_per_dispatch",
    "tuning",
    "tweaks",
    "independent",
    "global_batch_size",
)


def group_key(cell: Cell, *, scaling: str) -> tuple[str, int]:
    """Returns what the cells of a group share: runs of one group take turns.

    Args:
      cell: the cell.
      scaling: ``strong``: the global batch is shared; ``weak``: the batch of a device;
        ``strong,weak``: no batch is shared, because a cell on one device is the base of both.
    """
    batches = {"strong": cell.global_batch_size, "weak": cell.global_batch_size // cell.devices}
    return cell.without(*_NOT_IN_GROUP), batches.get(scaling, 0)


def round_order(cells: int, *, seed: int, round_index: int) -> list[int]:
    """Returns the cell indices of a round in random order; (seed, round) determine the order."""
    return np.random.default_rng((seed, round_index)).permutation(cells).tolist()


def matrix_product_rate() -> float:
    """Returns this machine's float32 matrix-product rate in FLOP/s: the best within 0.1 s."""
    import time

    size = 512
    a = np.ones((size, size), np.float32)
    best, end = float("inf"), time.perf_counter() + 0.1
    while time.perf_counter() < end:
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def estimate_seconds(config: RunConfig, *, rate: float, rounds: int = 0) -> float:
    """Returns a rough *estimate* of a run's duration in seconds; only ``--dry_run`` shows it.

    The estimate is ten seconds to start and compile, plus the steps at a third of ``rate`` with
    2 ms of overhead each. More devices do not lower the estimate: they may share cores.

    Args:
      config: the run.
      rate: float32 matrix-product rate in FLOP/s.
      rounds: rounds of a group of runs that take turns; 0: the run is alone.
    """
    if rounds:  # warm-up takes one or two windows, and each turn begins with unclocked steps
        return 10.0 + config.min_seconds * (2 + 1.2 * rounds)
    steps = config.total_steps
    flops = config.spec.training_flops(global_batch_size=config.global_batch_size)
    return 10.0 + steps * (2e-3 + flops / (rate / 3))


def another_round_fits(
    *, used_seconds: float, run_seconds: list[float], cells: int, budget_seconds: float
) -> bool:
    """Returns whether a further complete round should end within the budget.

    Args:
      used_seconds: time since this session of the study began.
      run_seconds: duration of each run so far, in seconds.
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
    sizes: Mapping[str, Sequence[Any]],
    scalings: Sequence[str],
    build: Callable[..., list[RunConfig]],
    max_devices: Callable[[str, str], int | None],
) -> list[RunConfig]:
    """Returns the validated cells of the grid.

    A strategy with a device limit (``bare``: one device) gets the device counts up to its limit; if
    all counts exceed the limit, the strategy gets the limit.

    Args:
      pairs: (framework, strategy) pairs.
      models: names of presets.
      devices: device counts.
      batches: global batch sizes; None: the model's.
      dtypes: names of dtypes.
      sizes: size of a model -> its values; each combination makes cells.
      scalings: ``strong``, ``weak`` or both; cells that both have come once.
      build: returns the cells of one point of the grid.
      max_devices: (framework, strategy) -> device limit; None: no limit.

    Raises:
      ConfigError: the grid has more cells than ``MOST_CELLS``.
    """

    def counts_of(pair: tuple[str, str]) -> list[int]:
        limit = max_devices(*pair)
        return [n for n in devices if limit is None or n <= limit] or [limit or 1]

    counts = {pair: counts_of(pair) for pair in pairs}
    combined = math.prod(map(len, sizes.values()))
    points = len(models) * len(dtypes) * len(batches) * sum(map(len, counts.values()))
    _check_cells(points * combined)
    found: dict[str, RunConfig] = {}
    combinations = itertools.product(*sizes.values())
    grid = itertools.product(models, combinations, dtypes, batches, scalings, pairs)
    for model, values, dtype, batch, scaling, (framework, strategy) in grid:
        for count in counts[framework, strategy]:
            for config in build(
                framework=framework,
                strategy=strategy,
                model=model,
                sizes=dict(zip(sizes, values, strict=True)),
                devices=count,
                batch=batch,
                scaling=scaling,
                dtype=dtype,
            ):
                found.setdefault(config.cell().id, config)
            _check_cells(len(found))
    return list(found.values())


def _check_cells(cells: int) -> None:
    if cells > MOST_CELLS:
        raise ConfigError(
            f"the grid has {cells} cells or more; at most {MOST_CELLS} are allowed: name fewer "
            "models, strategies, --devices, --global_batch_size, --dtype, --tuning or sizes"
        )
