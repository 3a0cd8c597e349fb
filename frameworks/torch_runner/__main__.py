"""``python -m isoscale.frameworks.torch_runner --help`` says what it does."""

import sys

from isoscale.common.program.main import main

sys.exit(main("torch"))
