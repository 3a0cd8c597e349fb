"""One file per scenario: what a run does between its clocks, and the type of its result."""
