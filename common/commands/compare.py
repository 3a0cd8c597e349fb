"""``isoscale compare``: plans a study, runs it in fresh processes, and prints the comparison."""

import dataclasses
import functools
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from isoscale.common.analysis.allocation import LEAST_FIRST_STAGE, pace
from isoscale.common.commands import report
from isoscale.common.config.counts import counted
from isoscale.common.config.errors import ConfigError, FolderError, require_whole, unknown
from isoscale.common.config.flags import Flags, flag_name
from isoscale.common.config.options import text_of
from isoscale.common.config.run_config import LARGEST_SEED
from isoscale.common.config.setting_flags import (
    define_size_flags,
    define_training_flags,
)
from isoscale.common.disk.folders import check_folder, check_inside, make_folder
from isoscale.common.machine import describe
from isoscale.common.processes import limits
from isoscale.common.processes.frame import (
    interrupted_code,
    interrupted_line,
    program_as_typed,
)
from isoscale.common.processes.lock import VanishedError
from isoscale.common.program.gpus import check_gpus
from isoscale.common.registry import environments, extra, lookup
from isoscale.common.registry.interpreters import (
    define_interpreter_flags,
    find_programs,
    interpreter_flags,
)
from isoscale.common.report.drawing.cache import cache_inside
from isoscale.common.report.guarded import guarded
from isoscale.common.report.study.data import StudyData, load_study
from isoscale.common.study import interleave
from isoscale.common.study.changed import check_unchanged
from isoscale.common.study.execute import Study, StudySession
from isoscale.common.study.find import new_study, studies
from isoscale.common.study.flags import define_study_flags
from isoscale.common.study.grid import read_cells, scaling_of
from isoscale.common.study.interleave import Interleave
from isoscale.common.study.pace import ABOUT_DIVISION, Pace, divides
from isoscale.common.study.records import (
    FIRST_STAGE,
    MOST_RUNS,
    ORDER_RULE,
    SessionRecord,
    StudyRecord,
)
from isoscale.common.study.resume import (
    HOUSEKEEPING,
    check_recorded,
    grid_flags,
    with_base_cases,
)
from isoscale.common.study.sharing import about_shared
from isoscale.common.study.store import Store

_GIVEN_AGAIN = {"env", *(f"python_{name}" for name in lookup.frameworks())}
NOT_RECORDED = "PATH"
"""Stands in a study's record for the path of an interpreter, or of the user's own folder."""


def define_flags() -> Flags:
    """Returns the flags of the command, with its help page."""
    fv = Flags(
        usage=(
            "Runs models x frameworks x strategies x devices in fresh processes, which take turns\n"
            "or follow each other in random order, and compares time per step, throughput,\n"
            "scaling, memory, compile time and loss.\n\n"
            "  isoscale compare                                   the default comparison\n"
            "  isoscale compare --recipe=quick                    a first look\n"
            "  isoscale compare --models=gpt_tiny --devices=1,2 --runs=6\n"
            "  isoscale compare --study=NAME --resume             continue a stopped study\n"
            "  isoscale compare --study=NAME --resume --runs=6    extend it to 6 runs per cell\n\n"
            f"Models:     {', '.join(lookup.presets())}\n"
            f"Families:   {', '.join(lookup.families())} (all sizes of the family)\n"
            f"Frameworks: {', '.join(lookup.frameworks())}\n"
            f"Strategies: {', '.join(lookup.all_strategies())} (bare: always one device)\n"
            f"Data sets:  {', '.join(lookup.data_sources())}\n"
            f"Recipes:    {', '.join(lookup.recipes())}\n\n"
            "Flags marked [list] take values separated by commas. Exit code: 0 all runs ok or\n"
            "skipped, 1 a run failed or diverged, or the report failed, 2 bad input, 3 the study\n"
            "is in use or its folder cannot be written, 128 + N after\n"
            "signal N (Ctrl-C 130, SIGTERM 143)."
        ),
        recipes=lookup.recipes(),
    )
    define_study_flags(fv)
    fv.text("study", None, "name of the study (default: compare-DATE-TIME)")
    fv.text("out_dir", "runs/out", "folder that holds the studies")
    fv.boolean(
        "resume",
        False,
        "continue a study: keep successful runs; run only missing or failed ones (of runs that "
        "take turns: whole groups)",
    )
    fv.boolean("report", True, "write the report and TensorBoard files at the end (--noreport: no)")
    report.define_open_flag(fv)
    fv.boolean("dry_run", False, "print the plan and an estimate of its duration; run nothing")
    limits.define_limit_flags(fv)
    define_interpreter_flags(fv)
    extra.define_extra_flag(fv)
    define_training_flags(fv)
    define_size_flags(fv, lookup.size_fields(), several=True)
    return fv


