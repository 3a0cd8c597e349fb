"""``isoscale compare``: plans a study, runs it in fresh processes, and prints the comparison."""

import dataclasses
import functools
import math
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from isoscale.common.config.errors import ConfigError, require_choice, unknown
from isoscale.common.config.flags import (
    Flags,
    define_flag,
    define_size_flags,
    define_training_flags,
)
from isoscale.common.config.run_config import LADDER, STOCK, TUNED, TUNINGS, RunConfig
from isoscale.common.disk.folders import check_folder, check_inside, make_folder
from isoscale.common.machine import describe
from isoscale.common.processes.lock import locked
from isoscale.common.registry import lookup
from isoscale.common.registry.build_config import build_config
from isoscale.common.registry.interpreters import Program, define_interpreter_flags, find_programs
from isoscale.common.report.study.data import PLOTS, StudyData, load_study
from isoscale.common.study import plan
from isoscale.common.study.execute import Study, StudySession
from isoscale.common.study.find import studies
from isoscale.common.study.records import ORDER_RULE, SessionRecord, StudyRecord
from isoscale.common.study.store import Store

SCALINGS = ("strong", "weak")

# What a session of a study covers. Naming one of these with --resume plans a new session; naming
# none goes on with all that was ever planned.
GRID = {
    "models",
    "frameworks",
    "strategies",
    "devices",
    "global_batch_size",
    "dtype",
    "tuning",
    "runs",
    "time_budget",
}
# Neither what is covered nor how a run is measured.
HOUSEKEEPING = {
    "study",
    "out_dir",
    "resume",
    "dry_run",
    "report",
    "watchdog_seconds",
    "allow_oversubscription",
    *(f"python_{name}" for name in lookup.frameworks()),
}


def define_flags() -> Flags:
    fv = Flags(
        usage=(
            "Runs models x frameworks x strategies x devices in fresh processes, in interleaved\n"
            "rounds of random order, and compares time per step, throughput, scaling, memory,\n"
            "compile time and loss.\n\n"
            "  isoscale compare                                   the default comparison\n"
            "  isoscale compare --models=gpt_tiny --devices=1,2 --runs=6\n"
            "  isoscale compare --study=NAME --resume             go on where it stopped\n"
            "  isoscale compare --study=NAME --resume --runs=6    grow it to six runs per cell\n\n"
            f"Models:     {', '.join(lookup.presets())}\n"
            f"Frameworks: {', '.join(lookup.frameworks())}\n"
            f"Strategies: {', '.join(lookup.all_strategies())} (bare: one device, always)\n"
            f"Data sets:  {', '.join(lookup.data_sources())}\n\n"
            "Flags marked [list] take values separated by commas. Exit code: 0 all runs ok or\n"
            "skipped, 1 a run failed or diverged (or the report), 2 bad input, 130 interrupted."
        )
    )
    fv.names("models", lookup.default_models(), "[list] what to train")
    fv.names("frameworks", None, "[list] which frameworks (default: all)")
    fv.names("strategies", None, "[list] which strategies (default: all)")
    define_flag(fv, "devices", default=[1, 2], help_="[list] device counts", several=True)
    fv.text("scaling", "strong", "strong: the global batch is fixed; weak: it grows with devices")
    define_flag(
        fv,
        "global_batch_size",
        help_="[list] examples per step over all devices; with weak scaling, per device (default: "
        "the model's)",
        several=True,
    )
    define_flag(fv, "dtype", default=["float32"], several=True)
    define_flag(fv, "tuning", default=[STOCK], several=True)
    fv.names(
        "compile_modes",
        None,
        "[list] FRAMEWORK:MODE, for example torch:compile,tensorflow:xla (default: each "
        "framework's first)",
    )
    fv.integer("runs", None, "runs per cell (default: as many as --time_budget allows)")
    fv.duration("time_budget", "5m", "without --runs: complete rounds that fit, at least one")
    fv.text("study", None, "name of the study (default: compare-DATE-TIME)")
    fv.text("out_dir", "runs/out", "folder that holds the studies")
    fv.boolean("resume", False, "go on with a study: what is ok is kept, the rest is run")
    fv.boolean("report", True, "write the report and TensorBoard files at the end (--noreport: no)")
    fv.boolean("dry_run", False, "print the plan and an estimate of its duration; run nothing")
    fv.integer("watchdog_seconds", 300, "end a run that makes no progress for so long")
    define_interpreter_flags(fv)
    define_training_flags(fv)
    define_size_flags(fv, lookup.size_fields())
    return fv


