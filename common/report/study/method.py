"""The paragraphs that tell how a study was measured and analysed."""

import statistics

from isoscale.common.analysis.verdicts import RULE
from isoscale.common.registry import lookup
from isoscale.common.report.study.data import StudyData
from isoscale.common.report.study.drift import Drift


def method(study: StudyData, drifted: Drift | None) -> list[str]:
    """Returns the paragraphs."""
    count = sum(verdict.p is not None for found in study.verdicts.values() for verdict in found)
    clocks = [
        line.result.clock_reading_seconds
        for line in study.lines
        if line.result.clock_reading_seconds is not None
    ]
    base = "the same global batch" if study.scaling == "strong" else "the batch of one device"
    order_seed = study.record.order_seed
    seed = "unknown" if order_seed is None else order_seed
    paragraphs = [
        "Every run is a fresh process (or one per device). Runs of all cells are interleaved in a "
        f"random order from seed {seed}; the run, not the "
        "step, is the unit of statistics.",
        "A window is whole training steps between two synchronised clock readings, nothing else. "
        "Windows of many steps give time per step and throughput (examples / seconds over all "
        "windows), windows of one step give latency. With several ranks the slowest counts. The "
        "first step (compile) and the warm-up are excluded and reported apart.",
        "Medians over runs with a 95 % interval: order statistics from 6 runs on; for 3 to 5 runs "
        "a t interval on log time, marked (t); none below 3.",
        RULE.format(n=count)
        + " 'A is 1.20x faster than B' means that A does 1.20 times the examples per second of B. "
        "The fastest strategy of each framework takes part in the comparison of frameworks; "
        "whether it is faster than its siblings is tested too. "
        + ("'Stock and tuned' corrects its tests apart from these. " if study.lanes else "")
        + "Ratios are of throughput, over all windows of a run; time per step is the median "
        "window.",
        "Speedup is throughput against the same framework's bare step on one device (no "
        f"distribution wrapper) at {base}; efficiency is speedup / devices. Derived from what was "
        "measured: speedup, efficiency, and the compile time (first step minus a median step). "
        "Analytic: FLOPs (results.csv). All else is measured; nothing is estimated.",
    ]
    if study.machines and not any(machine["gpus"] for machine in study.machines):
        paragraphs.append(
            "CPU devices of one machine share caches and memory bandwidth, which a second machine "
            "or accelerator would not."
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
            f"step [{100 * low:+.1f}, {100 * high:+.1f}] (regression of log time on the order of "
            f"{runs} runs, both less their mean in the cell)."
        )
    return paragraphs
