"""Simulated studies that plan their time by variances which they learn themselves."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from isoscale.common.analysis import allocation, turns, variances
from isoscale.common.analysis.turns import Array
from isoscale.common.analysis.variances import Components
from isoscale.common.study.pace import FIRST_GROUPS, LEAST_ROUNDS
from tests.benchmarks.noise import DRIFT, Noise, draw
from tests.benchmarks.studies import EQUAL, PLANNED, differences

# Seconds of a plan: all groups, the start of one, one round of all cells.
BUDGET, START, ROUND = 600.0, 20.0, 3.0
FIRST_ROUNDS = 10

Variance = Callable[[Array], Array]
"""Number of rounds -> variance of the mean log ratio of a group."""


def true_variance(noise: Noise, random: np.random.Generator) -> Variance:
    """Returns the function: rounds -> true variance of a group's mean log ratio."""
    quiet = dataclasses.replace(noise, process=0.0)
    counts = np.array([3, 4, 5, 7, 10, 15, 25, 50, 100])
    each = [
        float(n)
        * turns.trimmed_mean(
            differences(
                draw(
                    quiet,
                    random,
                    studies=4000,
                    levels=(0.0, 0.0),
                    groups=1,
                    rounds=int(n),
                    change=0.0,
                ),
                ((0, 1),),
            )
        ).var()
        for n in counts
    ]
    return lambda rounds: 2 * noise.process**2 + np.interp(rounds, counts, each) / rounds


def true_half(width: Variance, rounds: list[int]) -> float:
    """Returns the half-width that is expected from groups with these numbers of rounds."""
    spread = math.sqrt(float(np.sum(width(np.array(rounds, float))))) / len(rounds)
    return turns.t_quantile(len(rounds) - 1) * spread


def best_plan(width: Variance) -> list[int]:
    """Returns the rounds of each group of the plan with the shortest interval."""
    options = [
        [rounds] * groups
        for groups in range(3, int(BUDGET / (START + LEAST_ROUNDS * ROUND)) + 1)
        if (rounds := int((BUDGET / groups - START) / ROUND)) >= LEAST_ROUNDS
    ]
    return min(options, key=lambda rounds: true_half(width, rounds))


def ratios_of(noise: Noise, random: np.random.Generator, groups: int, rounds: int) -> Array:
    """Returns log ratios in a part of a study of equal cells, (1, pairs, groups, rounds)."""
    change = DRIFT * groups * (START + rounds * ROUND) / BUDGET
    times = draw(
        noise, random, studies=1, levels=EQUAL, groups=groups, rounds=rounds, change=change
    )
    return differences(times, PLANNED)


def planned_studies(
    noise: Noise, random: np.random.Generator, number: int, width: Variance
) -> tuple[Array, float]:
    """Returns each plan's true half-width, and the coverage of its intervals."""
    halves, covered = [], []
    rest = BUDGET - FIRST_GROUPS * (START + FIRST_ROUNDS * ROUND)
    for _ in range(number):
        ratios = ratios_of(noise, random, FIRST_GROUPS, FIRST_ROUNDS)
        within, between = (part[0] for part in variances.component_arrays(ratios))
        plan = allocation.split(
            [
                Components(within=float(w), between=float(b), groups=FIRST_GROUPS)
                for w, b in zip(within, between, strict=True)
            ],
            budget=rest,
            start_seconds=START,
            round_seconds=ROUND,
            least_rounds=LEAST_ROUNDS,
            done=[FIRST_ROUNDS] * FIRST_GROUPS,
        )
        means = turns.trimmed_mean(ratios)
        if plan.groups:
            later = ratios_of(noise, random, plan.groups, plan.rounds)
            means = np.concatenate([means, turns.trimmed_mean(later)], axis=-1)
        center, error, degrees = turns.over_groups(means)
        half = turns.t_quantile(float(degrees.flat[0])) * error
        covered.append(float((np.abs(center) <= half).mean()))
        rounds = [FIRST_ROUNDS] * FIRST_GROUPS + [plan.rounds] * plan.groups
        halves.append(true_half(width, rounds))
    return np.array(halves), float(np.mean(covered))
