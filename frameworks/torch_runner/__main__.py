"""The PyTorch runner's program; ``python -m isoscale.frameworks.torch_runner --help``."""

import sys

from isoscale.common.program.main import main

sys.exit(main("torch"))
