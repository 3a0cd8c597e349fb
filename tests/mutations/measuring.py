"""Realistic bugs in the code that measures, starts processes, writes files and judges figures.

Parity cannot find these bugs: they make the same error for every framework. Each bug names the
tests that must fail.
"""

import dataclasses
from pathlib import Path

from tests.mutations.planting import Change, plant

LOOP, SESSION = "common/measure/loop.py", "common/measure/scenarios/training.py"
LAUNCH, LOCK = "common/processes/launch.py", "common/processes/lock.py"
SUPERVISE, STOP = "common/processes/supervise.py", "common/processes/stop.py"
JSON_FILES = "common/disk/json_files.py"
RUNS, STORE = "common/study/runs.py", "common/study/store.py"
FILES, SAVER = "common/checkpoint/files.py", "common/checkpoint/saver.py"
ESTIMATES, SCALING = "common/analysis/estimates.py", "common/analysis/scaling.py"
VERDICTS = "common/analysis/verdicts.py"
CORRECTION = "common/analysis/correction.py"

ENVIRONMENTS = "common/registry/environments.py"

TEST_ENVIRONMENTS = "tests/common/registry/test_environments.py"
TEST_POOLING = "tests/common/analysis/test_pooling.py"
TEST_LOOP = "tests/common/measure/test_loop.py"
TEST_SESSION = "tests/common/measure/test_training.py"
TEST_LAUNCH = "tests/common/processes/test_launch.py"
TEST_SUPERVISE = "tests/common/processes/test_supervise.py"
TEST_STOP = "tests/common/measure/test_stop.py"
TEST_LOCK = "tests/common/processes/test_lock.py"
TEST_JSON_FILES = "tests/common/disk/test_json_files.py"
TEST_EXECUTE, TEST_STORE = "tests/common/study/test_execute.py", "tests/common/study/test_store.py"
TEST_FILES = "tests/common/checkpoint/test_files.py"
TEST_ESTIMATES = "tests/common/analysis/test_estimates.py"
TEST_SCALING = "tests/common/analysis/test_scaling.py"
TEST_VERDICTS = "tests/common/analysis/test_verdicts.py"
GROUP, TURNS, EXECUTE = (
    "common/study/group.py", "common/analysis/turns.py", "common/study/execute.py",
)  # fmt: skip
TEST_GROUP = "tests/common/study/test_group.py"
TEST_TURNS = "tests/common/analysis/test_turns.py"
TEST_IN_TURNS = "tests/common/report/study/test_turns.py"
PLAN, SETTINGS = "common/study/plan.py", "common/analysis/settings.py"
DATA, EXPORTS = "common/report/study/data.py", "common/report/study/exports.py"
TEST_GRID = "tests/common/study/test_grid.py"
CELL, FACTORS, GRID = (
    "common/config/cell.py", "common/analysis/factors.py", "common/study/grid.py",
)  # fmt: skip
TEST_FACTORS = "tests/common/analysis/test_factors.py"
TEST_BASE_CASES = "tests/common/study/test_base_cases.py"
TEST_BOTH_SCALINGS = "tests/common/report/study/test_both_scalings.py"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasuringMutation:
    """One bug.

    Attributes:
      name: name of the bug.
      path: file with the bug.
      changes: changes of that file.
      tests: file of tests; at least one test must fail.
      only: expression for ``pytest -k`` that selects tests of the file; None: all tests.
    """

    name: str
    path: str
    changes: tuple[Change, ...]
    tests: str
    only: str | None = None

    def apply(self, root: Path) -> None:
        """Plants the bug in a copy of the code.

        Raises:
          ValueError: the code at the place of the bug has changed.
        """
        plant(root / self.path, *self.changes)


def _bug(
    name: str,
    path: str,
    old: str,
    new: str,
    *more: Change,
    tests: str,
    only: str | None = None,
    **options: object,
) -> MeasuringMutation:
    """Returns a bug; ``options`` belong to its first change, ``more`` holds its further changes."""
    first = Change(old=old, new=new, **options)  # type: ignore[arg-type]
    return MeasuringMutation(name=name, path=path, changes=(first, *more), tests=tests, only=only)


WAIT = {"within": "timed_window", "places": 2}

