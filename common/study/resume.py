"""What a study that goes on may take from its own record, which somebody else may have written."""

from collections.abc import Sequence

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.flags import Flags, flag_name
from isoscale.common.processes import limits
from isoscale.common.registry import extra, lookup
from isoscale.common.registry.interpreters import interpreter_flags

# The flags that choose the cells of a session. With one of these flags, --resume plans a new
# session. With none of these flags, --resume continues every planned session.
GRID = {
    "models",
    "frameworks",
    "strategies",
    "devices",
    "global_batch_size",
    "dtype",
    "tuning",
    "runs",
    "time_budget",
    "base_cases",
}
# Flags that change neither the cells of a session nor how a run is measured.
HOUSEKEEPING = {
    "study",
    "out_dir",
    "resume",
    "dry_run",
    "report",
    "open",
    *limits.FLAGS,
    extra.FLAG,
    "allow_oversubscription",
    *(f"python_{name}" for name in lookup.frameworks()),
}


def grid_flags() -> set[str]:
    """Returns the names of the flags that choose cells: those of ``GRID``, and the sizes."""
    return GRID | set(lookup.size_fields())


def check_recorded(recorded: Sequence[str], typed: Flags, *, name: str) -> None:
    """Checks that no recorded flag starts a program, or reads a file, that the user did not name.

    Somebody else may have written the study.

    Raises:
      ConfigError: a recorded flag must be given again.
    """
    for flag in recorded:
        word = flag_name(flag)
        if word in ("flagfile", "recipe"):
            raise ConfigError(
                f"study '{name}' records {flag[:200]!r}: isoscale does not read files that a study "
                "names"
            )
        if word in interpreter_flags() and not typed.given(word):
            raise ConfigError(
                f"study '{name}' was run with --{word}; to resume it, add --{word}=PATH (isoscale "
                "starts no program that only a study names)"
            )
        if word == extra.FLAG and extra.folder() is None:
            raise ConfigError(
                f"study '{name}' used a folder of own models, data sets or strategies; to resume "
                f"it, add --{extra.FLAG}=FOLDER (isoscale imports nothing that only a study names)"
            )
        if word == "env" and flag.partition("=")[2] not in typed.env:
            raise ConfigError(
                f"study '{name}' was run with {flag[:200]!r}; to resume it, add this flag "
                "(isoscale hands on no variable that only a study names)"
            )


def with_base_cases(recorded: Sequence[str]) -> list[str]:
    """Returns recorded flags; those of a study from before base cases leave them out."""
    names = {flag_name(flag) for flag in recorded}
    known = names & {"base_cases", "nobase_cases"}
    return [*recorded] if known else ["--nobase_cases", *recorded]
