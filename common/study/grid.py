"""From the flags of a study to its cells."""

from collections.abc import Sequence
from typing import Any

from isoscale.common.config.errors import ConfigError, require_choice
from isoscale.common.config.flags import Flags
from isoscale.common.config.run_config import LADDER, STOCK, TUNED, TUNINGS, RunConfig
from isoscale.common.config.setting_flags import given_sizes
from isoscale.common.registry import lookup
from isoscale.common.registry.build_config import build_config, default_devices
from isoscale.common.study import plan
from isoscale.common.study.records import BOTH, Scalings

SCALINGS = ("strong", "weak")
BARE = "bare"


def scaling_of(fv: Flags) -> Scalings:
    """Returns the scaling of a study as its record has it: ``strong``, ``weak``, or both.

    Raises:
      ConfigError: a scaling is unknown.
    """
    for name in fv.scaling:
        require_choice("scaling", name, SCALINGS)
    return BOTH if len(fv.scaling) > 1 else fv.scaling[0]


def _compile_modes(fv: Flags, frameworks: list[str]) -> dict[str, str]:
    modes: dict[str, str] = {}
    for text in fv.compile_modes or []:
        framework, separator, mode = text.partition(":")
        if not separator:
            raise ConfigError(f"--compile_modes={text} must have the form FRAMEWORK:MODE")
        require_choice("framework of --compile_modes", framework, frameworks)
        if framework in modes:
            raise ConfigError(
                f"--compile_modes names {framework} twice; a study takes one mode per framework"
            )
        info = lookup.framework_info(framework)
        modes[framework] = require_choice(f"compile_mode of {framework}", mode, info.compile_modes)
    return modes


def read_cells(fv: Flags) -> list[RunConfig]:
    """Returns the cells of the grid.

    Raises:
      ConfigError: a cell of the grid is invalid or cannot run.
    """
    scalings = scaling_of(fv).split(",")
    frameworks = fv.frameworks or list(lookup.frameworks())
    for name in frameworks:
        require_choice("framework", name, lookup.frameworks())
    for name in fv.strategies or []:
        require_choice("strategy", name, lookup.all_strategies())
    models = lookup.presets_of(fv.models)
    for name in fv.tuning:
        require_choice("tuning", name, TUNINGS)
    devices = fv.devices
    if not (fv.given("devices") or fv.allow_oversubscription):
        devices = default_devices(fv.platform, threads_per_device=fv.threads_per_device)
    modes = _compile_modes(fv, frameworks)
    pairs = plan.choose_pairs(
        frameworks,
        fv.strategies,
        {name: lookup.strategies(name) for name in lookup.frameworks()},
        frameworks_given=fv.given("frameworks"),
    )

    def build(
        *,
        framework: str,
        strategy: str,
        model: str,
        sizes: dict[str, Any],
        devices: int,
        batch: int | None,
        scaling: str,
        dtype: str,
        tuning: str,
        tweaks: Sequence[str] | None = None,
        independent: int = 0,
    ) -> RunConfig:
        size = batch or lookup.preset(model).global_batch_size
        return build_config(
            fv,
            framework=framework,
            strategy=strategy,
            model=model,
            devices=devices,
            sizes=sizes,
            global_batch_size=size * (devices if scaling == "weak" else 1),
            dtype=dtype,
            compile_mode=modes.get(framework),
            tuning=tuning,
            tweaks=tweaks,
            independent=independent,
        )

    def base_cases(**cell: Any) -> list[RunConfig]:
        """Returns what a cell on several devices is compared with, to tell where time goes."""
        devices = cell["devices"]
        alone = {**cell, "devices": 1}
        found = [build(**alone)]
        if BARE in lookup.strategies(cell["framework"]):
            found.append(build(**{**alone, "strategy": BARE}))
        if fv.platform == "tpu":  # its devices share a process
            return found
        found.append(build(**cell, independent=devices))
        if cell["scaling"] == "strong":  # one device with its share, and nobody beside it
            found.append(build(**cell, independent=1))
        return found

    def ladder(**cell: Any) -> list[RunConfig]:
        """Returns the cells from stock to tuned; each has one more tweak than the one before."""
        tuned = build(**cell, tuning=TUNED)
        wishes = [["none", *(f"+{t}" for t in tuned.tweaks[:n])] for n in range(len(tuned.tweaks))]
        steps = [
            build(**cell, tuning=LADDER if n else STOCK, tweaks=wish)
            for n, wish in enumerate(wishes)
        ]
        return [*(steps or [build(**cell, tuning=STOCK, tweaks=["none"])]), tuned]

    def build_all(**cell: Any) -> list[RunConfig]:
        found: list[RunConfig] = []
        if not fv.given("frameworks") and not lookup.has_model(cell["framework"], cell["model"]):
            return found  # a user's own family may be written for some frameworks only
        for tuning in fv.tuning:
            found += ladder(**cell) if tuning == LADDER else [build(**cell, tuning=tuning)]
            if fv.base_cases and tuning != LADDER and not found[-1].oversubscribed:
                found += base_cases(**cell, tuning=tuning) if cell["devices"] > 1 else []
        return found

    cells = plan.expand(
        pairs,
        models=models,
        devices=devices,
        batches=fv.global_batch_size or [None],
        dtypes=fv.dtype,
        sizes=given_sizes(fv, lookup.size_fields()),
        scalings=scalings,
        build=build_all,
        max_devices=lambda f, s: lookup.strategy_info(f, s).max_devices,
    )
    if not cells:
        raise ConfigError(
            f"--models={','.join(fv.models)}: none of the chosen frameworks has these models"
        )
    return list({cell.cell().id: cell for cell in cells}.values())
