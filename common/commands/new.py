"""``isoscale new model NAME``: writes a small model of the user's own, as a start."""

import shlex
from collections.abc import Sequence

from isoscale.common.config.errors import ConfigError, require_choice, shown, unknown
from isoscale.common.config.flags import Flags, split_words
from isoscale.common.processes.frame import program_as_typed
from isoscale.common.registry import extra, lookup
from isoscale.common.registry.new_model import write_model

KINDS = ("model",)


def define_flags() -> Flags:
    """Returns the flags of the command, with its help page."""
    fv = Flags(
        usage=(
            "Writes a small model family that works, for you to change: its sizes and parameters\n"
            "(spec.py), the model in each framework, and a test. docs/bring-your-own.md explains\n"
            "the files.\n\n"
            "  isoscale new model my_net --extra=my_folder\n"
            "  isoscale new model my_net --extra=my_folder --frameworks=torch\n\n"
            f"Frameworks: {', '.join(lookup.frameworks())}\n\n"
            "Exit code: 0 done, 2 bad input, 3 a file cannot be written."
        )
    )
    fv.names("frameworks", None, "[list] frameworks to write the model for (default: all)")
    extra.define_extra_flag(fv)
    return fv


def run(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code 0.

    Raises:
      ConfigError: bad input; nothing was written.
      FolderError: a file cannot be written.
    """
    fv = define_flags()
    words, rest = split_words(argv)
    if not fv.parse(rest):
        return 0
    if words and words[0] not in KINDS:
        raise unknown("kind", words[0], KINDS)
    if len(words) != 2:
        raise ConfigError(f"type 'isoscale new model NAME', not {shown(' '.join(words))!r}")
    names = fv.frameworks or list(lookup.frameworks())
    for name in names:
        require_choice("framework", name, lookup.frameworks())
    folder = extra.folder()
    if folder is None:
        raise ConfigError(f"--{extra.FLAG}=FOLDER is required: the folder of your own models")
    name = words[1]
    paths = write_model(folder, name, [lookup.framework_info(name) for name in names])
    print(*(f"wrote {path}" for path in paths), sep="\n")
    flag = f"--{extra.FLAG}={shlex.quote(str(folder))}"
    program = program_as_typed()
    print(f"Check it:   {program} parity --models={name}_tiny --devices=1,2 {flag}")
    print(f"Measure it: {program} compare --models={name}_small --devices=1,2 --runs=3 {flag}")
    return 0
