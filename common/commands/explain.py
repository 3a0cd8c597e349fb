"""``isoscale explain STUDY``: what tuning does step by step, and what is left of the gap."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from isoscale.common.commands import compare, report
from isoscale.common.config.errors import ConfigError
from isoscale.common.config.flags import Flags
from isoscale.common.registry.interpreters import find_programs
from isoscale.common.report.study.data import StudyData, load_study
from isoscale.common.study.find import split_studies, study_folder
from isoscale.common.study.store import Store

USAGE = """\
Why are frameworks not equally fast here? Measures each as it is installed (stock), with one tweak
more at a time, and with all that pay on this machine (tuned); then says what each tweak changes,
and how much of the gap between frameworks is left.

  isoscale explain STUDY                        measures it first, if it is not there
  isoscale explain STUDY --models=gpt_tiny      any flag of 'isoscale compare'
  isoscale explain STUDY --nomeasure            only what is there; runs nothing

--strategies=bare --devices=1, unless flags say otherwise; a new study has --runs=6. One that is
there keeps what it has: only what is owed is run, with as many runs per cell. --dry_run says what.

Exit code: as 'isoscale compare' (0 all runs ok or skipped, 1 a run failed, 2 bad input,
130 interrupted). All flags: isoscale compare --help"""

RUNS = 6
"""Of each cell of a new study: from 6 on, an interval needs no assumption on the distribution."""


def define_flags() -> Flags:
    fv = compare.define_flags()
    fv.boolean("measure", True, "run what is owed (--nomeasure: only show what is there)")
    return fv


def _command(fv: Flags, name: str, folder: Path | None) -> list[str]:
    """Returns what ``compare`` is called with: a new study, or the ladder of one that is there.

    Args:
      fv: the user's flags, which come last and so win.
      name: of the study.
      folder: of the study; None: there is none yet.

    Raises:
      ConfigError: the folder holds no study of ours.
    """
    out_dir = Path(fv.out_dir)
    if folder is None:
        runs = RUNS
        command = [f"--study={name}"]
    else:
        runs = max(session.rounds for session in Store(folder).record().sessions)
        command = [f"--study={folder.name}", "--resume"]
        out_dir = folder.parent  # another one, if the study was named by its path
    command += ["--strategies=bare", "--devices=1", "--tuning=ladder"]
    if not fv.given("time_budget"):
        command.append(f"--runs={runs}")
    if fv.given("out_dir") or out_dir != Path(fv.out_dir):
        command.append(f"--out_dir={out_dir}")
    return [*command, *fv.as_flags(without={"measure", "out_dir"})]


def _owed(command: list[str]) -> bool:
    """Returns whether ``compare`` would run anything.

    Raises:
      ConfigError: bad input.
    """
    request = compare.read_request(command)
    assert request is not None
    request.store.load()
    names = dict.fromkeys(cell.framework for s in request.sessions for cell in s.cells)
    programs = find_programs(request.flags, list(names))
    return request.budget_seconds is not None or not all(
        request.store.is_ok(cell.cell(), run)
        for session in request.sessions
        for cell in session.cells
        for run in range(session.rounds)
        if programs[cell.framework].missing is None
    )


def run(argv: Sequence[str]) -> int:
    """Returns the exit code: 0 done, 1 a run failed."""
    names, flags = split_studies(argv)
    if any(flag in ("--help", "-help", "-h", "--helpfull") for flag in flags):
        print(USAGE)
        return 0
    fv = define_flags()
    fv.parse(flags)
    if not names:
        raise ConfigError("explain needs a STUDY: one that is there, or a name for a new one")
    if len(names) > 1:
        raise ConfigError(f"'{names[1]}': one study at a time; flags look like --name=value")
    for name in ("study", "resume"):
        if fv.given(name):
            raise ConfigError(f"--{name} is not for explain, which finds STUDY and goes on with it")
    name = names[0]
    folder = study_folder(name, Path(fv.out_dir))
    code, measured = 0, False
    if fv.measure:
        command = _command(fv, name, folder)
        if fv.dry_run:
            return compare.run(command)
        if folder is None or _owed(command):
            code, measured = compare.run(command), True
            if code not in (0, 1):
                return code
            folder = study_folder(name, Path(fv.out_dir))
    study = None if folder is None else load_study(Store(folder))
    if study is None or not study.lanes:
        again = ["isoscale", "explain", name]
        again += [f"--out_dir={fv.out_dir}"] if fv.given("out_dir") else []
        what = f"no study '{name[:80]}'" if study is None else f"nothing to explain in '{name}'"
        raise ConfigError(f"{what}: it has to be measured first, with: {shlex.join(again)}")
    _show(study, write=fv.report and not measured)
    return code


def _show(study: StudyData, *, write: bool) -> None:
    """Prints what a study explains, and where its report is.

    Raises:
      ConfigError: the report cannot be written.
    """
    # Here, not at the top: rich is not needed to say that a flag is wrong.
    from isoscale.common.report.formats.html_page import FILE
    from isoscale.common.report.study.tables.printed import print_lanes

    print_lanes(study.lanes)
    path = report.write(study) if write else study.folder / FILE
    if path.exists():
        print(f"Report: {path}")
