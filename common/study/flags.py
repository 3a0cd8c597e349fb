"""The flags that say what a study measures: its grid, its runs, and how sure it shall be."""

from isoscale.common.config.flags import Flags
from isoscale.common.config.run_config import STOCK
from isoscale.common.config.setting_flags import define_flag
from isoscale.common.registry import lookup
from isoscale.common.study import interleave
from isoscale.common.study.group import MOST_ROUNDS
from isoscale.common.study.records import FIRST_STAGE, MOST_RUNS, SAME_WITHIN


def define_study_flags(fv: Flags) -> None:
    """Defines the flags; ``common/study/grid.py`` makes cells from them."""
    fv.names("models", lookup.default_models(), "[list] models or families to train")
    fv.names("frameworks", None, "[list] frameworks (default: all)")
    fv.names("strategies", None, "[list] strategies (default: all)")
    define_flag(
        fv,
        "devices",
        default=[1, 2],
        help_="[list] device counts (without a second device: 1)",
        several=True,
    )
    fv.boolean(
        "base_cases",
        True,
        "for each cell on several devices, also measure what it loses time to: bare and the "
        "strategy on one device, and the devices without communication (--nobase_cases: only the "
        "cells that are named)",
    )
    fv.names(
        "scaling",
        ["strong"],
        "[list] strong: the global batch is fixed; weak: the global batch grows with the device "
        "count; with both, cells on one device run once, and no setting mixes the two",
    )
    define_flag(
        fv,
        "global_batch_size",
        help_="[list] examples per step over all devices; with weak scaling: per device (default: "
        "the model's)",
        several=True,
    )
    define_flag(fv, "dtype", default=["float32"], several=True)
    define_flag(fv, "tuning", default=[STOCK], several=True)
    fv.names(
        "compile_modes",
        None,
        "[list] FRAMEWORK:MODE, for example torch:compile,tensorflow:xla (default: "
        + ",".join(
            f"{name}:{lookup.framework_info(name).compile_modes[0]}" for name in lookup.frameworks()
        )
        + ")",
    )
    fv.integer(
        "runs",
        None,
        "runs per cell (default: as many as --time_budget allows)",
        maximum=MOST_RUNS,
    )
    fv.duration(
        "time_budget", "5m", "without --runs: run complete rounds within this time, at least one"
    )
    fv.text("interleave", interleave.AUTO, "|".join(interleave.CHOICES) + ": " + interleave.HELP)
    fv.integer(
        "rounds",
        interleave.DEFAULT_ROUNDS,
        "rounds of a group of runs that take turns: windows of each run (without this flag and "
        "--runs, groups from the fourth on have as many rounds as make the intervals narrowest)",
        maximum=MOST_ROUNDS,
    )
    fv.percent(
        "same_within", f"{100 * SAME_WITHIN:g}%", "throughputs up to this far apart are the same"
    )
    fv.percent(
        "target_ci",
        None,
        "add groups until each planned ratio has a 95 % interval of plus or minus this, or "
        f"--time_budget ends; --runs is then the first stage, which the budget does not shorten "
        f"(default: {FIRST_STAGE} groups)",
    )
