"""The PyTorch runner's program; ``python -m isoscale.frameworks.torch_runner --help``."""

import sys

from isoscale.common.processes.early import end_quietly_on_ctrl_c

end_quietly_on_ctrl_c()

# This import takes a fifth of a second.
from isoscale.common.program.main import main  # noqa: E402

sys.exit(main("torch"))
