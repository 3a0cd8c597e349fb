"""``isoscale compare``: plans a study, runs it in fresh processes, and prints the comparison."""

import dataclasses
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.commands import lookup
from common.commands.build_config import build_config, to_flags
from common.config.errors import ConfigError, require_choice, unknown
from common.config.flags import (
    Flags,
    define_dtype_flag,
    define_size_flags,
    define_training_flags,
    fail,
)
from common.config.run_config import RunConfig, cell_id, check_inside
from common.machine import describe
from common.measure import heartbeat
from common.study import launch, plan
from common.study.store import Store, read_result, set_aside

SCALINGS = ("strong", "weak")

# What may differ from the settings a study was started with when it is resumed: what it covers and
# how long it may take, but never how a run is measured.
RESUMABLE = {
    "models",
    "frameworks",
    "strategies",
    "devices",
    "global_batch_size",
    "dtype",
    "runs",
    "time_budget",
    "study",
    "out_dir",
    "resume",
    "dry_run",
    "watchdog_seconds",
}


def define_flags() -> Flags:
    strategies = lookup.all_strategies()
    default = lookup.default_models()
    fv = Flags(
        usage=(
            "Runs models x frameworks x strategies x devices in fresh processes, in interleaved\n"
            "rounds of random order, and compares time per step, throughput, scaling, memory,\n"
            "compile time and loss.\n\n"
            "  isoscale compare                                   the default comparison\n"
            "  isoscale compare --models=gpt_tiny --devices=1,2 --runs=6\n"
            "  isoscale compare --study=NAME --resume             go on where it stopped\n\n"
            f"Models:     {', '.join(lookup.presets())}\n"
            f"Frameworks: {', '.join(lookup.frameworks())}\n"
            f"Strategies: {', '.join(strategies)}\n"
            f"Data sets:  {', '.join(lookup.data_sources())}\n\n"
            "Flags marked [list] take values separated by commas. Exit code: 0 all runs ok or\n"
            "skipped, 1 a run failed or diverged, 2 bad input, 130 interrupted."
        )
    )
    fv.names("models", default, "[list] what to train")
    fv.names("frameworks", None, "[list] which frameworks (default: all)")
    fv.names("strategies", None, "[list] which strategies (default: all)")
    fv.integers("devices", [1, 2], "[list] device counts")
    fv.text("scaling", "strong", "strong: the global batch is fixed; weak: it grows with devices")
    fv.integers(
        "global_batch_size",
        None,
        "[list] examples per step over all devices; with weak scaling, "
        "per device (default: the model's)",
    )
    define_dtype_flag(fv.names, ["float32"])
    fv.names(
        "compile_modes",
        None,
        "[list] FRAMEWORK:MODE, for example torch:compile,tensorflow:xla (default: each "
        "framework's first)",
    )
    fv.integer("runs", None, "runs per cell, instead of a time budget")
    fv.duration("time_budget", "5m", "as many complete rounds as fit, at least one; no --runs")
    fv.text("study", None, "name of the study (default: the time of day)")
    fv.text("out_dir", "runs/out", "folder that holds the studies")
    fv.boolean("resume", False, "go on with a study: what is ok is kept, the rest is run")
    fv.boolean("dry_run", False, "print the plan and an estimate of its duration; run nothing")
    fv.integer("watchdog_seconds", 300, "end a run that makes no progress for so long")
    for name in lookup.frameworks():
        fv.text(f"python_{name}", None, f"interpreter for {name} (default: this one)")
    define_training_flags(fv)
    define_size_flags(fv, lookup.size_fields())
    return fv


def _compile_modes(fv: Flags) -> dict[str, str]:
    modes: dict[str, str] = {}
    for text in fv.compile_modes or []:
        framework, separator, mode = text.partition(":")
        if not separator:
            raise ConfigError(f"--compile_modes={text} must look like FRAMEWORK:MODE")
        info = lookup.framework_info(framework)
        modes[framework] = require_choice(f"compile_mode of {framework}", mode, info.compile_modes)
    return modes


