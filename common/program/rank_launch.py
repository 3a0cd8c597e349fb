"""The ranks of a run: this program starts itself once for each, and watches over them."""

import contextlib
import subprocess
import sys
from pathlib import Path

from isoscale.common.config.errors import ConfigError, FolderError
from isoscale.common.config.run_config import RunConfig
from isoscale.common.measure.result import RESULT, read_record
from isoscale.common.processes import gang, heartbeat, launch, ranks
from isoscale.common.processes.frame import Interrupted, signal_of_code
from isoscale.common.processes.limits import Limits
from isoscale.common.processes.log_lines import LOG
from isoscale.common.processes.supervise import supervise
from isoscale.common.program.checkpoints import Checkpoints
from isoscale.common.program.outcomes import lost_all_checkpoints, write_failure
from isoscale.common.registry import environments, lookup


def read_independent(processes: int) -> ranks.Rank | None:
    """Returns the place of this process in an independent run; None: it starts the processes.

    Raises:
      ConfigError: another launcher has started this process.
    """
    own = ranks.read(devices=processes)
    if own and not gang.is_connected():
        raise ConfigError(
            f"--independent={processes} with RANK={own.rank}: an independent run starts its "
            "processes itself; type its command without torchrun"
        )
    return own


def launch_ranks(
    framework: str,
    config: RunConfig,
    checkpoints: Checkpoints,
    run_dir: Path,
    argv: list[str],
    limits: Limits,
) -> int:
    """Starts the ranks of a run and waits for them; returns the exit code of this program.

    Raises:
      Interrupted: a signal ended a rank, and there is no result.
    """
    # All ranks must resume from the same checkpoint: 'latest' could change while they start.
    source = [f"--resume_from={checkpoints.source}"] if checkpoints.source else []
    checkpoints.state = None  # each rank reads its own copy
    command = launch.module_command(
        sys.executable, lookup.program(framework), *argv, f"--run_dir={run_dir}", *source
    )
    heartbeat.remove(run_dir)  # of a killed run
    shared = environments.of_run(config)
    with ranks.environments(config.processes, folder=run_dir) as own:
        environment = [{**shared, **rank} for rank in own]
        if config.independent:
            processes = _start_gang(command, environment)
        else:
            processes = [launch.start(command, environment=each) for each in environment]
        outcome = supervise(
            processes,
            run_dir=run_dir,
            limits=limits,
            result=run_dir / RESULT,
            # Without a checkpoint to save, the ranks need not hear of a signal.
            forward_signals=checkpoints.folder is not None,
        )
    if outcome.ok:
        return 0
    result = read_record(run_dir)
    stopped_by = signal_of_code(outcome.exit_code)
    if result is None and stopped_by is not None:
        raise Interrupted(stopped_by)
    error = outcome.explain(run_dir / LOG, otherwise="")
    if not lost_all_checkpoints(result):  # otherwise the rank has said so
        print(f"isoscale: {error}", file=sys.stderr)
    if outcome.exit_code == FolderError.exit_code:
        if result is None:
            with contextlib.suppress(OSError, FolderError):  # the disk may be full
                write_failure(config, run_dir, error)
        return outcome.exit_code
    if result is None:
        write_failure(config, run_dir, error)
    # A complete result remains valid, even if a rank failed while it exited.
    failed = result is None or result["status"] == "failed"
    return int(failed or lost_all_checkpoints(result))


def _start_gang(command: list[str], environment: list[dict[str, str]]) -> list[subprocess.Popen]:
    # Only the ranks hold the sockets: the end of one closes its connections.
    with gang.connections(len(environment)) as sockets:
        return [
            launch.start(
                command,
                environment={**each, **gang.variables(ends)},
                inherited=[end.fileno() for end in ends],
            )
            for each, ends in zip(environment, sockets, strict=True)
        ]
