"""Asks a framework about itself: starts its examination in a child process."""

import json
from collections.abc import Mapping
from typing import Any

from isoscale.common.disk.folders import scratch_folder
from isoscale.common.machine import system
from isoscale.common.processes import launch
from isoscale.common.processes.limits import Limits
from isoscale.common.processes.supervise import supervise
from isoscale.common.program.examine import EXAMINATION


def ask(
    python: str, framework: str, *flags: str, environment: Mapping[str, str], seconds: int
) -> dict[str, Any]:
    """Returns the record of a framework's examination (``examine.py``), or its ``error``.

    Args:
      python: interpreter of the framework.
      framework: name.
      *flags: further flags of the examination.
      environment: the environment of the child process.
      seconds: longest time without progress.
    """
    with scratch_folder("isoscale-examine-") as folder:
        process = launch.start(
            [
                *launch.module_command(python, "isoscale.common.program.examine"),
                f"--framework={framework}",
                *flags,
                f"--out_dir={folder}",
            ],
            environment={
                **environment,
                # Nothing is written elsewhere: Keras imports matplotlib, which writes a cache.
                "TMPDIR": str(folder),
                "MPLCONFIGDIR": str(folder),
            },
            log=folder / "log.txt",
        )
        outcome = supervise(
            [process],
            run_dir=folder,
            limits=Limits(watchdog_seconds=seconds, compile_seconds=seconds),
            result=folder / EXAMINATION,
        )
        text = system.read(folder / EXAMINATION)
        if text is not None:
            return json.loads(text)
        return {"error": outcome.explain(folder / "log.txt", otherwise="wrote no result")}
