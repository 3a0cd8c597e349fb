"""Makes a view of results so that its failure costs the view only."""

import sys
import traceback
from collections.abc import Callable

from isoscale.common.config.errors import ConfigError
from isoscale.common.disk.writing import about_disk
from isoscale.common.processes.frame import Interrupted
from isoscale.common.study.store import Store


def guarded(what: str, make: Callable[[], None], store: Store) -> bool:
    """Makes a view of the results; returns whether that succeeded.

    A failed view prints one line that says that the results are kept; an unexpected error also
    prints its traceback.

    Raises:
      VanishedError: the study was removed; nothing is kept.
    """
    try:
        make()
    except KeyboardInterrupt as error:
        error.add_note(f"{what} is missing, the results are kept")
        raise
    except Exception as error:
        if Interrupted.latest:  # a library that was interrupted may raise another error
            Interrupted.latest.add_note(f"{what} is missing, the results are kept")
            raise Interrupted.latest from None
        store.check_exists()
        if not isinstance(error, OSError | ConfigError):
            traceback.print_exc()
        said = about_disk(error) or error
        print(f"isoscale: cannot make {what}: {said}; the results are kept", file=sys.stderr)
        return False
    return True
