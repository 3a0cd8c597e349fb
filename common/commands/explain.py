"""``isoscale explain STUDY``: measures the effect of each tweak, and the gap that remains."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from isoscale.common.commands import compare, report
from isoscale.common.config.errors import ConfigError, suggestion
from isoscale.common.config.flags import HELP, Flags, flag_name, split_words
from isoscale.common.registry import lookup
from isoscale.common.registry.interpreters import find_programs
from isoscale.common.report.study.data import StudyData, load_study
from isoscale.common.study.find import studies, study_folder
from isoscale.common.study.sharing import share
from isoscale.common.study.store import Store

USAGE = """\
Explains why the frameworks differ in speed on this machine. Measures each framework as installed
(stock), then with one more tweak at a time, then with all tweaks of the tuned lane (tuned).
Reports the effect of each tweak, and how much of the gap between frameworks remains.

  isoscale explain STUDY                        measures missing runs, then explains
  isoscale explain STUDY --models=gpt_tiny      flags: those of 'isoscale compare'
  isoscale explain STUDY --nomeasure            explains existing results; runs nothing

Defaults: --devices=1, --strategies=bare (with --devices above 1 each framework's default
strategy, pjit for example); a new study has --runs=6. An existing study keeps its
results: explain runs only what is missing, and new cells get as many runs as the other cells.
--dry_run prints the plan. --study and --resume are not allowed: STUDY names the study.

Exit code: as 'isoscale compare' (0 all runs ok or skipped, 1 a run failed or diverged, or the
report failed, 2 bad input, 3 the study is in use or its folder cannot be written, 128 + N after
signal N: Ctrl-C 130, SIGTERM 143).
All flags: isoscale compare --help"""

RUNS = 6
"""Runs per cell of a new study: from 6 runs on, the interval needs no assumption on the
distribution."""


def define_flags() -> Flags:
    """Returns the flags of the command: those of ``compare``, and ``--measure``."""
    fv = compare.define_flags()
    fv.boolean("measure", True, "execute missing runs (--nomeasure: show existing results only)")
    return fv


def _command(fv: Flags, name: str, folder: Path | None) -> list[str]:
    """Returns the arguments for ``compare``: a new study, or the ladder of an existing one.

    Args:
      fv: the user's flags; they come last and override the defaults.
      name: name of the study.
      folder: folder of the study; None for a new study.

    Raises:
      ConfigError: the folder holds no study written by isoscale.
    """
    out_dir = Path(fv.out_dir)
    recorded = compare.define_flags()
    if folder is None:
        runs = RUNS
        command = [f"--study={name}"]
    else:
        sessions = Store(folder).record().sessions
        runs = max(session.rounds for session in sessions)
        recorded.parse([f for f in sessions[0].flags if flag_name(f) == "frameworks"])
        command = [f"--study={folder.name}", "--resume"]
        out_dir = folder.parent  # differs from --out_dir if the user gave the study's path
    if not fv.given("strategies"):
        frameworks = fv.frameworks or recorded.frameworks or lookup.frameworks()
        command.append(f"--strategies={','.join(_strategies(fv, frameworks))}")
    command += ["--devices=1", "--tuning=ladder", "--nobase_cases"]
    if not fv.given("time_budget"):
        command.append(f"--runs={runs}")
    if fv.given("out_dir") or out_dir != Path(fv.out_dir):
        command.append(f"--out_dir={out_dir}")
    return [*command, *fv.as_flags(without={"measure", "open", "out_dir"})]


def _strategies(fv: Flags, frameworks: Sequence[str]) -> list[str]:
    """Returns the strategies that explain takes without ``--strategies``; says which, if not bare.

    Raises:
      ConfigError: a framework is unknown.
    """
    counts = fv.devices if fv.given("devices") else [1]
    usual = (lookup.usual_strategy(name, count) for count in sorted(counts) for name in frameworks)
    found = list(dict.fromkeys(usual))
    if found != ["bare"]:
        print(f"isoscale: no --strategies are given: takes {', '.join(found)}", file=sys.stderr)
    return found


def _has_missing_runs(command: list[str]) -> bool:
    """Returns whether ``compare`` would start any run.

    Raises:
      ConfigError: bad input.
    """
    request = compare.read_request(command)
    assert request is not None
    request.store.load()
    names = dict.fromkeys(cell.framework for s in request.sessions for cell in s.cells)
    programs = find_programs(request.flags, list(names))
    cells_of, _ = share([s.cells for s in request.sessions], begun=request.store.begun())
    return request.budget_seconds is not None or not all(
        request.store.is_ok(cell.cell(), run)
        for session, cells in zip(request.sessions, cells_of, strict=True)
        for cell in cells
        if programs[cell.framework].missing is None
        for run in range(session.rounds)
    )


def run(argv: Sequence[str]) -> int:
    """Runs the command.

    Returns:
      The exit code: 0 done, 1 a run failed, 128 + N after signal N.

    Raises:
      ConfigError: bad input.
    """
    names, flags = split_words(argv)
    if any(flag in HELP for flag in flags):
        print(USAGE)
        return 0
    fv = define_flags()
    fv.parse(flags)
    if not names:
        raise ConfigError("explain needs a STUDY: an existing study, or a name for a new one")
    if len(names) > 1:
        raise ConfigError(
            f"explain takes one study; '{names[1]}' is a second one (flags have the form "
            "--name=value)"
        )
    for name in ("study", "resume"):
        if fv.given(name):
            raise ConfigError(f"--{name} is not a flag of explain: type 'isoscale explain STUDY'")
    name = names[0]
    folder = study_folder(name, Path(fv.out_dir))
    code, measured = 0, False
    if fv.measure:
        command = _command(fv, name, folder)
        if fv.dry_run:
            return compare.run(command)
        if folder is None or _has_missing_runs(command):
            code, measured = compare.run(command), True
            if code not in (0, 1):
                return code
            folder = study_folder(name, Path(fv.out_dir))
    study = None
    if folder is not None:
        store = Store(folder)
        study = load_study(store)
        store.print_notes()
    if study is None or not study.lanes:
        again = ["isoscale", "explain", name]
        again += [f"--out_dir={fv.out_dir}"] if fv.given("out_dir") else []
        if study is None:
            near = suggestion(name, [path.name for path in studies(Path(fv.out_dir))])
            what = f"study '{name[:80]}' does not exist{near}{' Or' if near else ';'}"
        else:
            what = f"study '{name}' has no setting measured in several lanes;"
        raise ConfigError(f"{what} measure it first with: {shlex.join(again)}")
    _show(study, write=fv.report and not measured, open_=fv.open)
    return code


def _show(study: StudyData, *, write: bool, open_: bool) -> None:
    """Prints the effects of tweaks in a study, and the place of its report; opens it if asked to.

    Raises:
      FolderError: the report cannot be written.
    """
    # Imported late: reporting a wrong flag does not need rich.
    from isoscale.common.report.formats.html_page import FILE
    from isoscale.common.report.study.tables.printed import print_lanes

    print_lanes(study.lanes)
    path = report.write(study) if write else study.folder / FILE
    if path.exists():
        report.print_place(path, open_=open_)