def _session(flags: list[str], *, rounds: int = 1) -> StudySession:
    """Returns the session that some flags plan; ``rounds`` is used without ``--runs``."""
    fv = define_flags()
    fv.parse(flags)
    cells = read_cells(fv)
    unrecorded = {"resume", "dry_run", "open", "study", "out_dir", extra.FLAG}
    unrecorded |= {*interpreter_flags()}
    recorded = fv.as_flags(without=unrecorded)
    # A later isoscale may have more sizes of a family; the study goes on with those that it began.
    models = ",".join(lookup.presets_of(fv.models))
    if not fv.given("base_cases"):  # a record without the flag is older than base cases
        recorded.append("--base_cases" if fv.base_cases else "--nobase_cases")
    recorded = [f"--models={models}" if flag.startswith("--models=") else flag for flag in recorded]
    # The path of an interpreter tells about the user, and nobody may start it by resuming.
    recorded += [f"--{flag}={NOT_RECORDED}" for flag in interpreter_flags() if fv.given(flag)]
    if any(map(lookup.extra_digests, cells)):
        recorded.append(f"--{extra.FLAG}={NOT_RECORDED}")
    return StudySession(
        flags=recorded,
        cells=cells,
        rounds=fv.runs or rounds,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareRequest:
    """The parsed and validated command line.

    Attributes:
      flags: flags in force; with ``--resume``, those of the study and those of this call.
      store: the study's results on disk.
      record: the study's record before this call; None for a new study.
      sessions: sessions to run; more than one when every planned session is continued.
      budget_seconds: time for further rounds; None: run only the planned runs.
    """

    flags: Flags
    store: Store
    record: StudyRecord | None
    sessions: list[StudySession]
    budget_seconds: float | None

    def __post_init__(self) -> None:
        runs = max(session.rounds for session in self.sessions)
        require_whole("runs per cell", runs, maximum=MOST_RUNS)
        if self.flags.seed + runs - 1 > LARGEST_SEED:
            raise ConfigError(
                f"--seed={self.flags.seed}: run n uses seed + n; with {counted(runs, 'run')} per "
                f"cell, --seed must be at most {LARGEST_SEED - runs + 1}"
            )


def read_request(argv: list[str]) -> CompareRequest | None:
    """Returns the validated request; None if the help page was printed.

    Raises:
      ConfigError: bad input. Nothing has been written.
    """
    typed = define_flags()
    if not typed.parse(argv):
        return None
    if typed.study is None and typed.resume:
        raise ConfigError("--resume needs --study=NAME")
    out_dir = check_folder(typed.out_dir, flag="--out_dir")
    if typed.study is None:
        store = new_study(out_dir)
    else:
        store = Store(check_inside(out_dir, typed.study, flag="--study"))
    if typed.resume:
        return _read_resume(argv, typed, store, out_dir)
    if store.has_files:
        raise ConfigError(
            f"--study={typed.study} exists in {typed.out_dir}; add --resume to continue the study, "
            "or choose another name for a new study"
        )
    interleave.check_steps(typed)
    return CompareRequest(
        flags=typed,
        store=store,
        record=None,
        sessions=[_session(argv, rounds=FIRST_STAGE if typed.target_ci else 1)],
        budget_seconds=None if typed.runs and not typed.target_ci else typed.time_budget,
    )


def _read_resume(argv: list[str], typed: Flags, store: Store, out_dir: Path) -> CompareRequest:
    if not store.has_files:
        raise unknown("study", store.folder.name, [path.name for path in studies(out_dir)])
    record = store.record()
    for session in record.sessions:
        check_recorded(session.flags, typed, name=store.folder.name)
    planned = [with_base_cases(session.flags) for session in record.sessions]
    original = planned[0]
    by_time = typed.given("time_budget") and not typed.given("runs")
    if by_time:
        original = [flag for flag in original if not flag.startswith("--runs=")]
    # Runs that follow each other have no rounds.
    free = grid_flags() | HOUSEKEEPING
    free |= {"rounds"} if record.interleave == interleave.RUNS else set()
    first, merged = define_flags(), define_flags()
    first.parse(original)
    merged.parse([*original, *argv])
    for flag, value in first.values().items():
        if flag not in free and getattr(merged, flag) != value:
            given, begun = (
                text_of(tuple(v) if isinstance(v, list) else v)
                for v in (getattr(merged, flag), value)
            )
            raise ConfigError(
                f"--{flag}={given}: study '{store.folder.name}' was started with "
                f"{begun}; a study measures all runs in one way: choose another --study"
            )
    if any(typed.given(flag) for flag in grid_flags()):
        # New cells get as many runs as the study has planned or begun so far.
        rounds = max(session.rounds for session in record.sessions)
        sessions = [_session([*original, *argv], rounds=rounds)]
        if by_time:
            store.load()
            rounds = max(store.rounds(cell.cell()) for cell in sessions[0].cells)
            least = record.first_stage or 1
            sessions = [dataclasses.replace(sessions[0], rounds=max(least, rounds))]
    else:  # housekeeping flags apply to all remaining runs
        sessions = [
            _session([*flags, *argv], rounds=session.rounds)
            for flags, session in zip(planned, record.sessions, strict=True)
        ]
    return CompareRequest(
        flags=merged,
        store=store,
        record=record,
        sessions=sessions,
        budget_seconds=merged.time_budget if by_time or merged.target_ci else None,
    )


def run(argv: Sequence[str]) -> int:
    """Runs the command.

    Returns:
      The exit code that ``--help`` lists.

    Raises:
      ConfigError: bad input.
      FolderError: the study is in use, cannot be written, or has vanished.
    """
    request = read_request(list(argv))
    if request is None:
        return 0
    names = dict.fromkeys(cell.framework for s in request.sessions for cell in s.cells)
    programs = find_programs(request.flags, list(names))
    present = {name: found.command[0] for name, found in programs.items() if not found.missing}
    store = request.store

    check_gpus(present, [cell for session in request.sessions for cell in session.cells])
    how = _interleave(request)
    _check_target(request, how)

    def make_study() -> Study:
        store.load()
        study = Study(
            [
                dataclasses.replace(session, cells=interleave.by_time(session.cells, how))
                for session in request.sessions
            ],
            store,
            programs,
            seed=request.flags.seed,
            limits=limits.Limits.read(request.flags),
            environment=environments.of_run,
            rounds=request.flags.rounds if how.mode == interleave.WINDOWS else 0,
            scaling=scaling_of(request.flags),
            pace=request.record.pace if request.record else None,
        )
        more = request.budget_seconds is not None
        next_cells = [cell for cell, runs in study.cells() if (runs or more)]
        check_unchanged(store, [c for c in next_cells if c.framework in present])
        environments.say_removed(request.sessions[-1].cells[-1])
        return study

    if request.flags.dry_run:
        from isoscale.common.report.study.tables.plan import print_plan  # late: it needs rich

        print(f"Runs are interleaved by {how.mode}: {how.reason}.")
        print_plan(make_study(), programs, budget_seconds=request.budget_seconds)
        if how.mode == interleave.WINDOWS and divides(request.flags, request.budget_seconds):
            print(ABOUT_DIVISION)
        return 0
    machine = describe.machine()
    if request.flags.study is None:
        store = new_study(store.folder.parent, create=True)
    else:
        make_folder(store.folder, flag="--out_dir")
    with store.locked(), cache_inside(store.folder):
        study = make_study()
        store.print_notes()
        for sentence in about_shared(study.shared):
            print(f"isoscale: {sentence}", file=sys.stderr)
        session = SessionRecord(
            flags=request.sessions[-1].flags,
            rounds=request.sessions[-1].rounds,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            order_of_first_round=study.order(0),
            shared=study.shared,
            machine=machine,
        )
        earlier = request.record.sessions if request.record else []
        record = StudyRecord(
            scaling=scaling_of(request.flags),
            order_seed=request.flags.seed,
            order_rule=ORDER_RULE,
            interleave=how.mode,
            same_within=request.flags.same_within,
            target_ci=request.flags.target_ci,
            first_stage=_first_stage(request),
            pace=request.record.pace if request.record else None,
            sessions=[*earlier, session],
        )
        store.write_record(record)
        return _execute(dataclasses.replace(request, store=store), study, record)


def _interleave(request: CompareRequest) -> Interleave:
    """Returns how the study interleaves its cells; a study that goes on does as it began."""
    if request.record is not None:
        return Interleave(mode=request.record.interleave, reason="as the study began")
    cells = [cell for session in request.sessions for cell in session.cells]
    fv = request.flags
    by_steps = any(fv.given(flag) for flag in interleave.STEP_FLAGS)
    return interleave.decide(fv.interleave, cells, scaling=scaling_of(fv), by_steps=by_steps)


def _check_target(request: CompareRequest, how: Interleave) -> None:
    """Checks that the study can have ``--target_ci``.

    Raises:
      ConfigError: its runs do not take turns, or its first stage is too small.
    """
    fv, first = request.flags, _first_stage(request)
    if first is None:
        return
    if how.mode != interleave.WINDOWS:
        raise ConfigError(
            f"--target_ci={100 * fv.target_ci:g}% needs runs that take turns, but this study "
            f"interleaves {how.mode} ({how.reason}); add --interleave={interleave.WINDOWS}"
        )
    if first < LEAST_FIRST_STAGE:
        raise ConfigError(
            f"--runs={first}: with --target_ci it is the number of groups of the first stage, at "
            f"least {LEAST_FIRST_STAGE} ({FIRST_STAGE} without --runs)"
        )


def _first_stage(request: CompareRequest) -> int | None:
    """Returns the number of groups of the first stage of ``--target_ci``; None without it."""
    if request.flags.target_ci is None:
        return None
    known = request.record.first_stage if request.record else None
    return known or request.sessions[-1].rounds


def _execute(request: CompareRequest, study: Study, record: StudyRecord) -> int:
    """Executes the runs, then shows their results; returns the exit code.

    Raises:
      FolderError: results cannot be written. The message says how to go on.
    """
    store, fv = request.store, request.flags
    interrupted: KeyboardInterrupt | None = None
    program = program_as_typed()
    out_dir = f" --out_dir={shlex.quote(fv.out_dir)}" if fv.given("out_dir") else ""
    name = store.folder.name
    # A study records no folder, interpreter or variable of its user: these are given again.
    again = [flag for flag in fv.as_flags(without=set()) if flag_name(flag) in _GIVEN_AGAIN]
    if any(flag_name(flag) == extra.FLAG for flag in record.sessions[-1].flags):
        again.append(f"--{extra.FLAG}={extra.folder()}")
    go_on = shlex.join([program, "compare", f"--study={name}", "--resume", *again]) + out_dir

    def note(**changes: Any) -> None:
        nonlocal record
        record = dataclasses.replace(record, **changes)
        store.write_record(record)

    def note_round(rounds: int) -> None:
        *earlier, last = record.sessions
        note(sessions=[*earlier, dataclasses.replace(last, rounds=rounds)])

    def divide(groups: int, left: float, start: float, each: float) -> Pace | None:
        found = pace(
            load_study(store).noise,
            done=[fv.rounds] * groups,
            budget=left,
            start_seconds=start,
            round_seconds=each,
        )
        if found is not None:
            note(pace=found)
            print(f"isoscale: {found.text}", file=sys.stderr, flush=True)
        return found

    try:
        study.run(
            budget_seconds=request.budget_seconds,
            on_round=note_round,
            needed=(lambda: load_study(store).groups_needed) if record.target_ci else None,
            divide=divide if divides(fv, request.budget_seconds) else None,
        )
    except KeyboardInterrupt as error:
        interrupted = error
    except VanishedError:
        raise
    except FolderError as error:
        message = f"{error}; finished runs are kept; remove the cause, then continue with: {go_on}"
        raise FolderError(message) from None
    lines = store.lines()
    failed = any(line.result.status not in ("ok", "skipped") for line in lines)
    if interrupted:  # first: the views below take time, and Ctrl-C could stop them
        interrupted.add_note(f"finished runs are kept; continue with: {go_on}")
        print(f"isoscale: {interrupted_line(interrupted)}", file=sys.stderr, flush=True)

    @functools.cache
    def read() -> StudyData:
        store.check_exists()
        return load_study(store)

    page: Path | None = None

    def write_views() -> None:
        nonlocal page
        page = report.write(read())
        report.write_events(read())

    shown = not lines or guarded("the table", lambda: _print_table(read()), store)
    print(f"Results: {store.folder / 'results.jsonl'}", flush=True)
    answered = shown and any(line.ok for line in lines)
    if interrupted:
        print(f"Report on the finished runs: {program} report {name}{out_dir}")
    elif lines and fv.report:
        print("Writing the report ...", file=sys.stderr)
        written = guarded("the report", write_views, store)
        shown = shown and written
        if written:
            print(f"Show the study in TensorBoard: {program} board {name}{out_dir}")
        else:
            print(f"Write the report again: {program} report {name}{out_dir}")
    if interrupted or failed:
        print(f"Continue with: {go_on}")
    # Last, because the end of the output is what stays on the screen.
    if answered:
        print()
        shown = guarded("the answer", lambda: report.print_answer(read()), store) and shown
    if page is not None:
        report.print_place(page, open_=fv.open)
    elif fv.open and not interrupted:
        print("isoscale: --open: there is no report to open", file=sys.stderr)
    return interrupted_code(interrupted) if interrupted else int(failed or not shown)


def _print_table(study: StudyData) -> None:
    """Prints the table and its notes if a run succeeded, then why others did not."""
    from isoscale.common.report.study.tables.printed import print_comparison, print_failures

    if any(line.ok for line in study.lines):
        shown = [cell for setting in study.settings for _, cell in setting.cells]
        print_comparison(shown, scaling=study.scaling, machines=study.machines)
    print_failures(study)
