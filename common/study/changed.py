"""What has changed since a resumed study: its runs must not mix two versions of the same code."""

import sys
from collections.abc import Collection, Iterable, Sequence

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.run_config import RunConfig
from isoscale.common.machine.own_version import own_version
from isoscale.common.registry import extra, lookup
from isoscale.common.study.records import ResultLine
from isoscale.common.study.store import Store


def _key(part: str, framework: str) -> tuple[str, str]:
    """Identifies a part of the user's folder; each framework has strategies of its own."""
    return part, "" if part.startswith(extra.SHARED_DIGESTS) else framework


def check_unchanged(store: Store, cells: Collection[RunConfig]) -> None:
    """Checks that finished runs had the same code as the next runs.

    Runs of both get no verdict. Other files of the user's own folder are refused: the user knows
    what to do with them. Another isoscale is announced: most changes of it change no figure.

    Args:
      store: the finished runs, loaded.
      cells: the cells that are about to run.

    Raises:
      ConfigError: a finished run had other files of the user's own folder.
    """
    if cells:
        _check_own_files(store.folder.name, store.lines(), cells)
        other = _other_isoscale(store.folder.name, store.lines())
        if other:
            print(other, file=sys.stderr)


def _check_own_files(name: str, lines: Sequence[ResultLine], cells: Iterable[RunConfig]) -> None:
    now = {
        _key(part, cell.framework): digest
        for cell in cells
        for part, digest in lookup.extra_digests(cell).items()
    }
    for line in lines:
        for part, digest in (line.result.versions or {}).items() if line.ok else ():
            found = now.get(_key(part, line.cell.framework), digest)
            if found != digest:
                raise ConfigError(
                    f"study '{name}' has finished runs with other files of '{part}' (digest "
                    f"{digest}, now {found}); restore these files, or measure the changed ones in "
                    "a new --study"
                )


def _other_isoscale(name: str, lines: Sequence[ResultLine]) -> str | None:
    """Returns a line about finished runs of another isoscale than this one; None without such."""
    here = own_version()
    others = sorted({line.result.isoscale or here for line in lines if line.ok} - {here})
    if not others:
        return None
    return (
        f"isoscale: study '{name}' has finished runs of isoscale {', '.join(others)}; this is "
        f"{here}: a cell with runs of both gets neither an interval nor a verdict"
    )
