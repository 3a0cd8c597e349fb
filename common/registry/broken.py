"""The error of a framework that is installed, but cannot be imported."""

import contextlib
from collections.abc import Iterator, Sequence

from isoscale.common.config.errors import in_one_line, root_of
from isoscale.common.config.framework_info import FrameworkInfo


class BrokenFrameworkError(RuntimeError):
    """A framework is installed, but cannot be imported."""


@contextlib.contextmanager
def broken_if_not_imported(
    info: FrameworkInfo, *, broken_by: tuple[type[Exception], ...], env: Sequence[str] = ()
) -> Iterator[None]:
    """Turns errors of some types into BrokenFrameworkError, with the first of a chain of errors.

    ``env`` has the variables that the user handed on, which may be the cause.
    """
    try:
        yield
    except broken_by as error:
        first = in_one_line(root_of(error))
        if env:
            flags = " ".join(f"--env={entry}" for entry in env)
            raise BrokenFrameworkError(
                f"{info.name} cannot be imported with {flags} ({first}); leave these flags out, or "
                "change their values"
            ) from error
        # pip would find a broken package installed, and do nothing.
        remove = f"pip uninstall {' '.join(info.packages)}"
        raise BrokenFrameworkError(
            f"{info.name} is installed but broken ({first}); install it again: {remove}, then "
            f"{info.install}"
        ) from error
