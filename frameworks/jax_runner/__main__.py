"""The JAX runner's program; ``python -m isoscale.frameworks.jax_runner --help``."""

import sys

from isoscale.common.program.main import main

sys.exit(main("jax"))
