"""Captures the output of native libraries: C code bypasses ``sys.stdout``."""

import ctypes
import os
import sys
import tempfile
from collections.abc import Callable


def printed_by(action: Callable[[], object]) -> str:
    """Runs ``action`` and returns its standard output, including output from C code (POSIX)."""
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
