"""TensorBoard as a process of ``isoscale board``, without TensorFlow."""

import sys
import types

from isoscale.common.processes.launch import die_with_launcher


def main() -> None:
    """Runs TensorBoard with the flags of this process; does not return."""
    die_with_launcher()
    # The module whose presence tells TensorBoard to do without TensorFlow. Importing that takes
    # seconds and serves only pages that we do not fill.
    name = "tensorboard.compat.notf"
    sys.modules[name] = types.ModuleType(name)
    from tensorboard.main import run_main

    run_main()


if __name__ == "__main__":
    main()
