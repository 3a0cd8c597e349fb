"""Simulates studies of cells that take turns, and counts how often the statistics are right.

Each simulated study has six cells: three frameworks, each on one device and with a strategy. The
planned comparisons are all pairs of frameworks and each strategy against its base. Noise of windows
has the parameters that were fitted to recorded windows (`tests/benchmarks/windows.json`), with
processes that differ by 1, 3 and 5 % (standard deviation) and a drift of 10 % over each study. The
functions judged are those of the product. A true difference is 5 %, and so is the margin. Errors
are counted by study (at least one wrong answer), power by comparison, both after the correction.
"""

import dataclasses
import itertools
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from isoscale.common.analysis import answers, turns
from tests.benchmarks import crossovers, plans, studies
from tests.benchmarks.noise import DRIFT, Noise, draw
from tests.benchmarks.studies import AT_MARGIN, EQUAL, FRAMEWORKS, PLANNED, differences, truths

WINDOWS = Path(__file__).with_name("windows.json")
MISSING = (
    "tests/benchmarks/windows.json is missing: record windows on this machine with "
    "'python -m tests.benchmarks.record', then repeat"
)
PROCESS = (0.01, 0.03, 0.05)
GROUPS = (3, 4, 6, 8)
ROUNDS = (5, 10, 25)
STUDIES, LEAST_STUDIES = 24000, 2000
"""Simulated studies for each line, divided between recordings; least number for one recording."""
TARGET = 0.03
MOST_GROUPS = 40
DIFFERENT_PAIRS = tuple(np.flatnonzero(truths(AT_MARGIN)))

Noises = Mapping[str, Noise]


def read_noises(path: Path = WINDOWS) -> dict[str, Noise]:
    """Returns "machine, model" -> parameters; empty if nothing was recorded.

    Raises:
      KeyError, TypeError, ValueError: the file is damaged.
    """
    if not path.exists():
        return {}
    return {
        f"{entry['machine']}, {entry['model']}": Noise(**entry["noise"])
        for entry in json.loads(path.read_text())
    }


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f}"


def span(values: list[float]) -> str:
    """Returns mean and range over recordings, in percent."""
    text = percent(float(np.mean(values)))
    return text if len(values) == 1 else f"{text} [{percent(min(values))}, {percent(max(values))}]"


def with_process(noises: Noises, process: float) -> list[Noise]:
    return [dataclasses.replace(noise, process=process) for noise in noises.values()]


def fixed_rows(noises: Noises, random: np.random.Generator, number: int) -> Iterator[str]:
    """Yields the table for fixed numbers of groups and rounds."""
    yield (
        "| processes differ by, % | groups | rounds | coverage, % | half-width, % "
        "| equal called different, % of studies | called the same at the margin, % of studies "
        "| power for 5 %, % | equal called the same, % |"
    )
    yield "|---" * 9 + "|"
    for process, groups, rounds in itertools.product(PROCESS, GROUPS, ROUNDS):
        found: list[tuple[float, ...]] = []
        for noise in with_process(noises, process):
            equal, apart = (
                studies.simulate(
                    noise, random, studies=number, groups=groups, rounds=rounds, levels=levels
                )
                for levels in (EQUAL, AT_MARGIN)
            )
            found.append(
                (
                    float(np.mean([equal.covered.mean(), apart.covered.mean()])),
                    float(equal.half.mean()),
                    float(equal.different.any(axis=1).mean()),
                    float(apart.same[:, DIFFERENT_PAIRS].any(axis=1).mean()),
                    float(apart.different[:, DIFFERENT_PAIRS].mean()),
                    float(equal.same.mean()),
                )
            )
        figures = " | ".join(span(list(column)) for column in zip(*found, strict=True))
        yield f"| {percent(process, 0)} | {groups} | {rounds} | {figures} |"


