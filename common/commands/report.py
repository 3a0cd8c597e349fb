"""``isoscale report STUDY``: writes a study's report again, from its files on disk."""

import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from isoscale.common.config.errors import ConfigError, in_one_line, shown
from isoscale.common.config.flags import Flags, split_words
from isoscale.common.report.drawing.cache import cache_inside
from isoscale.common.report.drawing.files import PLOTS
from isoscale.common.report.study.data import StudyData, load_study
from isoscale.common.study.find import find_study


def define_flags() -> Flags:
    """Returns the flags of the command, with its help page."""
    fv = Flags(
        usage=(
            "Writes report.html, report.md, results.csv (runs), cells.csv, verdicts.json and\n"
            "plots/ into a study's folder.\n\n"
            "  isoscale report                the newest study in --out_dir\n"
            "  isoscale report STUDY          a name inside --out_dir, or a study's folder\n"
            "  isoscale report STUDY --plots=all\n"
            "  isoscale report STUDY --open   also opens it in the browser\n\n"
            "'isoscale compare' writes the same files when a study ends. Exit code: 0 done, 2 bad\n"
            "input, 3 the folder cannot be read or written."
        )
    )
    fv.text("out_dir", "runs/out", "folder that holds the studies")
    fv.text(
        "plots",
        None,
        "number of settings with plots of their own, or all (default: all settings of a small "
        "study, the first few settings of a large study)",
    )
    define_open_flag(fv)
    return fv


def define_open_flag(fv: Flags) -> None:
    """Defines ``--open``."""
    fv.boolean("open", False, "open the report in the browser at the end")


def read_plots(text: str | None) -> int | None:
    """Returns the number of settings with plots of their own; None without the flag.

    Raises:
      ConfigError: neither a number nor ``all``.
    """
    if text is None:
        return None
    if text == "all":
        return sys.maxsize
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise ConfigError(f"--plots={shown(text)} must be a whole number, 0 to 999999999, or 'all'")
    return int(text)


def write(study: StudyData, *, most_drawn: int | None = None) -> Path:
    """Writes a study's report and returns its path.

    Args:
      study: the study's results.
      most_drawn: as for ``write_report``.

    Raises:
      ConfigError: ``plots`` is a link.
      FolderError: the disk is full, or the folder cannot be written.
    """
    with cache_inside(study.folder):
        # Imported late: reporting a wrong name does not need matplotlib.
        from isoscale.common.report.study.write import write_report

        return write_report(study, most_drawn=most_drawn)


def write_events(study: StudyData) -> None:
    """Writes a study's event files for TensorBoard; without TensorBoard, prints one line instead.

    Raises:
      ConfigError: the records of a run are unreadable.
      FolderError: the disk is full, or the folder cannot be written.
    """
    try:
        from isoscale.common.report.board.event_files import write_event_files
    except ImportError as error:
        print(f"isoscale: no event files: {missing_tensorboard(error)}", file=sys.stderr)
    else:
        write_event_files(study, plots=study.folder / PLOTS)


def print_answer(study: StudyData) -> None:
    """Prints, for each setting, the fastest cell and how certain that is."""
    from isoscale.common.report.study.tables.printed import print_in_short, print_limits

    print_in_short(study)
    print_limits(study)


def print_place(path: Path, *, open_: bool) -> None:
    """Prints where a report is, on a terminal as a link; opens it in the browser if asked to.

    A browser that cannot be opened costs one line: the report is there.
    """
    link = path.resolve().as_uri()
    print(f"Report: {link if sys.stdout.isatty() else path}", flush=True)
    if not open_:
        return
    try:
        opened = webbrowser.open(link)
    except (OSError, ValueError, webbrowser.Error):
        opened = False
    if not opened:
        print("isoscale: --open: no browser could be started", file=sys.stderr)


def missing_tensorboard(error: ImportError) -> str:
    """Returns one line for an import of TensorBoard that failed."""
    return (
        f"TensorBoard cannot be imported ({in_one_line(error)}); install it: "
        f"{sys.executable} -m pip install tensorboard"
    )


def run(argv: Sequence[str]) -> int:
    """Runs the command.

    Returns:
      The exit code 0: the report is written.

    Raises:
      ConfigError: bad input, or the report cannot be written.
    """
    fv = define_flags()
    names, flags = split_words(argv)
    if not fv.parse(flags):
        return 0
    if len(names) > 1:
        raise ConfigError(f"report takes one study; '{names[1]}' is a second one")
    most_drawn = read_plots(fv.plots)
    store = find_study(names[0] if names else None, fv.out_dir)
    study = load_study(store)
    if not study.lines:
        why = f": {store.notes[0]}" if store.notes else " yet"
        raise ConfigError(f"study '{study.name}' has no results{why}")
    store.print_notes()
    path = write(study, most_drawn=most_drawn)
    print_answer(study)
    print_place(path, open_=fv.open)
    return 0
