"""The TensorFlow runner's program; ``python -m isoscale.frameworks.tensorflow_runner --help``."""

import sys

from isoscale.common.program.main import main

sys.exit(main("tensorflow"))
