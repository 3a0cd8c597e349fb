"""``isoscale relay``: one training handed from framework to framework, through checkpoints."""

import dataclasses
import itertools
import math
import re
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from isoscale.common.checkpoint.files import State
from isoscale.common.config.errors import ConfigError, require_choice, require_positive
from isoscale.common.config.flags import Flags
from isoscale.common.config.run_config import DTYPES
from isoscale.common.disk.folders import make_folder
from isoscale.common.disk.json_files import write_json
from isoscale.common.machine import describe
from isoscale.common.parity.cases import Case, all_cases, fitting_batch, models
from isoscale.common.parity.compare import LOSS, PARAMETERS, Comparison
from isoscale.common.parity.relay_probe import RelayJob, read_end
from isoscale.common.parity.tolerances import (
    Tolerance,
    absolute_differences,
    relative_difference,
    tolerance_of,
)
from isoscale.common.parity.trace import Layout
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

RESULT = "relay.json"


def default_legs() -> list[str]:
    """Returns one leg for each framework: its default strategy on two devices, if it can."""
    legs = []
    for name in lookup.frameworks():
        strategy = lookup.framework_info(name).default_strategy
        limit = lookup.strategy_info(name, strategy).max_devices
        legs.append(f"{name}:{strategy}:{min(2, limit or 2)}")
    return legs


def _known() -> list[str]:
    """Returns what can be trained; masks of dropout are each framework's own."""
    return [name for name, case in all_cases().items() if not case.dropout]


