"""The line of a log that says what went wrong."""

import re
from pathlib import Path

LOG = "log.txt"
"""The log of a process, in its folder."""
_TAIL_BYTES = 20_000
_LONGEST = 300

# Lines that frameworks and Python print in every run, or after the line that says something.
_SAYS_NOTHING = re.compile(
    r"""
    \$\                                                  # isoscale: the command of the run
    | isoscale:\ interrupted$
    | [IWV]\d{4}\ \d\d:\d\d:\d\d                         # absl, glog: no error
    | [IWV]0{4}\ 00:00:\d+                               # absl before its initialisation
    | (\[rank\d+\]:\ ?)?\[[IWV]\d{4}\ \d\d:\d\d:\d\d     # torch
    | \d{4}-\d\d-\d\d\ \d\d:\d\d:\d\d[.,]\d+:\ [IWV]\    # TensorFlow
    | (INFO|WARNING|DEBUG):                              # logging, absl
    | .*(failed\ call\ to\ cuInit|Unable\ to\ register\ cu)   # TensorFlow without a GPU
    | To\ enable\ the\ following\ instructions           # TensorFlow, continued lines
    | For\ more\ info                                    # PyTorch, TensorFlow
    | Extension\ modules:                                # faulthandler, at the end of a crash
    | (Current\ thread|Thread)\ 0x[0-9a-f]+
    | File\ "[^"]*",\ line\ \d+
    | \S+\.py:\d+:\ \w*Warning:                          # warnings
    | warnings\.warn\(
    | [~^\s]+$                                           # marks below a line of a traceback
    | <no\ Python\ frame>
    """,
    re.VERBOSE,
)


def telling_line(log: Path) -> str | None:
    """Returns the last line of a log that says something, cut to 300 characters; None without one.

    Lines that frameworks print in every run say nothing about an error.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return None
    said = [line.strip() for line in lines if line.strip()]
    said = [line for line in said if not _SAYS_NOTHING.match(line)]
    return said[-1][:_LONGEST] if said else None
