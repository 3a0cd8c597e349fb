"""``isoscale relay``: hands one training from framework to framework, through checkpoints."""

import dataclasses
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from isoscale.common.commands.report import missing_tensorboard
from isoscale.common.config.errors import ConfigError, require_choice
from isoscale.common.config.flags import Flags
from isoscale.common.config.run_config import DTYPES
from isoscale.common.disk.folders import make_folder
from isoscale.common.disk.json_files import write_json
from isoscale.common.parity import relay
from isoscale.common.parity.cases import all_cases, models, named
from isoscale.common.parity.documents import RELAY, RelayDocument, RelayLine
from isoscale.common.parity.jobs import (
    MOST_STEPS,
    define_job_flags,
    largest_configs,
    make_pool,
    read_job_flags,
)
from isoscale.common.parity.relay import Leg, Plan, default_legs
from isoscale.common.parity.relay_probe import RelayJob
from isoscale.common.processes.job_pool import JobPool
from isoscale.common.processes.lock import locked
from isoscale.common.program.gpus import check_gpus
from isoscale.common.registry import environments, lookup
from isoscale.common.registry.interpreters import find_programs
from isoscale.common.report.drawing.cache import cache_inside


def _known() -> list[str]:
    """Returns the names of the cases that a relay can train.

    Frameworks draw different dropout masks. Large activations magnify rounding too much.
    """
    return [name for name, case in all_cases().items() if not (case.dropout or case.large)]


def define_flags() -> Flags:
    """Returns the flags of the command, with its help page."""
    fv = Flags(
        usage=(
            "Trains a model for some steps in each of several frameworks, one after the other.\n"
            "Each framework resumes from the checkpoint of the one before. Shows that the loss of\n"
            "every step and the final training state equal those of an unbroken run in each\n"
            "framework. Measures no time: devices may outnumber cores.\n\n"
            "  isoscale relay --model=moe_plain\n"
            "  isoscale relay --model=gpt_tiny --legs=torch:ddp:2,jax:pjit:4 --steps=20\n"
            "  isoscale relay --model=mlp_plain,moe_plain --all_orders --steps=30\n\n"
            f"Models: {', '.join(models())}\n"
            f"Families: {', '.join(lookup.families())} (all sizes of the family)\n"
            f"Pieces: {', '.join(name for name in _known() if name not in models())}\n\n"
            "Flags marked [list] take values separated by commas. Exit code: 0 all differences\n"
            "are within bounds (those of isoscale parity), 1 a difference is out of bounds or a\n"
            "leg failed, 2 bad input, 3 the output folder is in use or cannot be written,\n"
            "128 + N after signal N (Ctrl-C 130, SIGTERM 143)."
        )
    )
    fv.names("model", None, "[list] models, families or pieces to train (required)")
    fv.names(
        "legs",
        default_legs(lookup.frameworks()),
        "[list] FRAMEWORK:STRATEGY:DEVICES, in order; two to six legs; the default leaves out "
        "frameworks that are not installed",
        unique=False,
    )
    fv.boolean("all_orders", False, "run every order of the legs, not only the given order")
    fv.integer(
        "steps",
        90,
        "steps of the whole training; the legs share them equally",
        maximum=MOST_STEPS,
    )
    fv.text("dtype", "float64", "|".join(DTYPES))
    define_job_flags(fv, out_dir="runs/out/relay", holds="relay.json, relay.html, pictures, curves")
    return fv


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelayRequest:
    """The parsed and validated command line.

    Attributes:
      plan: all trainings.
      pool: the jobs of these trainings.
      missing: why the default legs leave out a framework, and how to install it.
    """

    plan: Plan
    pool: JobPool[RelayLine]
    missing: list[str]


