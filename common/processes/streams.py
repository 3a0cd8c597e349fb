"""Standard streams that never end a program: its results matter more than what it prints.

Python raises an error for a character that the terminal's encoding lacks, for a reader that has
gone (``isoscale compare | head``), for a full disk behind ``> file``, and for a stream that is
closed (``>&-``). Each of them would end a study before its report is written.
"""

import contextlib
import errno
import io
import os
import sys
from typing import Any, TextIO

from isoscale.common.config.errors import FolderError
from isoscale.common.disk.writing import reason

_CLOSED_BY_READER = 141
"""Exit code after the reader of standard output has gone, as in shells."""


class _Output(io.FileIO):
    """Writes to a descriptor; after the first error it discards all output.

    Attributes:
      error: the first error; None without one.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        if self.error is None:
            try:
                return super().write(data)
            except OSError as error:
                self.error = error
        return len(memoryview(data).cast("B"))


def protect_streams() -> None:
    """Makes the standard streams of this process safe to write to.

    A character that the encoding lacks is printed as its escape (``\\xe4``). A closed stream is
    opened on the null device: otherwise the next file that the program opens would get its number,
    and the output of native libraries. Streams that a test has replaced stay as they are.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _protected(sys.stdout, 1)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _protected(sys.stderr, 2)


def _protected(stream: TextIO | None, number: int) -> TextIO:
    if stream is None:  # it was closed when Python started
        return open(number, "w", encoding="utf-8", errors="replace", closefd=False)
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(number, "w", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace" if stream.errors == "strict" else stream.errors,
        newline="\n",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _raw(stream: Any) -> _Output | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Output) else None


def code_after_output(code: int) -> int:
    """Flushes standard output; returns a program's exit code.

    Args:
      code: the code without regard to its output.

    Returns:
      ``code`` if it is not 0, or if all output was written; 141 if the reader has gone.

    Raises:
      FolderError: output could not be written for another reason.
    """
    with contextlib.suppress(OSError):  # a stream that is not protected
        sys.stdout.flush()
    raw = _raw(sys.stdout)
    if code or raw is None or raw.error is None:
        return code
    if raw.error.errno == errno.EPIPE:
        return _CLOSED_BY_READER
    raise FolderError(f"cannot write to standard output: {reason(raw.error)}")
