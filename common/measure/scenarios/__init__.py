"""One file per scenario: defines what a run does between its clocks, and its result."""