def read_cells(fv: Flags) -> list[RunConfig]:
    """Returns the cells of the grid.

    Raises:
      ConfigError: a part of the grid that cannot be run.
    """
    require_choice("scaling", fv.scaling, SCALINGS)
    frameworks = fv.frameworks or list(lookup.frameworks())
    for name in frameworks:
        require_choice("framework", name, lookup.frameworks())
    for name in fv.strategies or []:
        require_choice("strategy", name, lookup.all_strategies())
    for name in fv.models:
        lookup.preset(name)
    modes = _compile_modes(fv)
    pairs = plan.choose_pairs(
        frameworks,
        fv.strategies,
        {name: lookup.strategies(name) for name in lookup.frameworks()},
        frameworks_given=fv.given("frameworks"),
    )

    def build(
        *,
        framework: str,
        strategy: str,
        model: str,
        devices: int,
        batch: int | None,
        dtype: str,
    ) -> RunConfig:
        size = batch or lookup.preset(model).global_batch_size
        return build_config(
            fv,
            framework=framework,
            strategy=strategy,
            model=model,
            devices=devices,
            global_batch_size=size * (devices if fv.scaling == "weak" else 1),
            dtype=dtype,
            compile_mode=modes.get(framework),
        )

    return plan.expand(
        pairs,
        models=fv.models,
        devices=fv.devices,
        batches=fv.global_batch_size or [None],
        dtypes=fv.dtype,
        build=build,
        max_devices=lambda f, s: lookup.strategy_info(f, s).max_devices,
    )


class Interpreters:
    """Which Python runs each framework, and whether the framework is there."""

    def __init__(self, fv: Flags, frameworks: list[str]):
        self.paths = {name: getattr(fv, f"python_{name}") or sys.executable for name in frameworks}
        for name, path in self.paths.items():
            if not (os.path.isfile(path) and os.access(path, os.X_OK)):
                raise ConfigError(f"--python_{name}={path} is not a program")

    def missing(self, framework: str) -> str | None:
        """Returns the line that installs the framework, or None if it is there."""
        info = lookup.framework_info(framework)
        path = self.paths[framework]
        if path == sys.executable:
            missing = lookup.missing_packages(info)
        else:
            code = (
                "from importlib.util import find_spec as f; import sys; "
                "print(*[n for n in sys.argv[1:] if not (f(n) and f(n).origin)])"
            )
            answer = subprocess.run(
                [path, "-c", code, *info.packages], capture_output=True, text=True, check=False
            )
            missing = answer.stdout.split() if answer.returncode == 0 else list(info.packages)
        if not missing:
            return None
        return f"{framework} is not installed in {path} (no {', '.join(missing)}): {info.install}"


