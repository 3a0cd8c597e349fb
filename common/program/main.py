"""The program behind ``python -m isoscale.frameworks.<framework>_runner``, for every framework.

flags -> RunConfig -> start the ranks, or: pin, import the framework, measure -> run directory.
"""

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from isoscale.common.config.errors import ConfigError, FolderError, in_one_line
from isoscale.common.config.flags import Flags
from isoscale.common.config.run_config import LADDER, STOCK, TUNED, RunConfig
from isoscale.common.config.setting_flags import (
    define_flag,
    define_size_flags,
    define_training_flags,
)
from isoscale.common.disk.folders import make_folder
from isoscale.common.disk.json_files import write_json
from isoscale.common.disk.writing import about_disk, remove_leftovers
from isoscale.common.machine import describe
from isoscale.common.machine.cores import Pinning, available_cores, cores_of_devices
from isoscale.common.machine.own_version import own_version
from isoscale.common.measure.result import (
    RESULT,
)
from isoscale.common.measure.scenario import Task
from isoscale.common.processes import gang, heartbeat, launch, ranks
from isoscale.common.processes.frame import (
    INTERRUPTING,
    Interrupted,
    exit_code_of,
    interrupt_on,
    interrupted_by,
    interrupted_code,
    leave_at_once,
)
from isoscale.common.processes.limits import Limits, define_limit_flags
from isoscale.common.processes.lock import locked, locked_itself
from isoscale.common.processes.stop import Stop
from isoscale.common.processes.supervise import vanished
from isoscale.common.processes.turns import RunEnd, define_turns_flag
from isoscale.common.program.checkpoints import Checkpoints, define_checkpoint_flags
from isoscale.common.program.environment import ensure_environment
from isoscale.common.program.gpus import check_gpus
from isoscale.common.program.outcomes import (
    identity,
    lost_all_checkpoints,
    write_failure,
)
from isoscale.common.program.rank_launch import launch_ranks, read_independent
from isoscale.common.program.run_dir import check_run_dir, is_interrupted, write_run_dir
from isoscale.common.program.startup import Startup
from isoscale.common.registry import environments, extra, lookup
from isoscale.common.registry.build_config import build_config
from isoscale.common.registry.interpreters import how_to_install


def define_flags(framework: str) -> Flags:
    """Returns the flags of a framework's program."""
    info = lookup.framework_info(framework)
    strategies = {
        name: lookup.strategy_info(framework, name) for name in lookup.strategies(framework)
    }
    listing = "\n".join(f"  {name:<10} {entry.summary}" for name, entry in strategies.items())
    fv = Flags(
        usage=(
            f"Trains one model in {framework} and writes a complete run directory.\n\n"
            f"  python -m {lookup.program(framework)} --model=mlp_medium "
            f"--strategy={info.default_strategy} --devices=2\n\n"
            f"Strategies:\n{listing}\n\n"
            f"Models:\n  {', '.join(lookup.presets())}\n\n"
            f"Data sets:\n  {', '.join(lookup.data_sources())}\n\n"
            "The run directory contains config.json, machine.json, environment.json,\n"
            "versions.json, steps.jsonl, windows.jsonl and result.json.\n"
            "Exit code: 0 done, 1 failed, or no checkpoint was saved, 2 bad input, 3 a folder is\n"
            "in use or cannot be written, 128 + N after signal N (Ctrl-C 130, SIGTERM 143). After\n"
            "a signal, a run with --save_checkpoint saves a last one; a second signal ends it at\n"
            "once."
        )
    )
    define_flag(fv, "model", help_="model to train (required)")
    strategy_help = (
        f"strategy that spreads a step over the devices: {'|'.join(strategies)} (default: bare; "
        f"with --devices above 1: {info.default_strategy})"
    )
    define_flag(fv, "strategy", default=None, help_=strategy_help)
    define_flag(fv, "devices")
    define_flag(fv, "global_batch_size")
    define_flag(fv, "dtype")
    modes = info.compile_modes
    define_flag(fv, "compile_mode", default=modes[0], help_="|".join(modes))
    define_flag(fv, "tuning")
    define_flag(fv, "independent")
    fv.text("run_dir", None, "folder for the results (default: runs/out/by_hand/<cell>-<time>)")
    define_limit_flags(fv)
    define_checkpoint_flags(fv)
    define_turns_flag(fv)
    define_training_flags(fv, platforms=info.platforms)
    define_size_flags(fv, lookup.size_fields())
    extra.define_extra_flag(fv)
    return fv


