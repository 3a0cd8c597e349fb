"""``isoscale diff A B``: the same cells in two studies, or cells of one study."""

import sys
from collections.abc import Sequence

from isoscale.common.config.cell import Cell
from isoscale.common.config.errors import ConfigError, shown, unknown
from isoscale.common.config.flags import Flags, split_words
from isoscale.common.study.find import find_study
from isoscale.common.study.store import Store

_MOST_NAMED = 4
"""Ids in an error message."""


def define_flags() -> Flags:
    """Returns the flags of the command, with its help page."""
    fv = Flags(
        usage=(
            "Compares the same cells in two studies (another version, machine or commit): first\n"
            "what differs in their conditions, then for each cell the ratio of throughputs B / A\n"
            "with its interval and one of four answers. Or compares cells of one study with the\n"
            "first of them. Writes no file.\n\n"
            "  isoscale diff A B                   names inside --out_dir, or studies' folders\n"
            "  isoscale diff A B --markdown        for a pull request\n"
            "  isoscale diff A --cells=CELL,CELL   within rounds: drift of the machine cancels\n\n"
            "Exit code: 0 nothing slower by more than --threshold was shown, 1 something was,\n"
            "2 bad input, 3 a folder cannot be read."
        )
    )
    fv.text("out_dir", "runs/out", "folder that holds the studies")
    fv.percent(
        "threshold",
        "5%",
        "cells are slower if throughput B / A is shown to be below 1 / (1 + threshold), and the "
        "same if it is shown to be closer to 1 than that",
    )
    fv.names(
        "cells",
        None,
        "[list] cells of one study, the first is A: ids (folders in the study's cells/), or parts "
        "of an id that no other cell has, such as torch-ddp-2dev",
    )
    fv.boolean("strict", False, "exit with 1 also if a cell is not decided")
    fv.boolean("markdown", False, "print Markdown")
    return fv


def run(argv: Sequence[str]) -> int:
    """Runs the command.

    Returns:
      The exit code: 1 if a cell was shown to be slower by more than the threshold, or with
      ``--strict`` is not decided; otherwise 0.

    Raises:
      ConfigError: bad input.
      FolderError: a study cannot be read.
    """
    fv = define_flags()
    names, flags = split_words(argv)
    if not fv.parse(flags):
        return 0
    stores = _stores(names, fv.cells, fv.out_dir)
    for store in stores:
        store.load()
        if not store.lines():
            why = f": {store.notes[0]}" if store.notes else " yet"
            raise ConfigError(f"study '{store.folder.resolve().name}' has no results{why}")
    chosen = _chosen(fv.cells, stores[0]) if fv.cells else []
    # Imported late: a refusal needs neither statistics nor tables.
    from isoscale.common.analysis.between_studies import match
    from isoscale.common.report.study.data import load_study
    from isoscale.common.report.study.diff import diff_of_cells, diff_of_studies

    studies = [load_study(store) for store in stores]
    if chosen:
        (study,) = studies
        by_cell = {found.cell: found for found in study.measured}
        diff = diff_of_cells(study, [by_cell[cell] for cell in chosen], threshold=fv.threshold)
    else:
        a, b = studies
        matched = match(*([*s.measured, *s.shared] for s in studies))
        if not matched.pairs:
            raise ConfigError(
                f"studies '{a.name}' and '{b.name}' have no cell in common; cells must agree in "
                "model, framework, strategy, devices, batch, dtype, ..."
            )
        diff = diff_of_studies(a, b, matched, threshold=fv.threshold)
    for store in stores:
        store.print_notes()
    if fv.markdown:
        sys.stdout.write(diff.view.markdown())
    else:
        diff.view.print()
    return diff.exit_code(strict=fv.strict)


def _stores(names: Sequence[str], cells: Sequence[str] | None, out_dir: str) -> list[Store]:
    """Returns the studies that the user names: two, or one with ``--cells``.

    Raises:
      ConfigError: another number of studies, an unknown one, or the same one twice.
    """
    if len(names) > 2:
        raise ConfigError(f"diff takes two studies; '{shown(names[2])}' is a third one")
    if not names:
        raise ConfigError("diff needs two studies: isoscale diff A B")
    if cells is not None and len(names) == 2:
        raise ConfigError("--cells compares cells of one study; leave out --cells or one study")
    if cells is None and len(names) == 1:
        raise ConfigError(
            "diff needs a second study (isoscale diff A B), or cells of the one "
            "(isoscale diff A --cells=CELL,CELL)"
        )
    if cells is not None and len(cells) < 2:
        raise ConfigError(f"--cells={shown(cells[0])} must name two cells or more")
    stores = [find_study(name, out_dir) for name in names]
    if len(stores) == 2 and stores[0].folder.resolve() == stores[1].folder.resolve():
        raise ConfigError(
            f"'{shown(names[0])}' and '{shown(names[1])}' are the same study; to compare its "
            "cells: isoscale diff A --cells=CELL,CELL"
        )
    return stores


def _chosen(texts: Sequence[str], store: Store) -> list[Cell]:
    """Returns the cells of a study that the user names.

    Raises:
      ConfigError: a text names no cell or several, two name the same cell, or the cells do not
        train the same model.
    """
    from isoscale.common.analysis.between_studies import other_work

    cells = list(dict.fromkeys(line.cell for line in store.lines()))
    chosen: list[Cell] = []
    for text in texts:
        cell = named_cell(text, cells)
        if cell in chosen:
            raise ConfigError(f"--cells={shown(','.join(texts))} names cell {cell.id} twice")
        if not any(line.ok for line in store.lines() if line.cell == cell):
            raise ConfigError(f"cell {cell.id} has no successful run")
        if chosen and (apart := other_work(chosen[0], cell)):
            raise ConfigError(
                f"cells {chosen[0].id} and {cell.id} differ in {', '.join(apart)}: their "
                "throughputs cannot be compared"
            )
        chosen.append(cell)
    return chosen


def named_cell(text: str, cells: Sequence[Cell]) -> Cell:
    """Returns the cell that a part of ``--cells`` names: an id, or a part of one id only.

    Raises:
      ConfigError: the text names no cell, or several.
    """
    exact = [cell for cell in cells if cell.id == text]
    found = exact or [cell for cell in cells if text in cell.id]
    # The base cases of a cell have its id with more behind it.
    together = [cell for cell in found if not cell.independent]
    found = together if len(together) == 1 else found
    if not found:
        raise unknown("cell", text, [cell.id for cell in cells])
    if len(found) > 1:
        listed = ", ".join(cell.id for cell in found[:_MOST_NAMED])
        more = ", ..." if len(found) > _MOST_NAMED else ""
        raise ConfigError(
            f"--cells: '{shown(text)}' is part of the ids of {len(found)} cells; type more of the "
            f"id: {listed}{more}"
        )
    return found[0]
