"""``python -m isoscale.frameworks.torch_runner --help`` says what it does."""

import sys

from isoscale.common.commands import run_program

sys.exit(run_program.main("torch"))