def read_config(fv: Flags, framework: str) -> tuple[RunConfig, ranks.Rank | None]:
    """Returns the run's configuration, and the rank of this process; None: it is no rank.

    Raises:
      ConfigError: this machine cannot run the configuration.
    """
    if fv.model is None:
        raise ConfigError(f"--model is required; known: {', '.join(lookup.presets())}")
    own, strategy = None, fv.strategy or lookup.usual_strategy(framework, fv.devices)
    if fv.independent:
        own = read_independent(fv.independent)
    elif lookup.strategy_info(framework, strategy).process_model == "per_device":
        own = ranks.read(devices=fv.devices)
    config = build_config(
        fv,
        framework=framework,
        strategy=strategy,
        model=fv.model,
        devices=fv.devices,
        global_batch_size=fv.global_batch_size,
        dtype=fv.dtype,
        compile_mode=fv.compile_mode if fv.given("compile_mode") else None,
        tuning=fv.tuning,
        tweaks_must_apply=True,
        local_devices=own.local_world_size if own else None,
        independent=fv.independent,
    )
    if fv.tuning == LADDER and not fv.given("tweaks"):
        raise ConfigError(
            f"--tuning={LADDER} is for 'isoscale compare', which adds --tweaks; choose {STOCK} or "
            f"{TUNED}"
        )
    info = lookup.framework_info(framework)
    missing = lookup.missing_packages(info)
    if missing:
        version = sys.version_info[:2]
        raise ConfigError(how_to_install(framework, sys.executable, missing, version=version)[0])
    return config, own


def _work(
    config: RunConfig,
    checkpoints: Checkpoints,
    run_dir: Path,
    beat: heartbeat.Heartbeat,
    *,
    rank: int,
    place: ranks.Rank | None,
    takes_turns: bool,
    leave: Callable[[int], None],
) -> int:
    """Runs one rank; rank 0 writes the run directory. Returns the exit code: 1 if saves failed.

    ``leave(number)`` ends this process in order after a signal.
    """
    startup = Startup()
    startup.mark("interpreter")
    stop = Stop(folder=run_dir, rank=rank, ranks=config.processes)
    stop.listen(leave)
    beat.beat("starting")
    cores: list[int] | None = None
    if config.platform == "cpu":
        cores = cores_of_devices(
            available_cores(),
            first_device=place.local_rank if place else 0,
            devices=1 if config.process_model == "per_device" else config.devices,
            threads_per_device=config.threads_per_device,
        )
    pinning = Pinning(cores)
    for tweak in lookup.tweaks_in_force(config):
        if not tweak.in_effect():
            raise RuntimeError(f"tweak '{tweak.name}' did not take effect")
    peers: gang.Gang | None = None
    if config.independent and place:
        peers = gang.Gang.inherited(rank=place.rank)
        ranks.stand_alone(place)
    part = config.part
    os.environ.update(lookup.framework_environment(config.framework, part))

    beat.beat("importing the framework")
    with stop.leaving(leave):
        make = lookup.load_runner(part)
    pinning.pin_again()
    startup.mark("import")
    dataset = lookup.load_dataset(part)
    pinning.pin_again()  # a data set can load libraries, too
    startup.mark("data")
    beat.beat("building the model", compiles=True)
    runner = make()
    if peers is not None:
        runner.ranks = peers
    pinning.pin_again()
    checkpoints.restore(runner)
    startup.mark("build")
    facts = runner.describe()
    versions = {"python": sys.version.split()[0], **facts.pop("versions")}
    versions |= lookup.extra_digests(config)

    scenario = lookup.scenario(config.scenario)
    task = Task(
        config=config,
        runner=runner,
        dataset=dataset,
        heartbeat=beat,
        first_step=checkpoints.first_step,
        saver=checkpoints.saver(config, batches=dataset.batches, versions=versions),
        stop=stop,
        pinning=pinning,
        turns=RunEnd(run_dir) if takes_turns and rank == 0 else None,
        takes_turns=takes_turns,
        until_all=peers.until_all if peers is not None else None,
    )
    session = scenario.session(task)
    outcome = session.run()
    lost = False
    threads = pinning.places()
    places = runner.gather(
        {"pinned_cores": pinning.cores, "threads_by_cpus": threads, "pid": os.getpid()}
    )
    # Closed also if a file cannot be written: the other ranks wait for this rank there.
    with contextlib.ExitStack() as closing:
        if peers is not None:
            closing.callback(peers.close)
        closing.callback(runner.close)
        if rank == 0:
            of_machine, environment = describe.machine(), environments.recorded()
            result = scenario.assemble(
                identity(config, run_dir),
                outcome,
                resumed_from=checkpoints.facts(),
                startup_seconds=startup.seconds,
                data=dataset.facts,
                versions=versions,
                machine=describe.identity(of_machine, usable_cores=config.available_cores),
                environment=environment,
            )
            machine = {
                **of_machine,
                "ranks": places,
                "framework": facts,
                "tweaks": {
                    tweak.name: tweak.evidence() if tweak.evidence else None
                    for tweak in lookup.tweaks_in_force(config)
                },
                "native_libraries": describe.native_libraries(),
            }
            write_run_dir(
                run_dir,
                config,
                machine=machine,
                environment=environment,
                versions=versions,
                windows=session.windows,
            )
            # Written last: a run directory with a result is complete.
            record = result.to_record()
            write_json(run_dir / RESULT, record)
            lost = lost_all_checkpoints(record)
            print(scenario.summary(config, result))
            print(f"  results in  {run_dir}")
    return int(lost)


