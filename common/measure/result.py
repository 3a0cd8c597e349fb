"""A run's own record."""

import json
from pathlib import Path
from typing import Any

RESULT = "result.json"
"""A run's own record, in its directory; written last, so that its presence means a whole run."""


def read_result(run_dir: Path) -> dict[str, Any] | None:
    """Returns a run's result record, or None while there is none."""
    try:
        return json.loads((run_dir / RESULT).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
