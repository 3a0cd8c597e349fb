"""The TensorBoard process of ``isoscale board``; runs without TensorFlow."""

import sys
import types

from isoscale.common.processes.launch import die_with_launcher


def main() -> None:
    """Runs TensorBoard with the flags of this process; does not return."""
    die_with_launcher()
    # TensorBoard does not import TensorFlow if this module exists. The import takes seconds and
    # serves only pages that isoscale leaves empty.
    name = "tensorboard.compat.notf"
    sys.modules[name] = types.ModuleType(name)
    from tensorboard.main import run_main

    run_main()


if __name__ == "__main__":
    main()