def _compile_modes(fv: Flags, frameworks: list[str]) -> dict[str, str]:
    modes: dict[str, str] = {}
    for text in fv.compile_modes or []:
        framework, separator, mode = text.partition(":")
        if not separator:
            raise ConfigError(f"--compile_modes={text} must look like FRAMEWORK:MODE")
        require_choice("framework of --compile_modes", framework, frameworks)
        if framework in modes:
            raise ConfigError(f"--compile_modes names {framework} twice; one mode per study")
        info = lookup.framework_info(framework)
        modes[framework] = require_choice(f"compile_mode of {framework}", mode, info.compile_modes)
    return modes


def read_cells(fv: Flags) -> list[RunConfig]:
    """Returns the cells of the grid.

    Raises:
      ConfigError: a part of the grid that cannot be run.
    """
    require_choice("scaling", fv.scaling, SCALINGS)
    frameworks = fv.frameworks or list(lookup.frameworks())
    for name in frameworks:
        require_choice("framework", name, lookup.frameworks())
    for name in fv.strategies or []:
        require_choice("strategy", name, lookup.all_strategies())
    for name in fv.models:
        lookup.preset(name)
    for name in fv.tuning:
        require_choice("tuning", name, TUNINGS)
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
        devices: int,
        batch: int | None,
        dtype: str,
        tuning: str,
        tweaks: Sequence[str] | None = None,
    ) -> RunConfig:
        size = batch or lookup.preset(model).global_batch_size
        return build_config(
            fv,
            framework=framework,
            strategy=strategy,
            model=model,
            devices=devices,
            global_batch_size=size * (devices if fv.scaling == "weak" else 1),
            dtype=dtype,
            compile_mode=modes.get(framework),
            tuning=tuning,
            tweaks=tweaks,
        )

    def ladder(**cell: Any) -> list[RunConfig]:
        """From stock to tuned, one tweak more at a time."""
        tuned = build(**cell, tuning=TUNED)
        wishes = [["none", *(f"+{t}" for t in tuned.tweaks[:n])] for n in range(len(tuned.tweaks))]
        steps = [
            build(**cell, tuning=LADDER if n else STOCK, tweaks=wish)
            for n, wish in enumerate(wishes)
        ]
        return [*(steps or [build(**cell, tuning=STOCK, tweaks=["none"])]), tuned]

    def build_all(**cell: Any) -> list[RunConfig]:
        found: list[RunConfig] = []
        for tuning in fv.tuning:
            found += ladder(**cell) if tuning == LADDER else [build(**cell, tuning=tuning)]
        return found

    return plan.expand(
        pairs,
        models=fv.models,
        devices=fv.devices,
        batches=fv.global_batch_size or [None],
        dtypes=fv.dtype,
        build=build_all,
        max_devices=lambda f, s: lookup.strategy_info(f, s).max_devices,
    )


