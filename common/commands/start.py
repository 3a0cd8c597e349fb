"""The entry point of ``isoscale``."""

import sys

from isoscale.common.processes.early import end_quietly_on_ctrl_c

end_quietly_on_ctrl_c()


def main() -> int:
    """Runs ``isoscale``; returns its exit code."""
    from isoscale.common.commands.main import main as run  # late: it takes a tenth of a second

    return run()


if __name__ == "__main__":
    sys.exit(main())