def read_request(argv: Sequence[str]) -> RelayRequest | None:
    """Returns the validated request; None if the help page was printed.

    Raises:
      ConfigError: bad input, or a framework sees too few GPUs. Nothing has been written.
    """
    fv = define_flags()
    if not fv.parse(argv):
        return None
    known = _known()
    if not fv.model:
        raise ConfigError(f"--model is required; known: {', '.join(known)}")
    chosen = named(fv.model, known)
    require_choice("dtype", fv.dtype, DTYPES)
    flags = read_job_flags(fv, RelayJob, result=RELAY)
    texts, missing = fv.legs, []
    if not fv.given("legs"):
        found = find_programs(fv, lookup.frameworks())
        missing = [program.missing for program in found.values() if program.missing]
        present = [name for name, program in found.items() if not program.missing]
        if not present:
            raise ConfigError(missing[0])
        specs = [all_cases()[name].spec for name in chosen]
        able = [n for n in present if all(lookup.has_model_of(n, spec) for spec in specs)]
        for name in [] if able else present:  # says which file is missing
            for spec in specs:
                lookup.require_model_file(lookup.framework_info(name), spec)
        texts = default_legs(able)
    legs = [Leg.parse(text, fv.platform) for text in texts]
    if not 2 <= len(legs) <= 6:
        raise ConfigError(f"--legs={','.join(texts)} must name two to six legs")
    if fv.steps < len(legs):
        raise ConfigError(f"--steps={fv.steps} must be {len(legs)} or more: one for each leg")
    relay.check_judged(fv.steps, legs=len(legs), dtype=fv.dtype)
    frameworks = list(dict.fromkeys(leg.framework for leg in legs))
    for name in chosen:
        for framework in frameworks:
            lookup.require_model_file(lookup.framework_info(framework), all_cases()[name].spec)
    programs = find_programs(fv, frameworks)
    for program in programs.values():
        if program.missing:
            raise ConfigError(program.missing)
    plan = relay.plan(
        chosen,
        legs,
        all_orders=fv.all_orders,
        dtype=fv.dtype,
        steps=fv.steps,
        flags=flags,
    )
    pythons = {name: programs[name].command[0] for name in frameworks}
    check_gpus(pythons, largest_configs(plan.jobs))
    pool = make_pool(plan.jobs, RelayLine, flags=flags, pythons=pythons)
    return RelayRequest(plan=plan, pool=pool, missing=missing)


def run(argv: Sequence[str]) -> int:
    """Runs the command.

    Returns:
      The exit code that ``--help`` lists.

    Raises:
      ConfigError: bad input, or a framework that is not installed.
      FolderError: the output folder is in use, cannot be written, or has vanished.
    """
    request = read_request(argv)
    if request is None:
        return 0
    for reason in request.missing:
        print(f"isoscale: skipped: {reason}", file=sys.stderr)
    plan, flags = request.plan, request.plan.flags
    environments.say_removed()
    make_folder(flags.folder, flag="--out_dir")
    with locked(flags.folder, called=flags.called), cache_inside(flags.folder):
        began = time.monotonic()
        lines, kept = request.pool.run(
            resume=flags.resume,
            processes=len(plan.jobs),  # all workers start at once; a leg waits in its worker
            limits=flags.limits,
            title="relay",
            name=lambda key: " ".join(map(str, key)),
        )
        document = relay.document(plan, lines, kept=kept, seconds=time.monotonic() - began)
        with request.pool.keeping():
            from isoscale.common.report.parity.relay_page import print_summary, write_page

        with request.pool.keeping():
            write_json(flags.folder / RELAY, document.to_json())
            path = write_page(flags.folder, document)
            board = _write_curves(flags.folder, document)
        request.pool.finish()
    print_summary(document)
    print(f"Page: {path}")
    if board:
        tensorboard = Path(sys.executable).with_name("tensorboard")
        print(f"Curves: {tensorboard} --logdir={shlex.quote(str(board))}")
        print("        then open http://localhost:6006/?smoothing=0#timeseries")
    return document.exit_code()


def _write_curves(folder: Path, document: RelayDocument) -> Path | None:
    """Writes the curves for TensorBoard; returns their folder; None without TensorBoard."""
    try:
        from isoscale.common.report.parity.relay_curves import write_event_files
    except ImportError as error:
        print(f"isoscale: no event files: {missing_tensorboard(error)}", file=sys.stderr)
        return None
    return write_event_files(folder, document)