def print_plan(study: Study, programs: dict[str, Program], *, budget_seconds: float | None) -> None:
    """Prints what would be run and an estimate of the time; runs nothing."""
    from rich.console import Console
    from rich.table import Table

    rate = plan.matrix_product_rate()
    table = Table(
        "model",
        "framework",
        "strategy",
        "devices",
        "global batch",
        "dtype",
        "tuning",
        "runs",
        "marks",
    )
    seconds, total = 0.0, 0
    for cell, runs in study.cells():
        missing = programs[cell.framework].missing
        total += runs
        seconds += 0 if missing else runs * plan.estimate_seconds(cell, rate=rate)
        sizes = "".join(f" {name}={value}" for name, value in cell.overrides)
        marks = ["oversubscribed"] if cell.oversubscribed else []
        marks += [f"not {name}: {why}" for name, why in cell.tweaks_left_out]
        marks += ["will be skipped: not installed"] if missing else []
        table.add_row(
            cell.model + sizes,
            cell.framework,
            cell.strategy,
            str(cell.devices),
            str(cell.global_batch_size),
            cell.dtype,
            " +".join([cell.tuning, *cell.tweaks]),
            str(runs),
            ", ".join(marks),
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    print(f"{table.row_count} cells, {total} runs to do.")
    print(f"Estimated, not measured: about {math.ceil(seconds / 60)} min.")
    if budget_seconds is not None:
        print(f"Then further rounds while they fit into {budget_seconds:.0f} s (--time_budget).")


def _session(flags: list[str], *, rounds: int = 1) -> StudySession:
    """Returns the session of a call; ``rounds`` counts where ``--runs`` is not given."""
    fv = define_flags()
    fv.parse(flags)
    return StudySession(
        flags=fv.as_flags(without={"resume", "dry_run", "study", "out_dir"}),
        cells=read_cells(fv),
        rounds=fv.runs or rounds,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareRequest:
    """What the user asked for.

    Attributes:
      flags: in force.
      store: of the study.
      record: of the study so far; None for a new one.
      sessions: to serve; more than one: go on with all.
      budget_seconds: time that further rounds may take; None: only what is owed.
    """

    flags: Flags
    store: Store
    record: StudyRecord | None
    sessions: list[StudySession]
    budget_seconds: float | None


def read_request(argv: list[str]) -> CompareRequest | None:
    """Parses flags, finds the study and what is planned; returns None if help was printed.

    Raises:
      ConfigError: bad input; nothing has been written.
    """
    typed = define_flags()
    if not typed.parse(argv):
        return None
    name = typed.study
    if name is None:
        if typed.resume:
            raise ConfigError("--resume needs --study=NAME")
        name = datetime.now(UTC).strftime("compare-%Y%m%d-%H%M%S")
    out_dir = check_folder(typed.out_dir, flag="--out_dir")
    store = Store(check_inside(out_dir, name, flag="--study"))
    if typed.resume:
        return _read_resume(argv, typed, store, out_dir)
    if store.exists:
        raise ConfigError(
            f"--study={name} exists in {typed.out_dir}; --resume goes on with it, another name "
            "starts a new one"
        )
    return CompareRequest(
        flags=typed,
        store=store,
        record=None,
        sessions=[_session(argv)],
        budget_seconds=None if typed.runs else typed.time_budget,
    )


def _read_resume(argv: list[str], typed: Flags, store: Store, out_dir: Path) -> CompareRequest:
    if not store.exists:
        raise unknown("study", store.folder.name, [path.name for path in studies(out_dir)])
    record = store.record()
    original = record.sessions[0].flags
    by_time = typed.given("time_budget") and not typed.given("runs")
    if by_time:
        original = [flag for flag in original if not flag.startswith("--runs=")]
    first, merged = define_flags(), define_flags()
    first.parse(original)
    merged.parse([*original, *argv])
    for flag, value in first.values().items():
        if flag not in GRID | HOUSEKEEPING and getattr(merged, flag) != value:
            raise ConfigError(
                f"--{flag}={getattr(merged, flag)}: study '{store.folder.name}' was started with "
                f"{value}; runs that are measured differently belong into another study"
            )
    if any(typed.given(flag) for flag in GRID):
        sessions = [_session([*original, *argv])]
        if by_time:
            store.load()
            rounds = max(store.rounds(cell.cell()) for cell in sessions[0].cells)
            sessions = [dataclasses.replace(sessions[0], rounds=max(1, rounds))]
    else:  # housekeeping flags hold for everything that is left
        sessions = [
            _session([*session.flags, *argv], rounds=session.rounds) for session in record.sessions
        ]
    return CompareRequest(
        flags=merged,
        store=store,
        record=record,
        sessions=sessions,
        budget_seconds=typed.time_budget if by_time else None,
    )


def run(argv: Sequence[str]) -> int:
    """Returns the exit code: 0 done, 1 a run failed, 130 interrupted."""
    request = read_request(list(argv))
    if request is None:
        return 0
    names = dict.fromkeys(cell.framework for s in request.sessions for cell in s.cells)
    programs = find_programs(request.flags, list(names))
    store = request.store

    def make_study() -> Study:
        store.load()
        return Study(
            request.sessions,
            store,
            programs,
            seed=request.flags.seed,
            watchdog_seconds=request.flags.watchdog_seconds,
            environment=lookup.tweak_environment,
        )

    if request.flags.dry_run:
        print_plan(make_study(), programs, budget_seconds=request.budget_seconds)
        return 0
    machine = describe.machine()
    make_folder(store.folder, flag="--out_dir")
    with locked(store.folder, called=f"study '{store.folder.name}'"):
        study = make_study()
        session = SessionRecord(
            flags=request.sessions[-1].flags,
            rounds=request.sessions[-1].rounds,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            order_of_first_round=study.order(0),
            machine=machine,
        )
        earlier = request.record.sessions if request.record else []
        record = StudyRecord(
            scaling=request.flags.scaling,
            order_seed=request.flags.seed,
            order_rule=ORDER_RULE,
            sessions=[*earlier, session],
        )
        store.write_record(record)
        return _execute(request, study, record)


def _execute(request: CompareRequest, study: Study, record: StudyRecord) -> int:
    store, fv = request.store, request.flags
    interrupted = False

    def note_round(rounds: int) -> None:
        *earlier, last = record.sessions
        session = dataclasses.replace(last, rounds=rounds)
        store.write_record(dataclasses.replace(record, sessions=[*earlier, session]))

    try:
        study.run(budget_seconds=request.budget_seconds, on_round=note_round)
    except KeyboardInterrupt:
        interrupted = True
    lines = store.lines()
    failed = any(line.result.status in ("failed", "diverged") for line in lines)
    # As it was called, so that what is printed can be typed.
    program = sys.argv[0] if Path(sys.argv[0]).name == "isoscale" else "isoscale"
    out_dir = f" --out_dir={shlex.quote(fv.out_dir)}" if fv.given("out_dir") else ""
    name = store.folder.name
    go_on = f"Go on with: {program} compare --study={name} --resume{out_dir}"
    if interrupted:  # before anything that takes time, or could be interrupted again
        print(f"Interrupted; what finished is kept. {go_on}", file=sys.stderr, flush=True)

    @functools.cache
    def read() -> StudyData:
        return load_study(store)

    shown = not lines or _guarded("the table", lambda: _print_table(read()))
    print(f"Results: {store.folder / 'results.jsonl'}", flush=True)
    if interrupted:
        print(f"A report of what finished: {program} report {name}{out_dir}")
    elif lines and fv.report:
        print("Writing the report ...", file=sys.stderr)
        written = _guarded("the report", lambda: _write_views(read()))
        shown = shown and written
        if written:
            print(f"Show it in TensorBoard: {program} board {name}{out_dir}")
        else:
            print(f"Write it again: {program} report {name}{out_dir}")
    if interrupted or failed:
        print(go_on)
    return 130 if interrupted else int(failed or not shown)


def _guarded(what: str, make: Callable[[], None]) -> bool:
    """Makes a view of the results; returns whether it could.

    The results are safe, and must not seem lost because a view of them fails.
    """
    try:
        make()
    except KeyboardInterrupt:
        print(f"isoscale: interrupted, without {what}; the results are kept", file=sys.stderr)
        return False
    except Exception as error:
        if not isinstance(error, OSError | ConfigError):
            traceback.print_exc()
        print(f"isoscale: {what} cannot be made: {error}; the results are kept", file=sys.stderr)
        return False
    return True


def _print_table(study: StudyData) -> None:
    from isoscale.common.report.study.answers.setting import glance
    from isoscale.common.report.study.tables.printed import print_comparison

    print_comparison(study.summaries, scaling=study.scaling, machines=study.machines)
    print("\nIn short, fastest; how sure; do more devices pay:")
    for row in (glance(study, setting) for setting in study.settings):
        print(f"- {row.setting}: {row.choice}; {row.sure}; {row.scaling}")


def _write_views(study: StudyData) -> None:
    from isoscale.common.report.board.event_files import write_event_files
    from isoscale.common.report.study.write import write_report

    print(f"Report:  {write_report(study)}", flush=True)
    write_event_files(study, plots=study.folder / PLOTS)
