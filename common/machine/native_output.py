"""What native libraries print: C code writes to the file descriptor, past ``sys.stdout``."""

import ctypes
import os
import sys
import tempfile
from collections.abc import Callable


def printed_by(action: Callable[[], object]) -> str:
    """Runs ``action`` and returns what it wrote to standard output, from C as well (POSIX)."""
    library = ctypes.CDLL(None)
    sys.stdout.flush()
    library.fflush(None)
    kept = os.dup(1)
    try:
        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), 1)
            try:
                action()
            finally:
                sys.stdout.flush()
                library.fflush(None)
                os.dup2(kept, 1)
            file.seek(0)
            return file.read().decode(errors="replace")
    finally:
        os.close(kept)