def define_flags() -> Flags:
    fv = Flags(
        usage=(
            "Trains a model for some steps in each of several frameworks, one after the other,\n"
            "each going on from the checkpoint of the one before, and shows that the loss of\n"
            "every step, and what is left at the end, are those of an unbroken run in each.\n"
            "Times nothing; more devices than cores are no matter here.\n\n"
            "  isoscale relay --model=moe\n"
            "  isoscale relay --model=gpt_tiny --legs=torch:ddp:2,jax:pjit:4 --steps=20\n"
            "  isoscale relay --model=mlp,moe,transformer_causal --all_orders --steps=30\n\n"
            f"Models: {', '.join(models())}\n"
            f"Pieces: {', '.join(name for name in _known() if name not in models())}\n\n"
            "Flags marked [list] take values separated by commas. Exit code: 0 all within their\n"
            "bounds (those of isoscale parity), 1 a difference is out of bounds, 2 bad input, 3 a\n"
            "leg failed (and no difference is out of bounds), 130 interrupted."
        )
    )
    fv.names("model", None, "[list] what to train (required)")
    fv.names(
        "legs",
        default_legs(),
        "[list] FRAMEWORK:STRATEGY:DEVICES, in their order; two or more",
        unique=False,
    )
    fv.boolean("all_orders", False, "every order of the legs, not only the given one")
    fv.integer("steps", 90, "of the whole training; the legs share them equally")
    fv.text("dtype", "float64", "|".join(DTYPES))
    define_job_flags(fv, out_dir="runs/out/relay", holds="relay.json, relay.html, pictures, curves")
    return fv


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leg:
    """Who trains a part."""

    framework: str
    strategy: str
    devices: int

    @classmethod
    def parse(cls, text: str, platform: str) -> Self:
        """Raises ConfigError for what does not exist or cannot be."""
        match = re.fullmatch(r"(\w+):(\w+):(\d{1,9})", text, re.ASCII)
        if match is None:
            raise ConfigError(
                f"--legs: '{text[:80]}' is not FRAMEWORK:STRATEGY:DEVICES, like {default_legs()[0]}"
            )
        framework, strategy, count = match.groups()
        require_choice("framework", framework, lookup.frameworks())
        limit = lookup.strategy_info(framework, strategy).max_devices
        devices = require_positive(f"devices of '{text}'", int(count))
        if limit is not None and devices > limit:
            raise ConfigError(
                f"--legs: strategy '{strategy}' of {framework} runs on {limit} at most, not {count}"
            )
        platforms = lookup.framework_info(framework).platforms
        require_choice(f"platform of {framework}", platform, platforms)
        check_devices(platform, devices)
        return cls(framework=framework, strategy=strategy, devices=devices)

    def __str__(self) -> str:
        return f"{self.framework}:{self.strategy}:{self.devices}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Relay:
    """One training in several legs; with one only, it is unbroken.

    Attributes:
      case: what is trained.
      legs: in order.
      jobs: of each leg; relays that begin alike share them.
    """

    case: Case
    legs: tuple[Leg, ...]
    jobs: tuple[RelayJob, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for, validated.

    Attributes:
      relays: what is trained.
      unbroken: all steps in each of the legs' frameworks, for each model.
      jobs: each once, so that none waits for a later one.
      pythons: framework -> its interpreter.
    """

    flags: Flags
    folder: Path
    relays: list[Relay]
    unbroken: list[Relay]
    jobs: list[RelayJob]
    pythons: dict[str, str]


def read_request(argv: Sequence[str]) -> Request | None:
    """Returns None if help was asked for (and printed).

    Raises:
      ConfigError: bad input; nothing has been written or started.
    """
    fv = define_flags()
    if not fv.parse(argv):
        return None
    known = _known()
    if not fv.model:
        raise ConfigError(f"--model is required; known: {', '.join(known)}")
    for name in fv.model:
        require_choice("model", name, known)
    require_choice("dtype", fv.dtype, DTYPES)
    folder = check_job_flags(fv, RelayJob, result=RESULT)
    legs = [Leg.parse(text, fv.platform) for text in fv.legs]
    if not 2 <= len(legs) <= 6:
        raise ConfigError(f"--legs={','.join(fv.legs)}: there must be two legs, and six at most")
    if fv.steps < len(legs):
        raise ConfigError(f"--steps={fv.steps} must be {len(legs)} or more: one for each leg")
    _check_judged(fv, len(legs))
    frameworks = list(dict.fromkeys(leg.framework for leg in legs))
    for name in fv.model:
        for framework in frameworks:
            lookup.require_model_file(lookup.framework_info(framework), all_cases()[name].spec)
    programs = find_programs(fv, frameworks)
    for program in programs.values():
        if program.missing:
            raise ConfigError(program.missing)
    relays, unbroken, jobs = _plan(fv, legs, folder.resolve() / WORK / LEAVES)
    pythons = {name: programs[name].command[0] for name in frameworks}
    if fv.resume:
        work = folder.resolve() / WORK
        check_resumable(work, jobs, pythons=pythons, called=f"--out_dir={fv.out_dir}")
    return Request(
        flags=fv,
        folder=folder,
        relays=relays,
        unbroken=unbroken,
        jobs=jobs,
        pythons=pythons,
    )


def _check_judged(fv: Flags, legs: int) -> None:
    """Raises ConfigError where a dtype's losses are not judged far enough.

    The first loss after a hand-over shows its parameters, the second one its optimizer state.
    """
    judged = tolerance_of(fv.dtype, routed=False).loss_steps

    def fits(steps: int) -> bool:
        return judged is None or _ends(steps, legs)[-2] + 2 <= judged

    if not fits(fv.steps):
        most = next((steps for steps in range(fv.steps, legs - 1, -1) if fits(steps)), None)
        raise ConfigError(
            f"--steps={fv.steps}: in {fv.dtype} the losses of {judged} steps are judged, two "
            "of which must come after the last leg has taken over: "
            + (f"--steps={most} or fewer" if most else "take fewer legs")
        )


def _ends(steps: int, legs: int) -> list[int]:
    """Returns the step before which each leg ends."""
    return [steps * (index + 1) // legs for index in range(legs)]


def _plan(
    fv: Flags, legs: Sequence[Leg], checkpoints: Path
) -> tuple[list[Relay], list[Relay], list[RelayJob]]:
    """Returns (relays, unbroken runs, all jobs in order).

    Raises:
      ConfigError: a leg cannot be run so.
    """
    orders = list(dict.fromkeys(itertools.permutations(legs))) if fv.all_orders else [tuple(legs)]
    ends = _ends(fv.steps, len(legs))

    def job(case: Case, path: tuple[Leg, ...], *, first_step: int, last_step: int) -> RelayJob:
        def folder(legs: tuple[Leg, ...], end: int) -> Path:
            name = "-".join(str(leg).replace(":", "_") for leg in legs)
            return checkpoints / case.name.replace("/", "-") / f"{name}-to-{end}"

        leg = path[-1]
        found = RelayJob(
            case=case.name,
            framework=leg.framework,
            strategy=leg.strategy,
            devices=leg.devices,
            dtype=fv.dtype,
            global_batch_size=fitting_batch(case, [leg.devices for leg in legs]),
            steps=fv.steps,
            tuning=fv.tuning,
            tweaks=fv.tweaks,
            platform=fv.platform,
            quick_compile=fv.quick_compile,
            name=f"{' > '.join(map(str, path))} to {last_step}",
            source=str(folder(path[:-1], first_step)) if first_step else None,
            first_step=first_step,
            last_step=last_step,
            target=str(folder(path, last_step)),
        )
        found.config(found.of_case())
        return found

    relays, unbroken = [], []
    jobs: dict[tuple[int, tuple[str, str]], RelayJob] = {}
    for name in fv.model:
        case = all_cases()[name]
        for order in orders:
            parts = []
            for index, end in enumerate(ends):
                first = ends[index - 1] if index else 0
                part = job(case, order[: index + 1], first_step=first, last_step=end)
                parts.append(jobs.setdefault((index, part.key), part))
            relays.append(Relay(case=case, legs=order, jobs=tuple(parts)))
        firsts: dict[str, Leg] = {}
        for leg in legs:
            firsts.setdefault(leg.framework, leg)
        for leg in firsts.values():
            whole = job(case, (leg,), first_step=0, last_step=fv.steps)
            whole = jobs.setdefault((len(legs), whole.key), whole)
            unbroken.append(Relay(case=case, legs=(leg,), jobs=(whole,)))
    # By leg: whoever waits, waits for a job that its process has before its own later ones.
    return relays, unbroken, [jobs[key] for key in sorted(jobs, key=lambda entry: entry[0])]


def _number(value: float | None) -> float:
    """JSON knows no NaN."""
    return math.nan if value is None else value


def compare(
    ours: Sequence[dict[str, float]],
    theirs: Sequence[dict[str, float]],
    ends: tuple[State, State],
    layout: Layout,
    tolerance: Tolerance,
    *,
    against: str,
) -> Comparison:
    """Compares a training with an unbroken one.

    Args:
      ours, theirs: metrics of every step.
      ends: what both left: parameters and optimizer state.
      layout: of the tensors.
      tolerance: of the dtype.
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


def _document(
    request: Request,
    lines: dict[tuple[str, str], dict[str, Any]],
    *,
    kept: int,
    seconds: float,
) -> dict[str, Any]:
    """Returns everything that was found, as ``relay.json`` has it."""
    fv = request.flags
    ends: dict[tuple[str, str], State] = {}

    def end(job: RelayJob) -> State:
        if job.key not in ends:
            ends[job.key] = read_end(job)
        return ends[job.key]

    def metrics(run: Relay) -> list[dict[str, float]]:
        return [row for job in run.jobs for row in lines[job.key].get("metrics", [])]

    def error(run: Relay) -> str | None:
        failed = (lines[job.key] for job in run.jobs if lines[job.key]["error"])
        return next((f"{line['error']} (log: {line['log']})" for line in failed), None)

    def record(run: Relay, others: Sequence[Relay]) -> dict[str, Any]:
        spec = run.case.spec
        comparisons = [
            compare(
                metrics(run),
                metrics(other),
                (end(run.jobs[-1]), end(other.jobs[-1])),
                Layout.of(spec),
                tolerance_of(fv.dtype, routed=spec.auxiliary_loss_coefficient is not None),
                against=f"unbroken {other.legs[0]}",
            )
            for other in others
            if other.case.name == run.case.name and not error(run) and not error(other)
        ]
        return {
            "model": run.case.name,
            "legs": list(map(str, run.legs)),
            "ends": [job.last_step for job in run.jobs],
            "losses": [row["loss"] for row in metrics(run)],
            "comparisons": [comparison.to_json() for comparison in comparisons],
            "error": error(run),
        }

    unbroken = request.unbroken
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        "machine": describe.machine(),
        "dtype": fv.dtype,
        "steps": fv.steps,
        "tuning": fv.tuning,
        "tweaks": fv.tweaks,
        "platform": fv.platform,
        "runs": len(lines),
        "kept_runs": kept,
        "unbroken": [record(run, unbroken[:index]) for index, run in enumerate(unbroken)],
        "relays": [record(run, unbroken) for run in request.relays],
    }


