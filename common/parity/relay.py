"""The trainings of ``isoscale relay``, in several legs or unbroken, and their results."""

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from isoscale.common.checkpoint.files import State
from isoscale.common.config.errors import ConfigError, require_choice, require_whole
from isoscale.common.machine import describe
from isoscale.common.machine.own_version import own_version
from isoscale.common.parity.cases import Case, all_cases, fitting_batch
from isoscale.common.parity.compare import LOSS, PARAMETERS, Comparison
from isoscale.common.parity.documents import RelayDocument, RelayLine, RelayRun
from isoscale.common.parity.jobs import JobFlags
from isoscale.common.parity.relay_probe import RelayJob, read_end
from isoscale.common.parity.tolerances import (
    Tolerance,
    absolute_differences,
    relative_difference,
    tolerance_of,
)
from isoscale.common.parity.trace import Layout
from isoscale.common.processes.job_line import Key
from isoscale.common.processes.job_pool import OUTPUTS
from isoscale.common.registry import lookup
from isoscale.common.registry.build_config import check_devices


def default_legs(frameworks: Sequence[str]) -> list[str]:
    """Returns one leg for each framework: its default strategy on two devices, or on one.

    A single framework gets a leg with ``bare`` first: a relay has two legs or more.
    """
    legs = [f"{name}:bare:1" for name in frameworks] if len(frameworks) == 1 else []
    for name in frameworks:
        strategy = lookup.framework_info(name).default_strategy
        limit = lookup.strategy_info(name, strategy).max_devices
        legs.append(f"{name}:{strategy}:{min(2, limit or 2)}")
    return legs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leg:
    """A part of a training: the framework, strategy and devices that it runs on."""

    framework: str
    strategy: str
    devices: int

    @classmethod
    def parse(cls, text: str, platform: str) -> Self:
        """Returns the leg that ``--legs`` names.

        Raises:
          ConfigError: ``text`` has another form, the framework or strategy is unknown, or the
            framework or strategy cannot run on this platform or device count.
        """
        match = re.fullmatch(r"(\w+):(\w+):(\d{1,9})", text, re.ASCII)
        if match is None:
            example = default_legs(lookup.frameworks())[0]
            raise ConfigError(
                f"--legs: '{text[:80]}' is not FRAMEWORK:STRATEGY:DEVICES, like {example}"
            )
        framework, strategy, count = match.groups()
        require_choice("framework", framework, lookup.frameworks())
        limit = lookup.strategy_info(framework, strategy).max_devices
        devices = require_whole(f"devices of '{text}'", int(count))
        if limit is not None and devices > limit:
            raise ConfigError(
                f"--legs: {count} devices; strategy '{strategy}' of {framework} allows at most "
                f"{limit}"
            )
        platforms = lookup.framework_info(framework).platforms
        require_choice(f"platform of {framework}", platform, platforms)
        check_devices(platform, devices)
        return cls(framework=framework, strategy=strategy, devices=devices)

    def __str__(self) -> str:
        return f"{self.framework}:{self.strategy}:{self.devices}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """One training: in several legs (a relay), or in one (unbroken).

    Attributes:
      case: the trained case.
      legs: all legs, in order.
      jobs: one job for each leg; relays with equal first legs share the jobs of these legs.
    """

    case: Case
    legs: tuple[Leg, ...]
    jobs: tuple[RelayJob, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """All trainings of one call of ``isoscale relay``.

    Attributes:
      dtype, steps, flags: settings of every training.
      relays: the trainings in several legs.
      unbroken: trainings of all steps in one leg, one for each model and each of the frameworks.
      jobs: all jobs without duplicates; a job waits only for earlier jobs of this list.
    """

    dtype: str
    steps: int
    flags: JobFlags
    relays: list[Training]
    unbroken: list[Training]
    jobs: list[RelayJob]


def check_judged(steps: int, *, legs: int, dtype: str) -> None:
    """Checks that the dtype's bounds judge at least two losses after the last hand-over.

    The first loss after a hand-over depends on the parameters of the checkpoint, the second loss
    also on its optimizer state.

    Args:
      steps: steps of the whole training.
      legs: number of legs.
      dtype: of the training.

    Raises:
      ConfigError: fewer losses are judged.
    """
    judged = tolerance_of(dtype, routed=False).loss_steps

    def fits(steps: int) -> bool:
        return judged is None or _ends(steps, legs)[-2] + 2 <= judged

    if judged is not None and steps - _ends(steps, legs)[-2] < 2:
        least = next(n for n in itertools.count(steps) if n - _ends(n, legs)[-2] >= 2)
        raise ConfigError(
            f"--steps={steps}: in {dtype} two judged losses must belong to the last leg. Type "
            f"--steps={least} or more"
        )
    if not fits(steps):
        # At least half of the steps precede the last leg: more than twice the judged steps never
        # fit.
        largest = min(steps, 2 * (judged or steps))
        most = next((fewer for fewer in range(largest, legs - 1, -1) if fits(fewer)), None)
        raise ConfigError(
            f"--steps={steps}: in {dtype} only the losses of the first {judged} steps are judged; "
            "two of them must belong to the last leg. "
            + (f"Type --steps={most} or fewer" if most else "Name fewer --legs")
        )


def _ends(steps: int, legs: int) -> list[int]:
    """Returns, for each leg, the number of steps of the training completed at its end."""
    return [steps * (index + 1) // legs for index in range(legs)]


def plan(
    models: Sequence[str],
    legs: Sequence[Leg],
    *,
    all_orders: bool,
    dtype: str,
    steps: int,
    flags: JobFlags,
) -> Plan:
    """Returns all trainings.

    Args:
      models: names of cases.
      legs: the legs, in order.
      all_orders: True: one relay for each order of the legs. False: the given order only.
      dtype: dtype of all trainings.
      steps: steps of a whole training; the shares of the legs differ by at most one step.
      flags: flags of the jobs.

    Raises:
      ConfigError: the configuration of a leg is invalid.
    """
    orders = list(dict.fromkeys(itertools.permutations(legs))) if all_orders else [tuple(legs)]
    ends = _ends(steps, len(legs))

    def job(case: Case, path: tuple[Leg, ...], *, first_step: int, last_step: int) -> RelayJob:
        def folder(legs: tuple[Leg, ...], end: int) -> Path:
            name = "-".join(str(leg).replace(":", "_") for leg in legs)
            return flags.work / OUTPUTS / case.name.replace("/", "-") / f"{name}-to-{end}"

        leg = path[-1]
        found = RelayJob(
            case=case.name,
            framework=leg.framework,
            strategy=leg.strategy,
            devices=leg.devices,
            dtype=dtype,
            global_batch_size=fitting_batch(case, [leg.devices for leg in legs]),
            steps=steps,
            tuning=flags.tuning,
            tweaks=flags.tweaks,
            platform=flags.platform,
            env=flags.env,
            quick_compile=flags.quick_compile,
            name=f"{' > '.join(map(str, path))} to {last_step}",
            source=str(folder(path[:-1], first_step)) if first_step else None,
            first_step=first_step,
            last_step=last_step,
            target=str(folder(path, last_step)),
        )
        found.config(found.of_case())  # raises ConfigError for an invalid leg
        return found

    relays, unbroken = [], []
    jobs: dict[tuple[int, Key], RelayJob] = {}
    for name in models:
        case = all_cases()[name]
        for order in orders:
            parts = []
            for index, end in enumerate(ends):
                first = ends[index - 1] if index else 0
                part = job(case, order[: index + 1], first_step=first, last_step=end)
                parts.append(jobs.setdefault((index, part.key), part))
            relays.append(Training(case=case, legs=order, jobs=tuple(parts)))
        firsts: dict[str, Leg] = {}
        for leg in legs:
            firsts.setdefault(leg.framework, leg)
        for leg in firsts.values():
            whole = job(case, (leg,), first_step=0, last_step=steps)
            whole = jobs.setdefault((len(legs), whole.key), whole)
            unbroken.append(Training(case=case, legs=(leg,), jobs=(whole,)))
    return Plan(
        dtype=dtype,
        steps=steps,
        flags=flags,
        relays=relays,
        unbroken=unbroken,
        # Ordered by leg: a job waits for a job of an earlier leg, which another process may run.
        # That process runs its earlier legs first, so no two processes wait for each other.
        jobs=[jobs[key] for key in sorted(jobs, key=lambda entry: entry[0])],
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def compare(
    ours: Sequence[Mapping[str, float | None]],
    theirs: Sequence[Mapping[str, float | None]],
    ends: tuple[State, State],
    layout: Layout,
    tolerance: Tolerance,
    *,
    against: str,
) -> Comparison:
    """Returns the comparison of a training with an unbroken one.

    Args:
      ours, theirs: metrics of every step; None: not finite.
      ends: parameters and optimizer state at the end of both trainings.
      layout: order of the tensors in flat arrays.
      tolerance: bounds of the dtype.
      against: name of the unbroken run.
    """
    comparison = Comparison(against)
    for step, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        values = {
            name: relative_difference(_number(mine[name]), _number(value))
            for name, value in other.items()
        }
        comparison.add(LOSS, step, values, tolerance.loss_at(step))
    last = len(ours) - 1
    bound = tolerance.parameter_at(last, between_devices=False)
    arrays, others = ({PARAMETERS: s.parameters, **s.slots} for s in ends)
    for kind, tensors in arrays.items():
        flat = layout.flat(tensors), layout.flat(others[kind])
        name = kind if kind == PARAMETERS else f"optimizer state {kind}, absolute"
        differences = absolute_differences(*flat, layout.starts)
        comparison.add_tensors(name, last, layout.names, differences, bound)
    return comparison


class _Results:
    """The results of all jobs, combined into trainings."""

    def __init__(self, plan: Plan, lines: Sequence[RelayLine]):
        self._plan = plan
        self._lines = {line.job: line for line in lines}
        self._ends: dict[Key, State] = {}

    def _end(self, training: Training) -> State:
        job = training.jobs[-1]
        if job.key not in self._ends:
            self._ends[job.key] = read_end(job)
        return self._ends[job.key]

    def _metrics(self, training: Training) -> list[Mapping[str, float | None]]:
        return [row for job in training.jobs for row in self._lines[job.key].metrics]

    def _error(self, training: Training) -> str | None:
        failed = (self._lines[job.key] for job in training.jobs if self._lines[job.key].error)
        return next((f"{line.error} (log: {line.log})" for line in failed), None)

    def run(self, training: Training, others: Sequence[Training]) -> RelayRun:
        """Returns the results of a training, compared with unbroken ones of the same case."""
        spec = training.case.spec
        tolerance = tolerance_of(
            self._plan.dtype, routed=spec.auxiliary_loss_coefficient is not None
        )
        comparisons = [
            compare(
                self._metrics(training),
                self._metrics(other),
                (self._end(training), self._end(other)),
                Layout.of(spec),
                tolerance,
                against=f"unbroken {other.legs[0]}",
            )
            for other in others
            if other.case.name == training.case.name
            and not self._error(training)
            and not self._error(other)
        ]
        return RelayRun(
            model=training.case.name,
            legs=tuple(map(str, training.legs)),
            ends=tuple(job.last_step for job in training.jobs),
            losses=tuple(row["loss"] for row in self._metrics(training)),
            comparisons=tuple(comparisons),
            error=self._error(training),
        )


def document(plan: Plan, lines: Sequence[RelayLine], *, kept: int, seconds: float) -> RelayDocument:
    """Returns the document with all results.

    Args:
      plan: all trainings.
      lines: the results of all jobs.
      kept: number of results kept from an earlier session.
      seconds: duration of this session.
    """
    results = _Results(plan, lines)
    return RelayDocument(
        isoscale=own_version(),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=seconds,
        machine=describe.machine(),
        dtype=plan.dtype,
        steps=plan.steps,
        tuning=plan.flags.tuning,
        tweaks=plan.flags.tweaks,
        platform=plan.flags.platform,
        runs=len(lines),
        kept_runs=kept,
        unbroken=tuple(
            results.run(training, plan.unbroken[:index])
            for index, training in enumerate(plan.unbroken)
        ),
        relays=tuple(results.run(training, plan.unbroken) for training in plan.relays),
    )
