"""The paragraphs of a report about how the study was measured and analysed."""

import statistics

from isoscale.common.analysis.verdicts import RULE
from isoscale.common.config.run_config import TUNED
from isoscale.common.registry import lookup
from isoscale.common.report.study import turns
from isoscale.common.report.study.answers import crossovers
from isoscale.common.report.study.data import StudyData
from isoscale.common.report.study.drift import Drift
from isoscale.common.report.study.tables import factors, laws
from isoscale.common.report.words import NOT_THE_QUOTIENT, RATE_AND_TIME, base_text

_IN_TURNS = (
    "A verdict compares the examples per second of two cells by their rounds, as above; cells "
    "whose runs did not take turns together by pairs of runs that followed each other (4 pairs or "
    "more), otherwise by Welch's test over runs."
)


def rule_of(study: StudyData) -> str:
    """Returns how the verdicts of a study are made, as text."""
    if not turns.figures_of(study.lines):
        return RULE.format(n=study.tests)
    return f"{turns.METHOD} {_IN_TURNS} {turns.ANSWERS}"


def method(study: StudyData, drifted: Drift | None) -> list[str]:
    """Returns the paragraphs."""
    clocks = [
        line.result.clock_reading_seconds
        for line in study.lines
        if line.result.clock_reading_seconds is not None
    ]
    order_seed = study.record.order_seed
    seed = "unknown" if order_seed is None else order_seed
    taken = turns.method(study.lines, margin=study.record.same_within, pace=study.record.pace)
    order = (
        []
        if taken
        else [
            "Every run starts in a fresh process, or in one fresh process per device. Runs of all "
            f"cells are interleaved in a random order from seed {seed}. The unit of statistics is "
            "the run, not the step."
        ]
    )
    rule = _IN_TURNS if taken else RULE.format(n=study.tests)
    units = "groups" if taken else "runs"
    paragraphs = [
        *taken,
        *order,
        "A window contains whole training steps between two synchronised clock readings, and "
        "nothing else (with --input_pipeline=timed, also the copying of their batches). Windows of "
        "many steps give time per step and throughput; windows of one step give latency. "
        f"{'' if taken else RATE_AND_TIME + ' '}With several ranks, the slowest "
        "rank counts (of independent devices, the rates add up). The "
        "first step (compile) and the warm-up are excluded and reported separately.",
        f"Figures are medians over {units} with a 95 % interval: with 6 or more {units} an "
        f"interval from order statistics, with 3 to 5 a t interval on log time, marked (t). With "
        f"fewer than 3 {units} a figure has no interval.",
        rule + " 'A is 1.20x faster than B' means that A processes 1.20 times as many examples per "
        "second as B. The comparison of frameworks takes the fastest strategy of each framework; "
        "further tests compare this strategy with the other strategies of its framework. "
        f"Ratios are ratios of throughput. {NOT_THE_QUOTIENT}.",
        "Speedup is throughput divided by the throughput of the same framework's bare step on one "
        f"device (no distribution wrapper) at {base_text(study.scaling)}; efficiency is speedup / "
        "devices. Derived "
        "from measurements: all ratios (speedups, verdicts, gaps), efficiency, the drift, and the "
        "compile time (first step minus a median step; with blocks of steps, plus the time to copy "
        "the batches, to compile a block and to run it once). Computed by formula: FLOPs "
        "(results.csv), and FLOP/s (FLOPs of a step x measured steps per second). All other "
        "figures of runs are measured; no figure of runs is estimated.",
    ]
    if any(study.factors.values()):
        paragraphs.append(factors.METHOD)
    if any(study.laws.values()):
        paragraphs.append(laws.METHOD)
    if study.sweeps:
        paragraphs.append(crossovers.METHOD)
    if any(summary.cell.platform == "cpu" for summary in (*study.summaries, *study.ladder)):
        paragraphs.append(
            "CPU devices of one machine share caches and memory bandwidth. Separate machines or "
            "accelerators do not share them."
        )
    if any(cell.cell.tuning == TUNED for cell in (*study.summaries, *study.shared)):
        paragraphs.append(
            "The tuned lane has the tweaks that a fixed rule chooses for the model and strategy, "
            "from measurements on other machines. The rule was not calibrated on this machine: "
            "another choice may be faster here. 'isoscale explain' measures each tweak."
        )
    pairs = ((summary.cell.framework, summary.cell.strategy) for summary in study.summaries)
    paragraphs += lookup.strategy_notes(pairs)
    if clocks:
        paragraphs.append(
            f"Reading the clock took {1e9 * statistics.median(clocks):.0f} ns (median over runs)."
        )
    if drifted is not None:
        change, low, high, runs = drifted
        paragraphs.append(
            f"Drift over the study, from the first run to the last: {100 * change:+.1f} % time per "
            f"step [{100 * low:+.1f}, {100 * high:+.1f}] (regression of log time on the run's "
            f"place in the order of execution, over {runs} runs; the mean of the run's cell is "
            "subtracted from both)."
        )
    return paragraphs
