"""The frameworks, one folder each."""

import sys

from isoscale.common.processes.early import end_quietly_on_ctrl_c

# ``python -m`` imports a framework's folder, which takes a tenth of a second, before it runs
# ``__main__.py``. Only then does sys.argv begin like this.
if sys.argv[:1] == ["-m"]:
    end_quietly_on_ctrl_c()
