"""``isoscale history STUDY...``: draws cells over several studies."""

from collections.abc import Sequence
from pathlib import Path

from isoscale.common.commands.diff import named_cell
from isoscale.common.commands.report import define_open_flag, print_place
from isoscale.common.config.errors import ConfigError, require_choice, shown
from isoscale.common.config.flags import Flags, split_words
from isoscale.common.disk.folders import check_folder, make_folder
from isoscale.common.report.drawing.cache import cache_inside
from isoscale.common.report.study.data import load_study
from isoscale.common.study.find import find_study
from isoscale.common.study.store import Store

PAGE = "history.html"
DATE, VERSION = ORDERS = ("date", "version")


def define_flags() -> Flags:
    """Returns the flags of the command, with its help page."""
    fv = Flags(
        usage=(
            "Draws cells over several studies: throughput with its interval, where conditions\n"
            "changed, and the ratio to the study before with one of four answers.\n\n"
            "  isoscale history A B C              names inside --out_dir, or studies' folders\n"
            "  isoscale history A B C --cells=torch-ddp-2dev --by=version\n\n"
            "Writes history.html, history.md and plots/ (SVG, PNG, PDF) into --out. Exit code:\n"
            "0 done, 2 bad input, 3 a folder cannot be read or written."
        )
    )
    fv.text("out_dir", "runs/out", "folder that holds the studies")
    fv.text("out", "runs/out/history", "folder for the page and the plots")
    fv.names(
        "cells",
        None,
        "[list] cells: ids (folders in a study's cells/), or parts of an id that no other cell "
        "has, such as torch-ddp-2dev (default: all cells of at least two of the studies)",
    )
    fv.text("by", DATE, "order: date, or version of the cell's framework, then date")
    fv.percent(
        "threshold", "5%", "throughputs up to this share apart are called the same, as in diff"
    )
    define_open_flag(fv)
    return fv


def run(argv: Sequence[str]) -> int:
    """Runs the command.

    Returns:
      The exit code 0: the history is written.

    Raises:
      ConfigError: bad input.
      FolderError: a study cannot be read, or the folder cannot be written.
    """
    fv = define_flags()
    names, flags = split_words(argv)
    if not fv.parse(flags):
        return 0
    require_choice("order", fv.by, ORDERS)
    stores = _stores(names, fv.out_dir)
    folder = _folder(fv.out)
    for store in stores:
        store.load()
        if not any(line.ok for line in store.lines()):
            why = f": {store.notes[0]}" if store.notes else ""
            name = store.folder.resolve().name
            raise ConfigError(f"study '{name}' has no successful run{why}")
    # Imported late: a refusal needs neither statistics nor tables.
    from isoscale.common.analysis.history import tracks
    from isoscale.common.report.study.history import by_date, make_history

    studies = by_date([load_study(store) for store in stores])
    found = tracks([[*study.measured, *study.shared] for study in studies])
    if fv.cells:
        chosen = [
            named_cell(text, [next(reversed(track.values())).cell for track in found])
            for text in fv.cells
        ]
        by_cell = {next(reversed(track.values())).cell: track for track in found}
        found = [by_cell[cell] for cell in dict.fromkeys(chosen)]
        for cell, track in zip(dict.fromkeys(chosen), found, strict=True):
            if len(track) < 2:
                only = studies[next(iter(track))].name
                raise ConfigError(f"cell {cell.id} is in study '{only}' only")
    found = [track for track in found if len(track) > 1]
    if not found:
        listed = ", ".join(f"'{study.name}'" for study in studies)
        raise ConfigError(
            f"no two of the studies {listed} have a cell in common; cells must agree in model, "
            "framework, strategy, devices, batch, dtype, ..."
        )
    history = make_history(studies, found, by_version=fv.by == VERSION, threshold=fv.threshold)
    for store in stores:
        store.print_notes()
    make_folder(folder, flag="--out")
    with cache_inside(folder):
        from isoscale.common.report.study.history_page import write_history

        path = write_history(folder, history)
    history.print()
    print_place(path, open_=fv.open)
    return 0


def _stores(names: Sequence[str], out_dir: str) -> list[Store]:
    """Returns the studies that the user names: two or more.

    Raises:
      ConfigError: fewer studies, an unknown one, or the same one twice.
    """
    if len(names) < 2:
        raise ConfigError("history needs two studies or more: isoscale history A B ...")
    stores = [find_study(name, out_dir) for name in names]
    places: dict[Path, str] = {}
    for name, store in zip(names, stores, strict=True):
        place = store.folder.resolve()
        if place in places:
            raise ConfigError(f"'{shown(places[place])}' and '{shown(name)}' are the same study")
        places[place] = name
    return stores


def _folder(text: str) -> Path:
    """Returns the folder for the page; nothing is created.

    Raises:
      ConfigError: the folder holds other files.
    """
    folder = check_folder(text, flag="--out")
    there = sorted(path.name for path in folder.glob("*"))
    if there and PAGE not in there:
        from isoscale.common.report.drawing.files import PLOTS  # late: it loads matplotlib

        if there == [PLOTS]:  # of a history that was interrupted
            return folder
        raise ConfigError(f"--out={text} holds '{there[0]}' but no {PAGE}; choose an empty folder")
    return folder
