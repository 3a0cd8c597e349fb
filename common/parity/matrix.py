"""The runs that ``isoscale parity`` compares, and the document of their results."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from isoscale.common.config.errors import ConfigError
from isoscale.common.machine import describe
from isoscale.common.machine.own_version import own_version
from isoscale.common.parity.cases import LARGE_DTYPES, Case, all_cases, fitting_batch, select
from isoscale.common.parity.documents import Initializers, ParityDocument, ParityLine, ParityRun
from isoscale.common.parity.jobs import JobFlags
from isoscale.common.parity.probe import ParityJob
from isoscale.common.parity.reference import judge_initializers
from isoscale.common.parity.tolerances import Tolerance, tolerance_of
from isoscale.common.processes.job_pool import OUTPUTS
from isoscale.common.registry import lookup


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matrix:
    """The requested cases, strategies and device counts.

    Attributes:
      cases: dtype -> its cases.
      strategies: strategies in addition to ``bare``; None: all.
      devices: device counts.
      all_devices: True: every case runs on all device counts. False: some cases run on one or two
        counts only.
      steps: steps of each run; None: each case's own number.
      flags: flags of the jobs.
    """

    cases: dict[str, list[Case]]
    strategies: list[str] | None
    devices: list[int]
    all_devices: bool
    steps: int | None
    flags: JobFlags

    @property
    def all_cases(self) -> list[Case]:
        return list({case.name: case for some in self.cases.values() for case in some}.values())


def cases_of(
    models: Sequence[str], dtypes: Sequence[str], *, pieces: bool, presets: bool
) -> dict[str, list[Case]]:
    """Returns dtype -> cases.

    Args:
      models: names of models or of pieces of training.
      dtypes: all requested dtypes.
      pieces: whether pieces of training run. A piece that ``models`` does not name runs only in the
        dtype that proves equality; for those with large activations see ``LARGE_DTYPES``.
      presets: whether presets, which take long, run in the other dtypes too.
    """
    found = {}
    for dtype in dtypes:
        proves = dtype == _proving(dtypes)
        found[dtype] = [
            case
            for case in select(all_cases(), models, pieces=pieces)
            if _runs_in(case, dtype, proves=proves, named=case.name in models, presets=presets)
        ]
    return found


def _runs_in(case: Case, dtype: str, *, proves: bool, named: bool, presets: bool) -> bool:
    """Returns whether a selected case runs in a dtype; see ``cases_of``."""
    if case.large:
        return dtype in LARGE_DTYPES
    return proves or (presets if case.preset else named)


def _proving(dtypes: Sequence[str]) -> str:
    """Returns the dtype that proves equality: float64 if requested, else the first one."""
    return "float64" if "float64" in dtypes else dtypes[0]


def _has_model(framework: str, case: Case) -> bool:
    try:
        lookup.require_model_file(lookup.framework_info(framework), case.spec)
    except ConfigError:
        return False
    return True


def _strategies(
    matrix: Matrix, framework: str, case: Case, *, dtype: str, devices: int
) -> list[str]:
    """Returns the strategies that run a case on a device count; one device always has ``bare``."""
    bare = ["bare"] if devices == 1 else []
    # Large activations test the operations of a model. Other cases test the work of devices.
    if devices not in matrix.devices or case.large:
        return bare
    if not matrix.all_devices:
        # A model's first size and most presets run on every device count, in the dtype that proves
        # equality. Other cases run on one device and on the smallest count above 1.
        several = min((count for count in matrix.devices if count > 1), default=1)
        proves = dtype == _proving(list(matrix.cases))
        wanted = devices == several and (proves or not case.preset)
        if not (wanted or (case.everywhere and proves)):
            return bare
    limits = {
        name: lookup.strategy_info(framework, name).max_devices
        for name in lookup.strategies(framework)
        if name != "bare" and (matrix.strategies is None or name in matrix.strategies)
    }
    return bare + [n for n, limit in limits.items() if limit is None or devices <= limit]


def plan(matrix: Matrix, frameworks: Sequence[str]) -> list[ParityJob]:
    """Returns all runs; a run comes after the runs that it is compared with.

    Args:
      matrix: the requested cases, strategies and device counts.
      frameworks: all frameworks that can run on this machine.

    Raises:
      ConfigError: a run is invalid, for example because its batch cannot be split.
    """
    # PyTorch first: it compiles nothing, so its traces are ready early for the others.
    order = sorted(frameworks, key=lambda name: lookup.framework_info(name).compile_cost)
    # After one device, the largest counts come first: they take longest.
    counts = (1, *sorted((count for count in matrix.devices if count > 1), reverse=True))
    return [
        _job(matrix, order, framework, case, dtype=dtype, strategy=strategy, devices=devices)
        for devices in counts
        for framework in order
        for dtype, some in matrix.cases.items()
        for case in some
        if _has_model(framework, case)
        for strategy in _strategies(matrix, framework, case, dtype=dtype, devices=devices)
    ]


def _job(
    matrix: Matrix,
    order: Sequence[str],
    framework: str,
    case: Case,
    *,
    dtype: str,
    strategy: str,
    devices: int,
) -> ParityJob:
    """Returns one run; it is compared with the frameworks that precede its own in ``order``."""
    flags = matrix.flags
    outputs: Path = flags.work / OUTPUTS

    def trace_of(name: str) -> str:
        return str(outputs / name / case.name.replace("/", "-") / dtype)

    own, bare = trace_of(framework), strategy == "bare"
    before = order[: order.index(framework)] if bare and not case.dropout else []
    job = ParityJob(
        case=case.name,
        framework=framework,
        strategy=strategy,
        devices=devices,
        dtype=dtype,
        global_batch_size=fitting_batch(case, matrix.devices),
        steps=matrix.steps,
        tuning=flags.tuning,
        tweaks=flags.tweaks,
        platform=flags.platform,
        env=flags.env,
        quick_compile=flags.quick_compile,
        trace=own if bare and not case.dropout else None,
        frameworks={f"{name} bare": trace_of(name) for name in before if _has_model(name, case)},
        alone=None if bare or case.dropout else own,
    )
    job.config(job.of_case())  # raises ConfigError for an invalid run
    return job


def document(
    matrix: Matrix,
    lines: Sequence[ParityLine],
    *,
    missing: dict[str, str],
    kept: int,
    seconds: float,
) -> ParityDocument:
    """Returns the document with all results.

    Args:
      matrix: the requested cases, strategies and device counts.
      lines: the results of all runs.
      missing: framework -> why the framework could not run.
      kept: number of results kept from an earlier session.
      seconds: duration of this session.
    """
    return ParityDocument(
        isoscale=own_version(),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=seconds,
        machine=describe.machine(),
        tuning=matrix.flags.tuning,
        tweaks=matrix.flags.tweaks,
        platform=matrix.flags.platform,
        bounds=_bounds(matrix.cases),
        missing=missing,
        initializers=tuple(
            Initializers(model=case.name, comparison=judge_initializers(case.spec, seed=0))
            for case in matrix.all_cases
            if not case.is_piece
        ),
        kept_runs=kept,
        runs=tuple(map(_run, lines)),
    )


def _run(line: ParityLine) -> ParityRun:
    case, framework, strategy, devices, dtype = line.job
    return ParityRun(
        comparisons=line.comparisons,
        case=str(case),
        framework=str(framework),
        strategy=str(strategy),
        devices=int(devices),
        dtype=str(dtype),
        error=line.error,
        seconds=line.seconds,
        log=line.log,
    )


def _bounds(cases: Mapping[str, Sequence[Case]]) -> dict[str, Tolerance]:
    """Returns dtype -> its bounds; adds entries for cases that have other bounds."""
    found: dict[str, Tolerance] = {}
    for dtype, some in cases.items():
        found[dtype] = tolerance_of(dtype, routed=False)
        routed = tolerance_of(dtype, routed=True)
        if routed != found[dtype]:
            found[f"{dtype}, mixtures of experts"] = routed
        if any(case.large for case in some):
            found[f"{dtype}, large activations"] = tolerance_of(dtype, routed=False, large=True)
    return found
