"""``isoscale parity``: do the frameworks, strategies and device counts compute the same thing?"""

import dataclasses
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from isoscale.common.config.errors import ConfigError, require_choice
from isoscale.common.config.flags import Flags
from isoscale.common.config.run_config import DTYPES
from isoscale.common.disk.folders import make_folder
from isoscale.common.disk.json_files import write_json
from isoscale.common.machine import describe
from isoscale.common.parity.cases import Case, all_cases, fitting_batch, models, select
from isoscale.common.parity.probe import ParityJob
from isoscale.common.parity.reference import judge_initializers
from isoscale.common.parity.tolerances import tolerance_of
from isoscale.common.parity.workers import (
    LEAVES,
    WORK,
    check_job_flags,
    check_resumable,
    define_job_flags,
    exit_code,
    finish,
    run_command,
    run_jobs,
)
from isoscale.common.processes.lock import locked
from isoscale.common.registry import lookup
from isoscale.common.registry.build_config import check_devices
from isoscale.common.registry.interpreters import find_programs

RESULT = "parity.json"


def define_flags() -> Flags:
    cases = all_cases().values()
    fv = Flags(
        usage=(
            "Shows that all frameworks, strategies and device counts compute the same thing:\n"
            "trains each model in each, and compares every step with the others and with NumPy:\n"
            "initial parameters (bit-identical), logits, losses, gradients, optimizer state,\n"
            "parameters. "
            "Times nothing; more devices than cores are no matter here.\n\n"
            "  isoscale parity                                     all of it, in about 10 minutes\n"
            "  isoscale parity --models=moe --frameworks=jax,torch --dtype=float64\n"
            "  isoscale parity --tuning=tuned --devices=1,2\n\n"
            f"Models:     {', '.join(models())}\n"
            f"Pieces:     {', '.join(case.name for case in cases if case.is_piece)}\n"
            f"Frameworks: {', '.join(lookup.frameworks())}\n"
            f"Strategies: {', '.join(lookup.all_strategies())} (bare, one device without a\n"
            "            wrapper, is always among them: the others are compared with it)\n\n"
            "Flags marked [list] take values separated by commas. Exit code: 0 all within their\n"
            "bounds, 1 a difference is out of bounds, 2 bad input, 3 a run failed (and no\n"
            "difference is out of bounds), 130 interrupted."
        )
    )
    fv.names("models", None, "[list] which models, or pieces of training (default: all)")
    fv.names("frameworks", None, "[list] which frameworks (default: all)")
    fv.names("strategies", None, "[list] which strategies beside bare (default: all)")
    fv.integers(
        "devices",
        [1, 2, 4],
        "[list] numbers of devices; unless given, variants of models and large presets run on one "
        "of them alone",
    )
    fv.names("dtype", ["float64", "float32"], f"[list] {'|'.join(DTYPES)}")
    fv.integer("steps", None, "steps of each run (default: 100 in float64, else 10; presets 3)")
    fv.boolean("pieces", True, "optimizers, schedules, accumulation, dropout: on small models")
    fv.integer("processes", None, "at work at the same time (default: one more than cores)")
    define_job_flags(fv, out_dir="runs/out/parity", holds="parity.json, parity.html and logs")
    return fv


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for, validated.

    Attributes:
      cases: what is trained.
      jobs: every run, in the order of their processes.
      missing: framework -> why it cannot run here.
      pythons: framework -> its interpreter.
    """

    flags: Flags
    folder: Path
    cases: list[Case]
    jobs: list[ParityJob]
    missing: dict[str, str]
    pythons: dict[str, str]


def read_request(argv: Sequence[str]) -> Request | None:
    """Returns None if help was asked for (and printed).

    Raises:
      ConfigError: bad input; nothing has been written or started.
    """
    fv = define_flags()
    if not fv.parse(argv):
        return None
    folder = check_job_flags(fv, ParityJob, result=RESULT)
    known = all_cases()
    wanted = fv.models or models()
    for name in wanted:
        require_choice("model", name, known)
    frameworks = fv.frameworks or list(lookup.frameworks())
    for name in frameworks:
        require_choice("framework", name, lookup.frameworks())
        require_choice(f"platform of {name}", fv.platform, lookup.framework_info(name).platforms)
    known_strategies = {s for name in frameworks for s in lookup.strategies(name)}
    for name in fv.strategies or ():
        require_choice("strategy", name, known_strategies)
    for dtype in fv.dtype:
        require_choice("dtype", dtype, DTYPES)
    for count in fv.devices:
        check_devices(fv.platform, count)
    programs = find_programs(fv, frameworks)
    missing = {name: p.missing for name, p in programs.items() if p.missing}
    present = [name for name in frameworks if name not in missing]
    cases = {}
    for dtype in fv.dtype:
        proves = dtype == _proving(fv)
        chosen = select(known, wanted, pieces=fv.pieces and proves)
        # Presets take long; unless they are asked for, they run where equality is proven.
        cases[dtype] = [c for c in chosen if proves or fv.models or not c.preset]
    pythons = {name: programs[name].command[0] for name in present}
    work = folder.resolve() / WORK
    jobs = _jobs(fv, present, cases, work)
    if fv.resume:
        check_resumable(work, jobs, pythons=pythons, called=f"--out_dir={fv.out_dir}")
    return Request(
        flags=fv,
        folder=folder,
        cases=list({case.name: case for some in cases.values() for case in some}.values()),
        jobs=jobs,
        missing=missing,
        pythons=pythons,
    )


def _proving(fv: Flags) -> str:
    """Returns the dtype that equality is proven in; pieces of training run in no other."""
    return "float64" if "float64" in fv.dtype else fv.dtype[0]


def _has_model(framework: str, case: Case) -> bool:
    try:
        lookup.require_model_file(lookup.framework_info(framework), case.spec)
    except ConfigError:
        return False
    return True


def _strategies(fv: Flags, framework: str, case: Case, dtype: str, devices: int) -> list[str]:
    """Returns what runs a case on so many devices; ``bare`` always does, on one."""
    bare = ["bare"] if devices == 1 else []
    if devices not in fv.devices:
        return bare
    if not fv.given("devices"):
        # A model's first size and most presets run on every count, in the dtype that proves
        # equality. Else several devices are wanted, how many is no matter.
        several = min((count for count in fv.devices if count > 1), default=1)
        proves = dtype == _proving(fv)
        wanted = devices == several and (proves or not case.preset)
        if not (wanted or (case.everywhere and proves)):
            return bare
    limits = {
        name: lookup.strategy_info(framework, name).max_devices
        for name in lookup.strategies(framework)
        if name != "bare" and (fv.strategies is None or name in fv.strategies)
    }
    return bare + [n for n, limit in limits.items() if limit is None or devices <= limit]


def _jobs(
    fv: Flags, frameworks: Sequence[str], cases: dict[str, list[Case]], work: Path
) -> list[ParityJob]:
    """Returns every run: first those that the others are compared with.

    Raises:
      ConfigError: a batch cannot be split so.
    """
    # Frameworks that compile little come first: the others are compared with their traces.
    order = sorted(frameworks, key=lambda name: lookup.framework_info(name).compile_cost)
    # Then the most devices: they take longest.
    counts = (1, *sorted((count for count in fv.devices if count > 1), reverse=True))

    def trace_of(framework: str, case: Case, dtype: str) -> str:
        return str(work / LEAVES / framework / case.name.replace("/", "-") / dtype)

    def job(framework: str, case: Case, dtype: str, strategy: str, devices: int) -> ParityJob:
        own, bare = trace_of(framework, case, dtype), strategy == "bare"
        before = order[: order.index(framework)] if bare and not case.dropout else []
        before = [other for other in before if _has_model(other, case)]
        found = ParityJob(
            case=case.name,
            framework=framework,
            strategy=strategy,
            devices=devices,
            dtype=dtype,
            global_batch_size=fitting_batch(case, fv.devices),
            steps=fv.steps,
            tuning=fv.tuning,
            tweaks=fv.tweaks,
            platform=fv.platform,
            quick_compile=fv.quick_compile,
            trace=own if bare and not case.dropout else None,
            frameworks={f"{other} bare": trace_of(other, case, dtype) for other in before},
            alone=None if bare or case.dropout else own,
        )
        found.config(found.of_case())
        return found

    return [
        job(framework, case, dtype, strategy, devices)
        for devices in counts
        for framework in order
        for dtype, some in cases.items()
        for case in some
        if _has_model(framework, case)
        for strategy in _strategies(fv, framework, case, dtype, devices)
    ]


def _document(
    request: Request, lines: Sequence[dict[str, Any]], *, kept: int, seconds: float
) -> dict[str, Any]:
    """Returns everything that was found, as ``parity.json`` has it."""
    fv = request.flags
    initializers = [
        {"model": case.name, **judge_initializers(case.spec, seed=0).to_json()}
        for case in request.cases
        if not case.is_piece
    ]
    names = ("case", "framework", "strategy", "devices", "dtype")
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        "machine": describe.machine(),
        "tuning": fv.tuning,
        "tweaks": fv.tweaks,
        "platform": fv.platform,
        "bounds": _bounds(fv.dtype),
        "missing": request.missing,
        "initializers": initializers,
        "kept_runs": kept,
        "runs": [
            {"comparisons": [], **dict(zip(names, line.pop("job"), strict=True)), **line}
            for line in lines
        ],
    }


def _bounds(dtypes: Sequence[str]) -> dict[str, Any]:
    """Returns dtype -> its bounds; mixtures of experts are named where they have their own."""
    found = {}
    for dtype in dtypes:
        found[dtype] = tolerance_of(dtype, routed=False)
        routed = tolerance_of(dtype, routed=True)
        if routed != found[dtype]:
            found[f"{dtype}, mixtures of experts"] = routed
    return {name: dataclasses.asdict(tolerance) for name, tolerance in found.items()}


def verdict(document: dict[str, Any]) -> int:
    """Returns the exit code that a document's figures give."""
    comparisons = [c for run in document["runs"] for c in run["comparisons"]]
    return exit_code([*document["initializers"], *comparisons], document["runs"])