def main(framework: str, argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns the exit code that ``--help`` lists."""
    launched = launch.die_with_launcher()
    given = list(sys.argv[1:] if argv is None else argv)
    return exit_code_of(lambda: _run(framework, given, launched=launched))


def _run(framework: str, argv: list[str], *, launched: bool) -> int:
    interrupt_on(*INTERRUPTING)
    held = contextlib.ExitStack()  # holds the lock until this process ends
    extra.take(argv)
    fv = define_flags(framework)
    if not fv.parse(argv):
        return 0
    config, own = read_config(fv, framework)
    own_version()  # now: ranks inherit git's answer, and the end of a run asks nobody
    checkpoints = Checkpoints.read(fv, config)
    if checkpoints.complete:
        print(f"'{checkpoints.source}' already contains all {config.total_steps} steps")
        return 0
    if own and fv.run_dir is None:
        raise ConfigError("RANK is set: --run_dir must name one folder for all ranks")
    rank = own.rank if own else None
    # Only rank 0 checks the folder: the others may find files that rank 0 has written.
    run_dir = Path(fv.run_dir) if rank else check_run_dir(fv.run_dir, config)
    checkpoints.check_apart(run_dir)
    ensure_environment(config, argv, rank=rank, launched=launched)
    if not launched:  # otherwise the launcher has asked
        check_gpus({framework: sys.executable}, [config])
    if fv.strategy is None and config.devices > 1 and not rank and not launched:
        taken = f"{config.strategy}, the default of {framework} on several devices"
        print(f"isoscale: no --strategy is given: takes {taken}", file=sys.stderr)
    if checkpoints.folder:
        make_folder(checkpoints.folder, flag="--save_checkpoint")
        if rank is None or (rank == 0 and not launched):  # otherwise the launcher holds the lock
            called = f"--save_checkpoint={checkpoints.folder}"
            held.enter_context(locked(checkpoints.folder, called=called))
            checkpoints.check_unchanged()
            remove_leftovers(checkpoints.folder)
    if not launched:  # otherwise the launcher has made the folder; it must not come back if removed
        make_folder(run_dir, flag="--run_dir")
        if not rank:
            held.enter_context(locked_itself(run_dir, called=f"--run_dir={run_dir}"))
            if fv.run_dir is not None:
                check_run_dir(fv.run_dir, config)  # another run may have just ended there
        remove_leftovers(run_dir)
    # The launcher of ranks knows which of them failed first; it writes their result.
    supervised = launched and rank is not None
    if not rank and not supervised and is_interrupted(run_dir, config):
        (run_dir / RESULT).unlink()  # this run takes its place
    beat: heartbeat.Heartbeat | None = None
    code = 0

    def note_interrupted(error: KeyboardInterrupt) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in INTERRUPTING:  # the end is a matter of milliseconds
                signal.signal(number, signal.SIG_IGN)
        if not supervised:
            message = f"interrupted by {interrupted_by(error).name}{checkpoints.hint()}"
            print(f"isoscale: {message}", file=sys.stderr)
            with contextlib.suppress(OSError, FolderError):  # the disk may be full
                if not rank and not (run_dir / RESULT).exists():
                    write_failure(config, run_dir, message, status="interrupted")

    def leave(code: int) -> NoReturn:
        if not launched:  # otherwise the supervisor still reads the heartbeat
            with contextlib.suppress(OSError):  # a file that stays does no harm
                heartbeat.remove(run_dir, rank)
        leave_at_once(code)

    def leave_interrupted(number: int) -> NoReturn:
        note_interrupted(error := Interrupted(number))
        leave(interrupted_code(error))

    try:
        if config.process_model == "per_device" and rank is None:
            limits = Limits.read(fv)
            code = launch_ranks(framework, config, checkpoints, run_dir, argv, limits)
        else:
            heartbeat.remove(run_dir, rank or 0)  # of a killed run
            beat = heartbeat.Heartbeat(heartbeat.path_for(run_dir, rank or 0))
            code = _work(
                config,
                checkpoints,
                run_dir,
                beat,
                rank=rank or 0,
                place=own,
                takes_turns=fv.turns,
                leave=leave_interrupted,
            )
    except KeyboardInterrupt as error:
        code = interrupted_code(error)
        note_interrupted(error)
    except Exception as error:
        if Interrupted.latest:  # a library that was interrupted may raise another error
            leave_interrupted(Interrupted.latest.number)
        # This is the outermost frame: any failure becomes a result on disk, if that can be written.
        code, message = _explain(error, run_dir, supervised=supervised)
        with contextlib.suppress(OSError, FolderError):
            if beat is not None:
                beat.fail(message)
            if not supervised and not (run_dir / RESULT).exists():
                write_failure(config, run_dir, message)
    leave(code)


def _explain(error: Exception, run_dir: Path, *, supervised: bool) -> tuple[int, str]:
    """Prints why a run failed; returns its exit code, and the reason in one line.

    The launcher of supervised ranks says what one of them could not write.
    """
    refused = about_disk(error) if run_dir.is_dir() else vanished(run_dir)
    with contextlib.suppress(OSError):  # the log may lie on the same full disk
        if not refused:
            traceback.print_exc()
        elif not supervised:
            print(f"isoscale: {refused}", file=sys.stderr)
    if refused:
        return FolderError.exit_code, refused
    return 1, in_one_line(error)