def target_rows(noises: Noises, random: np.random.Generator, number: int) -> Iterator[str]:
    """Yields the table of studies that stop when their intervals are narrow enough."""
    yield (
        f"Studies with `--target_ci={percent(TARGET, 0)}%`, 10 rounds a group, at most "
        f"{MOST_GROUPS} groups, by Stein's rule; for comparison usual intervals with a look after "
        "each group, which are not used. Of all planned ratios, and of a study with one ratio.\n"
    )
    yield (
        "| processes differ by, % | groups of the first stage | coverage, % "
        "| narrow enough in time, % | groups, median | one ratio: coverage, % "
        "| with looks: coverage, % | one ratio with looks: coverage, % |"
    )
    yield "|---" * 8 + "|"
    for process in PROCESS:
        means = [
            turns.trimmed_mean(
                differences(
                    draw(
                        noise,
                        random,
                        studies=number,
                        levels=AT_MARGIN,
                        groups=MOST_GROUPS,
                        rounds=10,
                    ),
                    PLANNED,
                )
            )
            for noise in with_process(noises, process)
        ]
        truth = truths(AT_MARGIN)
        for first in (4, 6, 8):
            found = []
            for each in means:
                many, one = (
                    studies.stein_stops(part, goal, first=first, target=TARGET)
                    for part, goal in ((each, truth), (each[:, :1], truth[:1]))
                )
                looks = studies.naive_stops(each, truth, first=first, target=TARGET)
                alone = studies.naive_stops(each[:, :1], truth[:1], first=first, target=TARGET)
                found.append((many, one, looks, alone))
            yield (
                f"| {percent(process, 0)} | {first} "
                f"| {span([float(f[0].judged.covered.mean()) for f in found])} "
                f"| {span([float(f[0].reached.mean()) for f in found])} "
                f"| {np.mean([np.median(f[0].groups) for f in found]):.0f} "
                f"| {span([float(f[1].judged.covered.mean()) for f in found])} "
                f"| {span([f[2] for f in found])} | {span([f[3] for f in found])} |"
            )


def split_rows(noises: Noises, random: np.random.Generator, number: int) -> Iterator[str]:
    """Yields the table of plans that learn the variances from their own first groups."""
    yield (
        f"Plans for {plans.BUDGET:.0f} s (start of a group {plans.START:.0f} s, a round "
        f"{plans.ROUND:.0f} s): after {plans.FIRST_GROUPS} groups of {plans.FIRST_ROUNDS} rounds, "
        "`split` divides the rest by the variances estimated from them. The best plan knows the "
        "true variances from the start. Coverage is that of the interval over all groups.\n"
    )
    yield (
        "| recorded | processes differ by, % | best plan, groups x rounds | its half-width, % "
        "| half-width of plans / best, mean | 95 % of plans at most | coverage, % |"
    )
    yield "|---" * 7 + "|"
    for (name, noise), process in itertools.product(noises.items(), PROCESS):
        noise = dataclasses.replace(noise, process=process)
        width = plans.true_variance(noise, random)
        best = plans.best_plan(width)
        halves, covered = plans.planned_studies(noise, random, number, width)
        ratios = halves / plans.true_half(width, best)
        yield (
            f"| {name} | {percent(process, 0)} | {len(best)} x {best[0]} "
            f"| {percent(plans.true_half(width, best))} | {ratios.mean():.3f} "
            f"| {np.quantile(ratios, 0.95):.3f} | {percent(covered)} |"
        )


def family_rows(noises: Noises, random: np.random.Generator, number: int) -> Iterator[str]:
    """Yields the table on the comparison of the fastest framework with the others."""
    yield (
        "Three equal frameworks, 10 rounds a group: share of studies, %, in which a difference is "
        "called if Holm corrects only the two pairs with the fastest, and if it corrects all three "
        "pairs (used).\n"
    )
    yield "| processes differ by, % | groups | two pairs | three pairs |"
    yield "|---" * 4 + "|"
    pairs_of = np.array([[0, 1], [0, 2], [1, 2]])  # of each framework, in FRAMEWORKS
    for process, groups in itertools.product(PROCESS, GROUPS):
        two, three = [], []
        for noise in with_process(noises, process):
            times = draw(
                noise, random, studies=2 * number, levels=EQUAL[:3], groups=groups, rounds=10
            )
            center, error, degrees = turns.over_groups(
                turns.trimmed_mean(differences(times, FRAMEWORKS))
            )
            p = turns.two_sided(center / error, degrees)
            fastest = turns.trimmed_mean(times).mean(axis=-1).argmin(axis=1)
            shown = np.take_along_axis(p, pairs_of[fastest], axis=1)
            for family, called in ((shown, two), (p, three)):
                wrong = (answers.holm(family) <= answers.LEVEL).any(axis=1)
                called.append(float(wrong.mean()))
        yield f"| {percent(process, 0)} | {groups} | {span(two)} | {span(three)} |"


