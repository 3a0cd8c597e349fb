"""``isoscale repair``: rebuilds a study's index, ``results.jsonl``, from its run folders."""

from collections.abc import Sequence

from isoscale.common.config.counts import counted
from isoscale.common.config.errors import ConfigError
from isoscale.common.config.flags import Flags, split_words
from isoscale.common.study.find import find_study


def define_flags() -> Flags:
    """Returns the flags of the command, with its help page."""
    fv = Flags(
        usage=(
            "Rebuilds results.jsonl, the index of a study's results, from the folders of its\n"
            "runs. Keeps every line that is whole; reads the other results from their run\n"
            "folders; moves damaged lines to results.damaged.jsonl. Writes the exports of an\n"
            "earlier report (results.csv, cells.csv, verdicts.json) again. Trains nothing.\n\n"
            "  isoscale repair STUDY           a name inside --out_dir, or a study's folder\n\n"
            "Exit code: 0 done, 2 bad input, 3 the study is in use or cannot be written,\n"
            "128 + N after signal N (Ctrl-C 130, SIGTERM 143)."
        )
    )
    fv.text("out_dir", "runs/out", "folder that holds the studies")
    return fv


def run(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code.

    Raises:
      ConfigError: bad input.
    """
    fv = define_flags()
    names, flags = split_words(argv)
    if not fv.parse(flags):
        return 0
    if len(names) != 1:
        raise ConfigError("repair needs one STUDY: its name, or the path of its folder")
    store = find_study(names[0], fv.out_dir)
    from isoscale.common.report.study.data import load_study  # late: a refusal needs no templates
    from isoscale.common.report.study.exports import has_exports, write_exports

    with store.locked():
        store.load()
        store.read_run_folders()
        store.print_notes()
        store.write()
        if has_exports(store.folder):
            write_exports(load_study(store))
    results = store.lines()
    successful = sum(line.ok for line in results)
    print(f"{store.folder}: {counted(len(results), 'result')}, {successful} of them successful")
    return 0
