"""``python -m isoscale.frameworks.numpy_runner --help`` says what it does."""

import sys

from isoscale.common.program.main import main

sys.exit(main("numpy"))