def _parity(argv: Sequence[str]) -> int:
    request = read_request(argv)
    if request is None:
        return 0
    for reason in request.missing.values():
        print(f"isoscale: skipped: {reason}", file=sys.stderr)
    if not request.jobs:
        raise ConfigError("nothing to run: no framework of those asked for is installed")
    from isoscale.common.report.parity.page import (  # pictures: heavy
        print_summary,
        run_name,
        write_page,
    )

    make_folder(request.folder, flag="--out_dir")
    with locked(request.folder, called=f"--out_dir={request.flags.out_dir}"):
        work = request.folder.resolve() / WORK
        began = time.monotonic()
        lines, kept = run_jobs(
            request.jobs,
            pythons=request.pythons,
            work=work,
            resume=request.flags.resume,
            processes=request.flags.processes,
            watchdog_seconds=request.flags.watchdog_seconds,
            title="parity",
            name=run_name,
        )
        document = _document(request, lines, kept=kept, seconds=time.monotonic() - began)
        write_json(request.folder / RESULT, document)
        path = write_page(request.folder, document)
        finish(request.jobs, work)
    print_summary(document)
    print(f"Page: {path}")
    return verdict(document)


def main(argv: Sequence[str]) -> int:
    """Returns the exit code: see ``--help``."""
    return run_command(_parity, argv)
