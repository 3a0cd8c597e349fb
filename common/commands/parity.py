"""``isoscale parity``: checks that frameworks, strategies and device counts compute the same.

The check holds at the inputs visited: the start values and batches of the cases.
"""

import dataclasses
import sys
import time
from collections.abc import Sequence

from isoscale.common.config.errors import ConfigError, require_choice
from isoscale.common.config.flags import Flags
from isoscale.common.config.run_config import DTYPES, MOST_DEVICES
from isoscale.common.disk.folders import make_folder
from isoscale.common.disk.json_files import write_json
from isoscale.common.parity import matrix
from isoscale.common.parity.cases import LARGE_DTYPES, LARGE_STEPS, all_cases, models, named
from isoscale.common.parity.documents import PARITY, ParityLine
from isoscale.common.parity.jobs import (
    MOST_STEPS,
    define_job_flags,
    largest_configs,
    make_pool,
    read_job_flags,
)
from isoscale.common.parity.matrix import Matrix
from isoscale.common.parity.probe import ParityJob
from isoscale.common.processes.job_pool import JobPool
from isoscale.common.processes.lock import locked
from isoscale.common.program.gpus import check_gpus
from isoscale.common.registry import environments, lookup
from isoscale.common.registry.build_config import check_devices
from isoscale.common.registry.interpreters import find_programs
from isoscale.common.report.drawing.cache import cache_inside

MOST_PROCESSES = 1024


def define_flags() -> Flags:
    """Returns the flags of the command, with its help page."""
    cases = all_cases().values()
    fv = Flags(
        usage=(
            "Shows that all frameworks, strategies and device counts compute the same results at\n"
            "the inputs visited.\n"
            "Trains each model in each of them, and compares every step with the others and with\n"
            "NumPy: initial parameters (bit-identical), logits, losses, gradients, optimizer\n"
            "state, parameters. "
            "Measures no time: devices may outnumber cores.\n\n"
            "  isoscale parity                                     all cases, about 8 minutes\n"
            "  isoscale parity --models=moe --frameworks=jax,torch --dtype=float64\n"
            "  isoscale parity --tuning=tuned --devices=1,2\n\n"
            f"Models:     {', '.join(models())}\n"
            f"Families:   {', '.join(lookup.families())} (all sizes of the family)\n"
            f"Pieces:     {', '.join(case.name for case in cases if case.is_piece)}\n"
            f"Frameworks: {', '.join(lookup.frameworks())}\n"
            f"Strategies: {', '.join(lookup.all_strategies())} (bare, one device without a\n"
            "            wrapper, always runs: the other strategies are compared with bare)\n\n"
            "Flags marked [list] take values separated by commas. Exit code: 0 all differences\n"
            "are within bounds, 1 a difference is out of bounds or a run failed, 2 bad input,\n"
            "3 the output folder is in use or cannot be written,\n"
            "128 + N after signal N (Ctrl-C 130, SIGTERM 143)."
        )
    )
    fv.names("models", None, "[list] models, families, or pieces of training (default: all)")
    fv.names("frameworks", None, "[list] frameworks (default: all)")
    fv.names("strategies", None, "[list] strategies besides bare (default: all)")
    fv.integers(
        "devices",
        [1, 2, 4],
        "[list] device counts (default: 1,2,4 for the first size of each model and for small "
        "presets in float64; 1 and 2 for all other cases)",
        maximum=MOST_DEVICES,
    )
    fv.names("dtype", ["float64", "float32"], f"[list] {'|'.join(DTYPES)}")
    fv.integer(
        "steps",
        None,
        "steps of each run (default: 100 in float64, else 10; presets 3); with large activations "
        f"at most {LARGE_STEPS}",
        maximum=MOST_STEPS,
    )
    fv.boolean(
        "pieces",
        True,
        "test large activations, optimizers, schedules, accumulation, dropout on small models",
    )
    fv.integer(
        "processes",
        None,
        "concurrent worker processes (default: cores + 1)",
        maximum=MOST_PROCESSES,
    )
    define_job_flags(fv, out_dir="runs/out/parity", holds="parity.json, parity.html and logs")
    return fv


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParityRequest:
    """The parsed and validated command line.

    Attributes:
      matrix: the cases, and the frameworks, strategies and devices that train them.
      pool: the jobs of all runs; None: no framework is installed.
      missing: framework -> why it cannot run here.
      missing_in_public: the same, for documents.
      processes: concurrent worker processes; None: the pool decides.
    """

    matrix: Matrix
    pool: JobPool[ParityLine] | None
    missing: dict[str, str]
    missing_in_public: dict[str, str]
    processes: int | None


