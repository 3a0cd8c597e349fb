"""The cases of ``isoscale parity``: every model, and every piece of training on a small model.

Parity shows equality at the inputs visited by these cases.
"""

import dataclasses
import functools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from isoscale.common.config.initializers import Constant, Normal
from isoscale.common.config.model_spec import Arrays, Factors, ModelSpec, Parameter
from isoscale.common.config.optimizer_config import OptimizerConfig
from isoscale.common.config.run_config import RunConfig
from isoscale.common.data.dataset import finish_batch
from isoscale.common.registry import lookup
from isoscale.common.registry.build_config import plain_config
from isoscale.common.registry.environments import check_handed
from isoscale.common.tuning.tweaks import choose, read_wish

SEED = 3
POOL = 32
"""Batches. 100 steps cannot memorise so many. Memorised batches have tiny gradients; rounding of
the parameters would then dominate the relative differences."""
LARGE = 5_000_000
"""Parameters. Larger presets would take a quarter of the total time if they ran on every device
count."""
NARROW, WIDER = Normal(std=0.02), np.float32(10)
SHORT = slice(2, None, 4)
"""These batches of the pool have fewer examples."""
STEPS, PRESET_STEPS, FLOAT32_STEPS = 100, 3, 10
LARGE_STEPS = 3
"""Most steps of a piece with large activations. They magnify rounding in every step, so a longer
training would compare rounding."""
LARGE_DTYPES = ("float64", "float32")
"""Dtypes of these pieces. In bfloat16, rounding decides which units are saturated."""
BATCH, PRESET_BATCH = 8, 4

OPTIMIZER_PIECES: dict[str, dict[str, Any]] = {
    "adamw_linear_clipped": {
        "schedule": "linear",
        "schedule_warmup_steps": 3,
        "schedule_steps": 150,
        "clip_norm": 0.05,
    },
    "sgd_cosine_clipped": {
        "name": "sgd",
        "schedule": "cosine",
        "schedule_warmup_steps": 3,
        "schedule_steps": 150,
        "clip_norm": 0.1,
        "learning_rate": 0.05,
    },
    "sgd_unclipped": {"name": "sgd", "clip_norm": 0.0, "weight_decay": 0.1, "learning_rate": 0.01},
}
"""Optimizers other than the default (AdamW, constant rate, clipped at 1)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One training that every framework and strategy must repeat.

    Attributes:
      name: the name of the model; ``<model>/<piece>`` for a piece of training.
      spec: the size of the model.
      preset: True for a named preset: a large model, few steps; parity does not compare the
        optimizer's state.
      everywhere: True: the case runs on every requested device count. False: on one device and on
        one larger count.
      global_batch_size: examples per step.
      optimizer: the settings of the optimizer.
      gradient_accumulation_steps: number of parts of each device's share of a batch; a device
        computes one part after the other.
      start: ending of a parameter's name -> constant start value of that parameter.
      large: True: the start values make activations large, and the run has few steps.
      dropout: True: the run takes the steps of ``check_dropout``.
      checks: True: parity also checks shares, restoring and blocks of steps.
    """

    name: str
    spec: ModelSpec
    preset: bool = False
    everywhere: bool = False
    global_batch_size: int = BATCH
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    gradient_accumulation_steps: int = 1
    start: Mapping[str, float] = dataclasses.field(default_factory=dict)
    large: bool = False
    dropout: bool = False
    checks: bool = False

    def steps(self, dtype: str) -> int:
        """Returns the default number of steps for a dtype."""
        if self.preset:
            return PRESET_STEPS
        return STEPS if dtype == "float64" else FLOAT32_STEPS

    def trained_steps(self, configured: int) -> int:
        """Returns how many steps a run trains, of those that its configuration has.

        A piece with large activations has the configuration of its model, so that both have the
        same compiled functions, but trains fewer steps.
        """
        return min(configured, LARGE_STEPS) if self.large else configured

    @property
    def model(self) -> str:
        return self.name.partition("/")[0]

    @property
    def is_piece(self) -> bool:
        return "/" in self.name

    def initial(self) -> Arrays:
        """Returns the start values of the parameters.

        Small models start with larger values than their initialisers draw. Their products have few
        terms: with the drawn values, activations would be so near to 0 that two versions of GELU
        would give equal results.
        """
        values = self.spec.initial_parameters(seed=SEED)
        for parameter in self.spec.parameters():
            name = parameter.name
            if not self.preset and parameter.initializer == NARROW:
                values[name] = WIDER * values[name]
            for ending, constant in self.start.items():
                if name.endswith(ending):
                    values[name] = np.full_like(values[name], constant)
            if self.large and not _is_constant(parameter):
                values[name] = self._factors(name).scaled(parameter, values[name])
        return values

    def _factors(self, name: str) -> Factors:
        """Returns the factors that make a parameter large: the family's, or the default ones."""
        given = lookup.parity_large(self.spec)
        return next((f for ending, f in given.items() if name.endswith(ending)), Factors())

    def batches(self, dtype: str) -> list[Arrays]:
        """Returns the pool of batches; some batches are short, like the last batch of an epoch.

        In a short batch the shares of the devices differ; with 4 devices the last share is empty.
        """
        size = self.global_batch_size
        data = lookup.data_source("synthetic").load(
            self.spec, global_batch_size=size, pool=POOL, seed=SEED, dtype=dtype
        )
        given = ("inputs", "tokens", "labels", "padding_mask")
        batches = list(data.batches)
        batches[SHORT] = [
            finish_batch(
                self.spec,
                dtype,
                {name: value for name, value in batch.items() if name in given},
                examples=size * 5 // 8,
            )
            for batch in batches[SHORT]
        ]
        return batches


