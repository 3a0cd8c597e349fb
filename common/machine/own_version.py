"""Tells which isoscale this is: its version, and the commit of its code.

A checkout asks git. A wheel has the file ``common/commit.txt``, which its build writes.
``setup.py`` runs this file before isoscale is installed: it imports the standard library only.
"""

import os
import re
import subprocess
from pathlib import Path

VERSION = "0.1.0"
UNKNOWN = "unknown"
MODIFIED = "modified"

COMMIT_FILE = "commit.txt"
"""Name of the file with the commit, in ``common/`` of a wheel or a source distribution."""

_ROOT = Path(__file__).resolve().parents[2]
_CODE = ("common", "models", "frameworks")
"""Folders whose changes make a checkout ``modified``; results and documents do not count."""
_GIT_SECONDS = 5.0
_DIGITS = 12
_FORM = re.compile(rf"[0-9a-f]{{{_DIGITS}}}( {MODIFIED})?")
_HANDED_DOWN = "ISOSCALE_COMMIT"
"""Hands the commit to child processes: the folder of the code, then the commit."""


def own_version() -> str:
    """Returns version and commit, for example ``0.1.0 (commit 3c59c6d34fbc modified)``.

    The commit is ``unknown`` without git, outside a checkout and without a recorded commit.
    """
    return f"{VERSION} (commit {_commit()})"


def commit_of(root: Path) -> str:
    """Returns the first digits of a code folder's commit, and whether the code was modified.

    Args:
      root: the folder that contains ``common``.
    """
    if (root / ".git").exists():
        return _ask_git(root)
    try:
        text = (root / "common" / COMMIT_FILE).read_text(encoding="utf-8")[:100].strip()
    except (OSError, ValueError):
        return UNKNOWN
    return text if _FORM.fullmatch(text) else UNKNOWN


def _commit() -> str:
    """Returns the commit of this code; asks git once for a command and all its children."""
    folder, _, commit = os.environ.get(_HANDED_DOWN, "").rpartition(":")
    # A child may run another copy of the code: a framework can have its own interpreter.
    if folder == str(_ROOT) and (commit == UNKNOWN or _FORM.fullmatch(commit)):
        return commit
    commit = commit_of(_ROOT)
    os.environ[_HANDED_DOWN] = f"{_ROOT}:{commit}"
    return commit


def _ask_git(root: Path) -> str:
    command = [
        # Explicit folders: git must not answer for another repository around this one.
        *("git", f"--git-dir={root / '.git'}", f"--work-tree={root}", "--no-optional-locks"),
        *("status", "--porcelain=v2", "--branch", "--untracked-files=normal", "--", *_CODE),
    ]
    # A git hook sets variables such as GIT_INDEX_FILE for its own repository.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    try:
        answer = subprocess.run(
            command,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
    found = re.search(r"^# branch\.oid ([0-9a-f]{40,64})$", answer.stdout, re.MULTILINE)
    if found is None:
        return UNKNOWN
    changed = any(not line.startswith("#") for line in answer.stdout.splitlines())
    return found[1][:_DIGITS] + (f" {MODIFIED}" if changed else "")