MEASURING = (
    # The timed loop.
    _bug("no-wait-before-the-first-clock", LOOP, "runner.wait()", "None", number=0,
         tests=TEST_LOOP, **WAIT),
    _bug("no-wait-before-the-second-clock", LOOP, "runner.wait()", "None", number=1,
         tests=TEST_LOOP, **WAIT),
    _bug("the-second-clock-is-read-before-the-wait", LOOP, "runner.wait()",
         "(ended := clock(), runner.wait())", Change(old="clock() - start", new="ended - start"),
         number=1, tests=TEST_LOOP, **WAIT),
    _bug("ranks-do-not-start-together", LOOP, "runner.barrier()", "None", tests=TEST_LOOP),
    _bug("ranks-meet-inside-the-clocks", LOOP, "clock()", "(clock(), runner.barrier())[0]",
         number=0, places=2, within="timed_window", tests=TEST_LOOP),
    _bug("one-step-more-in-flight", LOOP, "i >= max_in_flight", "i > max_in_flight",
         tests=TEST_LOOP),
    # A training's session.
    _bug("placed-batches-are-placed-inside-the-window", SESSION,
         "config.input_pipeline == 'placed'", "False", tests=TEST_SESSION),
    _bug("timed-batches-are-placed-before-the-window", SESSION, "self._place(left)",
         "list(self._place(left))", tests=TEST_SESSION),
    _bug("the-fastest-rank-counts", SESSION, "max(rank_seconds)", "min(rank_seconds)",
         tests=TEST_SESSION),
    _bug("only-the-first-rank-counts", SESSION, "max(rank_seconds)", "rank_seconds[0]",
         tests=TEST_SESSION),
    _bug("warm-up-is-measured", SESSION, "self._of_phase('throughput')",
         "self._of_phase('throughput') + self._of_phase('warmup')", tests=TEST_SESSION),
    _bug("latency-windows-count-in-throughput", SESSION, "self._of_phase('throughput')",
         "self._of_phase('throughput') + self._of_phase('latency')", tests=TEST_SESSION),
    _bug("throughput-is-the-mean-of-rates", SESSION, "items / measured_seconds",
         "sum(self._config.global_batch_size / w.seconds_per_step for w in throughput) "
         "/ len(throughput)", tests=TEST_SESSION),
    _bug("compiling-counts-twice", SESSION, "self._phase(*compiling)",
         "[self._phase(*compiling) for _ in range(2)]", tests=TEST_SESSION),
    # Processes.
    _bug("no-parent-death-signal", LAUNCH, "libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)", "0",
         tests=TEST_LAUNCH, only="die_with_a_launcher"),
    _bug("the-watchdog-never-fires", SUPERVISE, "now > deadline", "False",
         tests=TEST_SUPERVISE, only="kills_a_process_that_makes_no_progress"),
    _bug("the-watchdog-looks-at-no-heartbeat", SUPERVISE,
         "heartbeat.read_beats(self._run_dir).items()", "{}.items()",
         tests=TEST_SUPERVISE, only="with_a_heartbeat"),
    _bug("the-time-of-a-file-is-progress", SUPERVISE, "known[0] != beat",
         "heartbeat.path_for(self._run_dir, rank).stat().st_mtime > time.time()",
         tests=TEST_SUPERVISE, only="future"),
    _bug("compiling-has-the-limit-of-other-work", SUPERVISE,
         "limits.compile_seconds if beat.compiles else limits.watchdog_seconds",
         "limits.watchdog_seconds", tests=TEST_SUPERVISE, only="compiling"),
    _bug("a-survivor-is-the-cause", SUPERVISE, "end.after if end.code < 0 else end.by", "end.by",
         tests=TEST_SUPERVISE, only="consequences"),
    _bug("the-rank-that-leaves-first-is-the-cause", SUPERVISE, "beat.failed_at is not None",
         "False", tests=TEST_SUPERVISE, only="leaves_last"),
    _bug("the-rank-that-is-ahead-is-blamed", SUPERVISE, "beat.count == least",
         "beat.count > least", tests=TEST_SUPERVISE, only="behind_with_its_step"),
    _bug("a-signal-saves-no-checkpoint", SESSION,
         "self._interrupt(signals[0], after=after)",
         "(_ for _ in ()).throw(Interrupted(signals[0]))", tests=TEST_STOP, only="saved"),
    _bug("a-rank-stops-a-step-later-than-the-others", STOP,
         "to_json([window, last])", "to_json([window, last + 1])",
         tests=TEST_STOP, only="same_step"),
    _bug("a-rank-leaves-while-rank-0-saves", SESSION, "self._runner.barrier()", "None",
         tests=TEST_STOP, only="saved"),
    _bug("descendants-outlive-the-end", LAUNCH,
         "psutil.Process(process.pid).children(recursive=True)", "[]",
         tests=TEST_LAUNCH, only="descendants"),
    _bug("a-failed-rank-is-overlooked", SUPERVISE,
         "[rank for rank, end in self._ends.items() if end.code]",
         "[rank for rank, end in self._ends.items() if end.code and rank == 0]",
         tests=TEST_SUPERVISE, only="one_failing_rank"),
    _bug("a-worker-inherits-a-rank", ENVIRONMENTS, "name not in ranks.VARIABLES", "True",
         within="_inherited", tests=TEST_ENVIRONMENTS, only="rank_keeps"),
    _bug("a-run-inherits-a-variable", ENVIRONMENTS,
         "_inherited(present, platform=config.platform, rank=rank) | handed_on(config.env)",
         "dict(present) | handed_on(config.env)", tests=TEST_ENVIRONMENTS, only="gets_no_variable"),
    _bug("moved-threads-pass", SESSION, "self._pinning.verify()", "None", places=2,
         tests=TEST_SESSION, only="leaves_its_cores"),
    _bug("unlike-runs-are-pooled", SCALING, "pooling.differences(ok)", "[]",
         tests=TEST_POOLING),
    _bug("a-lock-that-does-not-lock", LOCK, "fcntl.LOCK_EX | fcntl.LOCK_NB",
         "fcntl.LOCK_SH | fcntl.LOCK_NB", within="locked", tests=TEST_LOCK),
    _bug("a-rank-stops-without-its-peers", STOP, "len(heartbeat.signals(folder)) < self._ranks",
         "False", tests=TEST_STOP, only="no_rank_shortens"),
    # Files.
    _bug("a-file-is-written-in-place", JSON_FILES, "os.replace(temporary, path)",
         "(temporary.unlink(), path.write_bytes(data))", tests=TEST_JSON_FILES),
    _bug("a-file-is-not-synced", JSON_FILES, "os.fsync(file.fileno())", "None",
         tests=TEST_JSON_FILES),
    _bug("a-file-is-synced-before-it-is-flushed", JSON_FILES, "file.flush()", "None",
         tests=TEST_JSON_FILES),
    _bug("the-name-of-a-file-is-not-synced", JSON_FILES, "sync(path.parent)", "None",
         tests=TEST_JSON_FILES),
    _bug("a-file-that-failed-stays", JSON_FILES, "temporary.unlink(missing_ok=True)",
         "None", tests=TEST_JSON_FILES),
    # Studies.
    _bug("a-retried-run-has-two-lines", STORE, "''.join(self._texts.values())",
         "(p.read_text() if (p := self.folder / RESULTS).exists() else '') "
         "+ [*self._texts.values()][-1]", tests=TEST_STORE, only="replaces_its_line"),
    _bug("a-run-that-is-not-ok-is-adopted", RUNS,
         "result is not None and result.status == 'ok'", "result is not None", tests=TEST_EXECUTE),
    _bug("an-earlier-attempt-is-overwritten", STORE, "run_dir.rename(target)", "None",
         tests=TEST_STORE, only="no_attempt"),
    # Checkpoints.
    _bug("a-checkpoint-is-renamed-before-its-tensors-are-synced", FILES, "sync(path)", "None",
         tests=TEST_FILES, only="synced"),
    _bug("the-name-of-a-checkpoint-is-not-synced", FILES, "sync(folder)", "None",
         tests=TEST_FILES, only="synced"),
    _bug("numbers-that-are-not-finite-are-saved", SAVER, "state.first_not_finite()", "None",
         tests=TEST_SESSION, only="not_finite"),
    _bug("checkpoints-are-due-a-step-late", SAVER, "self._every - step % self._every",
         "self._every - step % self._every + 1", tests=TEST_SESSION, only="between_windows"),
    # Statistics.
    _bug("outliers-are-dropped", SCALING, "estimate(throughputs)", "estimate(near)",
         tests=TEST_SCALING),
    _bug("efficiency-is-speedup", SCALING, "speedup.value / devices", "speedup.value",
         tests=TEST_SCALING),
    _bug("ranks-of-the-interval-are-one-off", ESTIMATES, "(int(interval.low), int(interval.high))",
         "(int(interval.low) + 1, int(interval.high) - 1)", tests=TEST_ESTIMATES),
    _bug("the-median-is-a-mean", ESTIMATES, "(ordered[(n - 1) // 2] + ordered[n // 2]) / 2",
         "sum(ordered) / n", tests=TEST_ESTIMATES),
    _bug("the-variances-are-pooled", ESTIMATES, "False", "True", within="ratio_estimates",
         tests=TEST_ESTIMATES),
    _bug("verdicts-are-not-corrected", CORRECTION,
         "corrected(others)", "others", tests=TEST_VERDICTS),
    # Runs that take turns.
    _bug("disturbed-windows-count", SCALING, "not r.disturbed", "True", tests=TEST_IN_TURNS),
    _bug("groups-of-another-session-are-paired", SCALING, "second.get(run) == group",
         "run in second", tests=TEST_IN_TURNS),
    _bug("steps-are-compared-not-examples", SCALING, "None if s is None else s / size", "s",
         tests=TEST_IN_TURNS),
    _bug("tokens-of-disturbed-windows-count", SCALING, "found * (_speed(line) / line.result.speed)",
         "found", tests=TEST_IN_TURNS),
    _bug("planned-comparisons-are-exploratory", CORRECTION,
         "self._planned.add(_key(cell, other)[0])", "None", tests=TEST_IN_TURNS),
    _bug("rounds-are-the-unit-of-statistics", TURNS, "len(table) >= LEAST_RUNS", "True",
         tests=TEST_TURNS),
    _bug("rounds-have-one-order", GROUP, "random.permutation(len(members))", "range(len(members))",
         tests=TEST_GROUP),
    _bug("disturbed-rounds-are-not-repeated", GROUP,
         "min(spoilt, math.ceil(REPEATED_SHARE * rounds))", "0", tests=TEST_GROUP),
    _bug("a-run-with-partners-outside-is-repeated", EXECUTE,
         "not self._store.others_in_group(records, run)", "True", tests=TEST_EXECUTE),
    # Sweeps, and strong and weak scaling in one study.
    _bug("sizes-are-combined-by-place", PLAN, "itertools.product(*sizes.values())",
         "zip(*sizes.values())", tests=TEST_GRID),
    _bug("the-limit-of-a-grid-forgets-sizes", PLAN, "points * combined", "points",
         tests=TEST_EXECUTE),
    _bug("a-cell-of-both-scalings-is-planned-twice", PLAN, "config.cell().id", "str(len(found))",
         tests=TEST_GRID),
    _bug("cells-of-both-scalings-do-not-take-turns", PLAN, "batches.get(scaling, 0)",
         "batches.get(scaling, cell.global_batch_size)", tests=TEST_GRID),
    _bug("equal-batches-by-chance-make-settings", SCALING,
         "[s for s in SCALINGS if 1 in others[s]]", "[]", tests=TEST_BOTH_SCALINGS),
    _bug("weak-cells-have-the-strong-base", SCALING, "batch_of(summary.cell, summary.scaling)",
         "summary.cell.global_batch_size", tests=TEST_BOTH_SCALINGS),
    _bug("a-setting-mixes-the-scalings", SETTINGS,
         "{'global_batch_size': batch_of(summary.cell, summary.scaling), "
         "'scaling': summary.scaling}",
         "{'global_batch_size': batch_of(summary.cell, summary.scaling)}",
         tests=TEST_BOTH_SCALINGS),
    _bug("every-setting-has-strong-laws", DATA, "laws_of(s, scaling=s.scaling)",
         "laws_of(s, scaling='strong')", tests=TEST_BOTH_SCALINGS),
    _bug("exports-have-one-row-for-both-scalings", EXPORTS, "study.entries",
         "[*study.summaries, *study.ladder, *study.repeated]", tests=TEST_BOTH_SCALINGS),
    # Base cases: independent devices and the factors of efficiency.
    _bug("the-slowest-of-independent-ranks-counts", SESSION,
         "statistics.harmonic_mean(rank_seconds)", "max(rank_seconds)", tests=TEST_SESSION),
    _bug("independent-ranks-rest-after-their-window", SESSION,
         "self._until_all(self._work_on)", "None", tests=TEST_SESSION),
    _bug("one-of-several-devices-counts-the-whole-batch", CELL,
         "share * self.independent if self.independent else self.global_batch_size",
         "self.global_batch_size", tests=TEST_FACTORS),
    _bug("a-factor-is-not-per-device", FACTORS, "before[1] / active", "1.0", tests=TEST_FACTORS),
    _bug("the-share-of-communication-is-taken-as-r", FACTORS, "share / (1 - share)", "share",
         tests=TEST_FACTORS),
    _bug("independent-cells-compete-with-strategies", SETTINGS,
         "alone if summary.cell.independent else groups", "groups", tests=TEST_FACTORS),
    _bug("base-cases-do-not-take-turns-with-their-cell", PLAN, "cell.without(*_NOT_IN_GROUP)",
         "cell.without(*(n for n in _NOT_IN_GROUP if n != 'independent'))",
         tests=TEST_BASE_CASES),
    _bug("base-cases-where-devices-share-cores", GRID, "not found[-1].oversubscribed", "True",
         tests=TEST_BASE_CASES),
)  # fmt: skip
