"""``python -m isoscale.frameworks.jax_runner --help`` says what it does."""

import sys

from isoscale.common.commands import run_program

sys.exit(run_program.main("jax"))