def verdict(document: dict[str, Any]) -> int:
    """Returns the exit code that a document's figures give."""
    runs = (*document["unbroken"], *document["relays"])
    return exit_code([c for run in runs for c in run["comparisons"]], runs)


def _relay(argv: Sequence[str]) -> int:
    request = read_request(argv)
    if request is None:
        return 0
    make_folder(request.folder, flag="--out_dir")
    with locked(request.folder, called=f"--out_dir={request.flags.out_dir}"):
        work = request.folder.resolve() / WORK
        began = time.monotonic()
        found, kept = run_jobs(
            request.jobs,
            pythons=request.pythons,
            work=work,
            resume=request.flags.resume,
            processes=len(request.jobs),  # all at once: each waits for others
            watchdog_seconds=request.flags.watchdog_seconds,
            title="relay",
            name=" ".join,
        )
        lines = {(line["job"][0], line["job"][1]): line for line in found}
        document = _document(request, lines, kept=kept, seconds=time.monotonic() - began)
        write_json(request.folder / RESULT, document)
        from isoscale.common.report.parity.relay_page import (
            print_summary,
            write_event_files,
            write_page,
        )

        path = write_page(request.folder, document)
        board = write_event_files(request.folder, document)
        finish(request.jobs, work)
    print_summary(document)
    print(f"Page: {path}")
    tensorboard = Path(sys.executable).with_name("tensorboard")
    print(f"Curves: {tensorboard} --logdir={shlex.quote(str(board))}")
    print("        then http://localhost:6006/?smoothing=0#timeseries")
    return verdict(document)


def main(argv: Sequence[str]) -> int:
    """Returns the exit code: see ``--help``."""
    return run_command(_relay, argv)
