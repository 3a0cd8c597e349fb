"""Keeps what tells about a user out of files that are often published: paths, secrets."""

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path

_SHORTEST = 6
"""Shorter values of variables may be words of a text by chance."""
_LARGEST_LOG = 64 * 2**20
_PATH = re.compile(r"(?<![^\s:=,;\"'])(?:~|\.{1,2})?/[^\s:=,;\"']*")
_NAME = re.compile(r"-{0,2}[A-Za-z][\w.-]*(?==)")
_KEY = re.compile(r"(?=\w*\d)(?=\w*[A-Za-z])\w{20,}", re.ASCII)


def may_be_secret(value: str) -> bool:
    """Returns whether a value looks like a key, a token or an address with a password.

    A key is a word of 20 letters and digits or more; names before ``=`` are none.
    """
    return "://" in value or "@" in value or bool(_KEY.search(_NAME.sub("", value)))


def without_paths(value: str) -> str:
    """Returns a value in which ``(path)`` replaces each path."""
    return _PATH.sub("(path)", value)


def file_names(value: str) -> str:
    """Returns a list of paths, separated by colons or blanks, without their folders."""
    return ":".join(Path(path).name for path in re.split(r"[:\s]+", value) if path)


def without_home(text: str) -> str:
    """Returns a text in which ``~`` replaces the path of the user's home."""
    try:
        home = str(Path.home())
    except RuntimeError:  # this user has none, as in many containers
        return text
    return _replaced(text, home, "~")


def prefix_of(python: str) -> str:
    """Returns the folder of an interpreter's installation, from the interpreter's path."""
    folder = Path(python).parent
    return str(folder.parent if folder.name == "bin" else folder)


class Private:
    """Replaces folders, values of variables and the user's home in texts."""

    def __init__(self, folders: Mapping[str, str], variables: Collection[str] = ()):
        """Stores what to replace.

        Args:
          folders: absolute path -> the text in its place.
          variables: names of variables whose values must not appear; the name replaces the value.
        """
        self._places = sorted(folders.items(), key=lambda entry: -len(entry[0]))
        self._values = []
        for name in variables:
            value = os.environ.get(name, "")
            words = {value, *value.split()} if value.strip() else set()
            self._values += [(word, f"({name})") for word in words if len(word) >= _SHORTEST]
        self._values.sort(key=lambda entry: -len(entry[0]))

    def clean(self, text: str) -> str:
        """Returns a text without what is private."""
        for value, name in self._values:  # whole words: a short value may be part of a path
            word = rf"(?<![\w/.-]){re.escape(value)}(?![\w/-])"
            text = re.sub(word, name, text)
        for path, name in self._places:
            text = _replaced(text, path, name)
        return without_home(text)

    def clean_file(self, path: Path) -> None:
        """Cleans a text file in its place; its process has ended.

        A file above 64 MiB stays as it is. So does a file that cannot be written.
        """
        try:
            if path.is_symlink() or path.stat().st_size > _LARGEST_LOG:
                return
            before = path.read_bytes()
            after = self.clean(before.decode(errors="surrogateescape"))
            data = after.encode(errors="surrogateescape")
            if data != before:
                path.write_bytes(data)
        except OSError:
            return


def _replaced(text: str, path: str, name: str) -> str:
    """Replaces a path where it ends, or where a path below it goes on."""
    if len(path) < 2:  # the root of the file system
        return text
    return re.sub(rf"{re.escape(path)}(?![\w.-])", lambda _: name, text)