def read_request(argv: Sequence[str]) -> ParityRequest | None:
    """Returns the validated request; None if the help page was printed.

    Raises:
      ConfigError: bad input, or a framework sees too few GPUs. Nothing has been written.
    """
    fv = define_flags()
    if not fv.parse(argv):
        return None
    flags = read_job_flags(fv, ParityJob, result=PARITY)
    wanted = named(fv.models, all_cases()) if fv.models else models()
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
    present = [name for name in frameworks if not programs[name].missing]
    found = Matrix(
        cases=matrix.cases_of(wanted, fv.dtype, pieces=fv.pieces, presets=bool(fv.models)),
        strategies=fv.strategies,
        devices=fv.devices,
        all_devices=fv.given("devices"),
        steps=fv.steps,
        flags=flags,
    )
    jobs = matrix.plan(found, present)
    pythons = {name: programs[name].command[0] for name in present}
    check_gpus(pythons, largest_configs(jobs))
    return ParityRequest(
        matrix=found,
        pool=make_pool(jobs, ParityLine, flags=flags, pythons=pythons) if jobs else None,
        missing={name: p.missing for name, p in programs.items() if p.missing},
        missing_in_public={n: p.missing_in_public for n, p in programs.items() if p.missing},
        processes=fv.processes,
    )


def run(argv: Sequence[str]) -> int:
    """Runs the command.

    Returns:
      The exit code that ``--help`` lists.

    Raises:
      ConfigError: bad input, or no framework is installed.
      FolderError: the output folder is in use, cannot be written, or has vanished.
    """
    request = read_request(argv)
    if request is None:
        return 0
    for reason in request.missing.values():
        print(f"isoscale: skipped: {reason}", file=sys.stderr)
    if not request.matrix.all_cases:
        raise ConfigError(
            "nothing to run: pieces with large activations run in "
            f"--dtype={','.join(LARGE_DTYPES)} only"
        )
    if request.pool is None:
        raise ConfigError("nothing to run: none of the chosen frameworks is installed")
    flags = request.matrix.flags
    environments.say_removed()
    for family in sorted(
        {lookup.family_of(c.spec) for c in request.matrix.all_cases if not c.spec.has_reference}
    ):
        print(
            f"isoscale: model family '{family}' has no reference_forward: its logits and losses "
            "are not compared with NumPy",
            file=sys.stderr,
        )
    make_folder(flags.folder, flag="--out_dir")
    with locked(flags.folder, called=flags.called), cache_inside(flags.folder):
        from isoscale.common.report.parity.page import (  # late: plotting libraries load slowly
            print_summary,
            run_name,
            write_page,
        )

        began = time.monotonic()
        lines, kept = request.pool.run(
            resume=flags.resume,
            processes=request.processes,
            limits=flags.limits,
            title="parity",
            name=run_name,
        )
        document = matrix.document(
            request.matrix,
            lines,
            missing=request.missing_in_public,
            kept=kept,
            seconds=time.monotonic() - began,
        )
        with request.pool.keeping():
            write_json(flags.folder / PARITY, document.to_json())
            path = write_page(flags.folder, document)
        request.pool.finish()
    print_summary(document, path)
    return document.exit_code()