def alone_rows(noises: Noises, random: np.random.Generator, number: int) -> Iterator[str]:
    """Yields the table of intervals from the rounds of one or two groups."""
    yield (
        'Coverage, %, of intervals "for these processes" from the rounds of one or two groups, '
        "with the recorded correlation of rounds and with 0.6.\n"
    )
    yield "| groups | rounds | as recorded | correlation 0.6 |"
    yield "|---" * 4 + "|"
    for groups, rounds in itertools.product((1, 2), ROUNDS):
        columns = []
        for change in ({}, {"correlation": 0.6}):
            found = []
            for noise in noises.values():
                changed = dataclasses.replace(noise, process=0.0, **change)
                times = draw(
                    changed, random, studies=number, levels=EQUAL, groups=groups, rounds=rounds
                )
                found.append(studies.covered_alone(differences(times, PLANNED)))
            columns.append(span(found))
        yield f"| {groups} | {rounds} | {' | '.join(columns)} |"


def location_rows(noises: Noises, random: np.random.Generator, number: int) -> Iterator[str]:
    """Yields the table on the location over the rounds of a group."""
    yield (
        "Standard deviation, %, of a group's log ratio (without process effects) by its location "
        "over rounds: with the recorded stalls, and without stalls.\n"
    )
    yield (
        "| rounds | "
        + " | ".join(
            f"{name}{stalls}" for stalls in ("", ", no stalls") for name in studies.LOCATIONS
        )
        + " |"
    )
    yield "|---" * (1 + 2 * len(studies.LOCATIONS)) + "|"
    for rounds in (3, *ROUNDS):
        columns: list[str] = []
        for change in ({}, {"stalls": 0.0}):
            spread: dict[str, list[float]] = {name: [] for name in studies.LOCATIONS}
            for noise in noises.values():
                changed = dataclasses.replace(noise, process=0.0, **change)
                ratios = differences(
                    draw(
                        changed,
                        random,
                        studies=number,
                        levels=EQUAL,
                        groups=1,
                        rounds=rounds,
                        change=0.0,
                    ),
                    PLANNED,
                )
                for name, location in studies.LOCATIONS.items():
                    spread[name].append(float(location(ratios).std()))
            columns += [percent(float(np.mean(values)), 2) for values in spread.values()]
        yield f"| {rounds} | {' | '.join(columns)} |"


def run_rows(random: np.random.Generator, number: int) -> Iterator[str]:
    """Yields the table on pairing runs that do not take turns."""
    yield (
        "Runs without turns (`--interleave=runs`), drift of 10 %: coverage, %, of intervals from "
        "runs paired by number and of Welch's, and the length of the paired against Welch's, also "
        "without drift.\n"
    )
    yield "| processes differ by, % | runs | paired | Welch | length | length without drift |"
    yield "|---" * 6 + "|"
    for process, runs in itertools.product(PROCESS, GROUPS):
        paired, welch, length = studies.run_intervals(random, number, process, runs, change=DRIFT)
        *_, still = studies.run_intervals(random, number, process, runs, change=0.0)
        yield (
            f"| {percent(process, 0)} | {runs} | {percent(paired)} | {percent(welch)} "
            f"| {length:.2f} | {still:.2f} |"
        )


def rows() -> Iterator[str]:
    """Yields the tables; without recorded windows, ends the program with one line."""
    noises = read_noises()
    if not noises:
        sys.exit(MISSING)
    number = max(LEAST_STUDIES, STUDIES // len(noises))
    yield f"{number} simulated studies for each line and recording; mean [least, most] over:\n"
    yield "| recording | window, % | correlation | stalls | stall, % | processes differed by, % |"
    yield "|---" * 6 + "|"
    for name, noise in noises.items():
        yield (
            f"| {name} | {percent(noise.window)} | {noise.correlation:.2f} "
            f"| {percent(noise.stalls)} % | {percent(noise.stall)} | {percent(noise.process)} |"
        )
    random = np.random.default_rng(0)
    for make in (fixed_rows, target_rows, split_rows, family_rows, alone_rows, location_rows):
        yield ""
        yield from make(noises, random, number)
    yield ""
    yield from run_rows(random, number)
    yield ""
    each = [(process, with_process(noises, process)) for process in PROCESS]
    yield from crossovers.rows(each, random, max(1, LEAST_STUDIES // len(noises)))