def _is_constant(parameter: Parameter) -> bool:
    """Returns whether all start values of a parameter are equal, like those of a bias."""
    return isinstance(parameter.initializer.distribution(parameter.sizes), Constant)


def models() -> list[str]:
    """Returns the allowed values of ``--models``: small sizes of every family, and presets."""
    return [*lookup.parity_specs(), *lookup.presets()]


def named(names: Sequence[str], allowed: Collection[str]) -> list[str]:
    """Returns the models and pieces that names stand for: a family means all its sizes.

    Args:
      names: names of models, pieces or families.
      allowed: the models and pieces that the command takes.

    Raises:
      ConfigError: a name is unknown.
    """
    cases = {name: all_cases()[name] for name in allowed}
    families = {n: None if c.is_piece else lookup.family_of(c.spec) for n, c in cases.items()}
    return lookup.sizes_of(names, families)


@functools.cache
def all_cases() -> dict[str, Case]:
    """Returns name -> case; every framework has the same cases."""
    cases: dict[str, Case] = {}

    def add(name: str, spec: ModelSpec, **options: Any) -> None:
        cases[name] = Case(name=name, spec=spec, **options)

    specs, starts = lookup.parity_specs(), lookup.parity_starts()
    with_optimizers = lookup.parity_optimizers()
    firsts = {lookup.family_of(spec): name for name, spec in reversed(specs.items())}
    for name, spec in specs.items():
        first = name in firsts.values()
        add(name, spec, start=starts.get(name, {}), checks=first, everywhere=first)
        add(f"{name}/large", spec, large=True)
        if name in with_optimizers or (first and spec.auxiliary_loss_coefficient is not None):
            # Covers a loss with one sum of weights and a loss with two.
            add(f"{name}/accumulated", spec, gradient_accumulation_steps=2)
        if name in with_optimizers:
            for piece, optimizer in OPTIMIZER_PIECES.items():
                add(f"{name}/{piece}", spec, optimizer=OptimizerConfig(**optimizer), checks=True)
        probe = lookup.dropout_probe(spec) if first else None
        if probe is not None:
            plain = OptimizerConfig(
                name="sgd", learning_rate=1.0, momentum=0.0, weight_decay=0.0, clip_norm=0.0
            )
            for piece, parts in (("dropout", 1), ("dropout_accumulated", 2)):
                add(
                    f"{name}/{piece}",
                    probe.spec,
                    dropout=True,
                    optimizer=plain,
                    gradient_accumulation_steps=parts,
                    global_batch_size=4,
                )
    for name, preset in lookup.presets().items():
        add(
            name,
            preset.spec,
            preset=True,
            everywhere=preset.spec.parameter_count < LARGE,
            global_batch_size=PRESET_BATCH,
        )
    return cases


def make_config(
    case: Case,
    *,
    framework: str,
    strategy: str,
    devices: int,
    dtype: str,
    steps: int | None,
    tuning: str,
    tweaks: Sequence[str],
    platform: str,
    env: Sequence[str] = (),
) -> RunConfig:
    """Returns the configuration of one run of a case.

    Raises:
      ConfigError: the configuration is invalid.
    """
    config = plain_config(
        framework=framework,
        strategy=strategy,
        model=case.name,
        spec=case.spec,
        devices=devices,
        global_batch_size=case.global_batch_size,
        steps=steps or case.steps(dtype),
        gradient_accumulation_steps=case.gradient_accumulation_steps,
        dtype=dtype,
        platform=platform,
        env=tuple(env),
        optimizer=case.optimizer,
        allow_oversubscription=True,
        seed=SEED,
    )
    check_handed(config)
    wish = read_wish(tweaks, lookup.tweak_names())
    return choose(config, lookup.tweaks(framework), tuning=tuning, wish=wish)


def select(cases: Mapping[str, Case], wanted: Collection[str], *, pieces: bool) -> list[Case]:
    """Returns the wanted cases.

    Args:
      cases: name -> case.
      wanted: names of models or of pieces.
      pieces: True: adds all pieces of each wanted model.
    """
    return [
        case
        for case in cases.values()
        if case.name in wanted or (case.is_piece and pieces and case.model in wanted)
    ]


def fitting_batch(case: Case, devices: Sequence[int]) -> int:
    """Returns the global batch size of a case, rounded up so that every device count divides it."""
    unit = math.lcm(*devices) * case.gradient_accumulation_steps
    return math.ceil(case.global_batch_size / unit) * unit
