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
    from absl import app
    from tensorboard import default, main_lib, program

    from isoscale.common.report.board.opening import Opening

    # As tensorboard/main.py, which names this way to add a plugin.
    main_lib.global_init()
    board = program.TensorBoard(plugins=[*default.get_plugins(), Opening])
    app.run(board.main, flags_parser=board.configure)


if __name__ == "__main__":
    main()
