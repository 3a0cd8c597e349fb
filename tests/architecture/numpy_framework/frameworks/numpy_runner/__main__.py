"""The NumPy runner's program; ``python -m isoscale.frameworks.numpy_runner --help``."""

import sys

from isoscale.common.program.main import main

sys.exit(main("numpy"))