class Study:
    """One study: its plan, its store, and the execution of its runs."""

    def __init__(self, fv: Flags, cells: list[RunConfig], store: Store, interpreters: Interpreters):
        self._fv = fv
        self._cells = cells
        self._store = store
        self._python = interpreters.paths
        names = dict.fromkeys(cell.framework for cell in cells)
        self._missing = {name: interpreters.missing(name) for name in names}
        self._ids = [cell_id(cell.cell()) for cell in cells]
        self._cell_records = [cell.cell() for cell in cells]

    def _pending(self, round_index: int) -> list[int]:
        order = plan.round_order(len(self._cells), seed=self._fv.seed, round_index=round_index)
        return [i for i in order if not self._store.is_ok(self._cell_records[i], round_index)]

    def orders(self, rounds: int) -> list[list[str]]:
        """Returns the recorded random order of every round, as cell ids."""
        seed, count = self._fv.seed, len(self._cells)
        return [
            [self._ids[i] for i in plan.round_order(count, seed=seed, round_index=r)]
            for r in range(rounds)
        ]

    def run_dir(self, index: int, run: int) -> Path:
        return Path("cells") / self._ids[index] / f"run_{run}"

    def command(self, index: int, run: int, run_dir: Path) -> list[str]:
        """Returns the command that executes a run; it can be repeated by hand."""
        config = dataclasses.replace(self._cells[index], seed=self._fv.seed + run)
        return [
            self._python[config.framework],
            "-m",
            lookup.program(config.framework),
            *to_flags(config),
            f"--watchdog_seconds={self._fv.watchdog_seconds}",
            f"--run_dir={run_dir}",
        ]

    def execute(self, index: int, run: int, tick: Any) -> dict[str, Any]:
        """Runs a cell once and returns its line; a failure becomes a line, not an exception."""
        config = self._cells[index]
        relative = self.run_dir(index, run)
        run_dir = (self._store.folder / relative).resolve()
        line: dict[str, Any] = {
            "cell": self._cell_records[index],
            "run": run,
            "seed": self._fv.seed + run,
            "status": "skipped",
            "error": self._missing[config.framework],
        }
        if line["error"]:
            return line
        # A run that finished when its study was killed is adopted, not repeated.
        result = read_result(run_dir)
        if result is None or result["status"] != "ok":
            set_aside(run_dir)
            run_dir.mkdir(parents=True)
            result = self._start(config, index, run, run_dir, tick)
        return {**result, **line, "status": result["status"], "error": result["error"]} | {
            "run_dir": str(relative)
        }

    def _start(
        self, config: RunConfig, index: int, run: int, run_dir: Path, tick: Any
    ) -> dict[str, Any]:
        command = self.command(index, run, run_dir)
        log = run_dir / "log.txt"
        log.write_text(f"$ {shlex.join(command)}\n", encoding="utf-8")
        path = filter(None, [lookup.main_module_path(), os.environ.get("PYTHONPATH")])
        environment = {"PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}
        try:
            process = launch.start(command, environment=environment, log=log)
            outcome = launch.supervise(
                [process],
                run_dir=run_dir,
                watchdog_seconds=self._fv.watchdog_seconds,
                tick=tick,
            )
            error = outcome.error
            if error and not error.startswith("ended by the watchdog"):
                said = launch.last_line(log)
                error = f"{error}; last line of its log: {said}" if said else error
        except OSError as problem:  # the interpreter cannot be started
            error = str(problem)
        heartbeat.remove(run_dir)
        result = read_result(run_dir)
        if result is None or (error and result["status"] == "ok"):
            return {"status": "failed", "error": error or "left no result"}
        return result

    def run(self) -> None:
        """Executes rounds until the runs are done or the time budget is used."""
        from common.study.progress import Progress

        began = time.monotonic()
        round_index, longest = 0, 0.0
        with Progress() as progress:
            while True:
                pending = self._pending(round_index)
                started = time.monotonic()
                progress.start_round(round_index, len(pending), self._fv.runs)
                for index in pending:
                    progress.start_run(self._ids[index], round_index)
                    line = self.execute(index, round_index, progress.tick)
                    self._store.add(line)
                    progress.finish_run(line)
                round_index += 1
                if self._fv.runs:
                    if round_index >= self._fv.runs:
                        return
                    continue
                if pending:
                    longest = max(longest, time.monotonic() - started)
                used = time.monotonic() - began
                if all(self._missing.values()) or used + longest > self._fv.time_budget:
                    return


def print_plan(fv: Flags, cells: list[RunConfig]) -> None:
    """Prints the cells and an estimate of the time; measures the product rate, runs nothing."""
    from rich.console import Console
    from rich.table import Table

    rate = plan.matrix_product_rate()
    table = Table("model", "framework", "strategy", "devices", "global batch", "dtype", "marks")
    total = 0.0
    for cell in cells:
        total += plan.estimate_seconds(cell, rate=rate)
        sizes = "".join(f" {name}={value}" for name, value in cell.overrides)
        table.add_row(
            cell.model + sizes,
            cell.framework,
            cell.strategy,
            str(cell.devices),
            str(cell.global_batch_size),
            cell.dtype,
            "oversubscribed" if cell.oversubscribed else "",
        )
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    if fv.runs:
        extent = f"{fv.runs} rounds (--runs)"
        total *= fv.runs
    else:
        extent = (
            f"at least one round; more while they fit into {fv.time_budget:.0f} s (--time_budget)"
        )
    print(f"{len(cells)} cells, {extent}.")
    print(f"Estimated, not measured: about {total / 60:.0f} min for {'all' if fv.runs else 'one'}.")


def _resume_command(fv: Flags, study: str) -> str:
    out_dir = f" --out_dir={shlex.quote(fv.out_dir)}" if fv.given("out_dir") else ""
    return f"isoscale compare --study={study} --resume{out_dir}"


def _read(argv: list[str]) -> tuple[Flags, Store, dict[str, Any]] | None:
    """Parses flags and finds the study's folder; returns None if help was printed.

    Raises:
      ConfigError: bad input; nothing has been written.
    """
    fv = define_flags()
    if not fv.parse(argv):
        return None
    name = fv.study
    if name is None:
        if fv.resume:
            raise ConfigError("--resume needs --study=NAME")
        name = datetime.now(UTC).strftime("compare-%Y%m%d-%H%M%S")
    folder = check_inside(Path(fv.out_dir), name, flag="--study")
    out_dir = Path(fv.out_dir)
    if out_dir.exists() and not out_dir.is_dir():
        raise ConfigError(f"--out_dir={fv.out_dir} is not a folder")
    store = Store(folder)
    if not fv.resume:
        if folder.exists():
            raise ConfigError(
                f"--study={name} exists in {fv.out_dir}; --resume goes on with it, another name "
                "starts a new one"
            )
        return fv, store, {}
    if not folder.exists():
        known = [path.name for path in out_dir.glob("*") if (path / "study.json").exists()]
        raise unknown("study", name, known)
    settings = store.settings()
    original = define_flags()
    original.parse(settings["flags"])
    fv = define_flags()
    fv.parse([*settings["flags"], *argv])
    for flag, value in original.values().items():
        if flag not in RESUMABLE and getattr(fv, flag) != value:
            raise ConfigError(
                f"--{flag}={getattr(fv, flag)}: study '{name}' was started with {value}; runs "
                "that are measured differently belong into another study"
            )
    return fv, store, settings


def main(argv: Sequence[str]) -> int:
    """Returns the exit code: 0 done, 1 a run failed, 2 bad input, 130 interrupted."""
    try:
        parsed = _read(list(argv))
        if parsed is None:
            return 0
        fv, store, settings = parsed
        cells = read_cells(fv)
        interpreters = Interpreters(fv, list(dict.fromkeys(cell.framework for cell in cells)))
        if fv.dry_run:
            print_plan(fv, cells)
            return 0
        try:
            store.folder.mkdir(parents=True, exist_ok=fv.resume)
        except OSError as error:
            raise ConfigError(f"--out_dir={fv.out_dir} cannot be written: {error}") from None
        with store.locked():
            store.load()
            return _execute(fv, cells, store, settings, interpreters)
    except ConfigError as error:
        return fail(error)


def _execute(
    fv: Flags,
    cells: list[RunConfig],
    store: Store,
    settings: dict[str, Any],
    interpreters: Interpreters,
) -> int:
    study = Study(fv, cells, store, interpreters)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    store.write_settings(
        {
            "flags": fv.as_flags(without={"resume", "dry_run", "study", "out_dir"}),
            "scaling": fv.scaling,
            "created": settings.get("created", now),
            "sessions": [*settings.get("sessions", []), now],
            "order_seed": fv.seed,
            "order": study.orders(fv.runs or 1),
            "order_rule": "numpy.random.default_rng((order_seed, round)).permutation(cells)",
            "machine": describe.machine(),
        }
    )

    def interrupt(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    interrupted = False
    try:
        study.run()
    except KeyboardInterrupt:
        interrupted = True
    from common.analysis.scaling import summarize_cells
    from common.report.table import print_comparison

    lines = store.lines()
    if lines:
        print_comparison(summarize_cells(lines, scaling=fv.scaling), scaling=fv.scaling)
    print(f"Results: {store.folder / 'results.jsonl'}")
    if interrupted:
        print("Interrupted; what finished is kept.", file=sys.stderr)
    if interrupted or any(line["status"] in ("failed", "diverged") for line in lines):
        print(f"Go on with: {_resume_command(fv, store.folder.name)}")
    if interrupted:
        return 130
    return int(any(line["status"] in ("failed", "diverged") for line in lines))
