"""A study, read and analysed: the source of reports, tables and TensorBoard files."""

import dataclasses
import functools
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from isoscale.common.analysis.correction import Target, in_one_family
from isoscale.common.analysis.crossover import SweepCurves, curves_of
from isoscale.common.analysis.factors import Factors, factors_of
from isoscale.common.analysis.losses import LossSpread, loss_spread
from isoscale.common.analysis.scaling import CellSummary, Scaling, summarize_cells
from isoscale.common.analysis.series_laws import SeriesLaws, laws_of
from isoscale.common.analysis.settings import Setting, independent_name, split_into_settings
from isoscale.common.analysis.sweeps import find_sweeps
from isoscale.common.analysis.variances import Components
from isoscale.common.analysis.verdicts import Verdict, judge
from isoscale.common.analysis.waterfall import Lanes, compare_lanes
from isoscale.common.config.cell import Cell
from isoscale.common.config.read import MissingFileError, read_text
from isoscale.common.config.records import from_record
from isoscale.common.config.run_config import LADDER, TUNED
from isoscale.common.disk.folders import leads_outside
from isoscale.common.disk.json_files import from_json
from isoscale.common.measure.result import LARGEST_RESULT
from isoscale.common.processes.log_lines import LOG
from isoscale.common.report.study.conditions import Conditions, make_conditions
from isoscale.common.study.index import LARGEST
from isoscale.common.study.records import ResultLine, Scalings, StudyRecord
from isoscale.common.study.store import Store

REPORT = "report.md"
"""The report as Markdown, inside the folder of the study."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunFacts:
    """The fields of a run's ``config.json`` that reports show; see ``RunConfig``."""

    steps: int | None = None
    warmup_steps: int | None = None
    window_steps: int | None = None
    latency_steps: int | None = None
    min_seconds: float | None = None
    batch_pool: int | None = None
    max_in_flight: int | None = None
    tweaks_left_out: list[tuple[str, str]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyData:
    """A study, read and analysed.

    Attributes:
      folder: folder of the study.
      record: content of ``study.json``.
      lines: lines of ``results.jsonl``, in order of execution.
      entries: the cells of ``summaries``, ``ladder`` and ``shared``; a cell that a strong and a
        weak setting show has an entry for each, with the base that it has there.
      summaries: all cells except those of the ladder; shared cells (see ``CellSummary``) only in a
        setting that also has cells with runs of its own lane.
      ladder: cells between stock and tuned; only ``lanes`` uses them.
      shared: all shared cells; ``lanes`` has them, too.
      settings: groups of comparable cells.
      verdicts: title of a setting -> its verdicts.
      losses: title of a setting -> the differences between losses of its cells.
      lanes: settings measured in several lanes, with the steps from stock to tuned.
      sweeps: settings that differ in the batch or the size only, with what several devices gain.
      tests: number of tests.
      planned: number of tests that were planned before the data.
      groups_needed: number of groups that ``--target_ci`` needs; 0: unknown, or no target.
      widest_planned: largest half-width of a planned interval, as a share of the ratio.
      noise: variances of the planned pairs of cells that took turns, from 3 groups on.
      notes: what was wrong with ``results.jsonl``, one sentence each.
    """

    folder: Path
    record: StudyRecord
    lines: list[ResultLine]
    entries: list[CellSummary]
    summaries: list[CellSummary]
    ladder: list[CellSummary]
    shared: list[CellSummary]
    settings: list[Setting]
    verdicts: dict[str, list[Verdict]]
    losses: dict[str, LossSpread]
    lanes: list[Lanes]
    sweeps: list[SweepCurves]
    tests: int
    planned: int
    groups_needed: int
    widest_planned: float | None
    noise: list[Components]
    notes: list[str]

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def scaling(self) -> Scalings:
        """Strong, weak or both; each setting has one of them."""
        return self.record.scaling

    @property
    def machines(self) -> list[dict[str, Any]]:
        """The machine of each session."""
        return [session.machine for session in self.record.sessions]

    @property
    def commands(self) -> list[str]:
        """The commands of all sessions in order, without duplicates."""
        found = [
            shlex.join(
                [
                    *("isoscale", "compare", *session.flags, f"--study={self.name}"),
                    *(["--resume"] if index else []),
                ]
            )
            for index, session in enumerate(self.record.sessions)
        ]
        return list(dict.fromkeys(found))

    @property
    def measured(self) -> list[CellSummary]:
        """All cells with runs of their own, those of the ladder last."""
        return [*(cell for cell in self.summaries if cell.shared is None), *self.ladder]

    @property
    def repeated(self) -> list[CellSummary]:
        """The shared cells that ``summaries`` leaves out."""
        shown = {cell.cell for cell in self.summaries}
        return [cell for cell in self.shared if cell.cell not in shown]

    @functools.cached_property
    def laws(self) -> dict[str, list[SeriesLaws]]:
        """Setting title -> the laws of its series; fitted when first needed."""
        return {s.title: laws_of(s, scaling=s.scaling) for s in self.settings}

    @functools.cached_property
    def factors(self) -> dict[str, list[Factors]]:
        """Setting title -> what its cells on several devices lose, and to what."""
        return {s.title: factors_of(s, scaling=s.scaling) for s in self.settings}

    def names(self) -> dict[Cell, tuple[str, str]]:
        """Returns cell -> (name, title of its setting) for all cells; of two settings the first."""
        found: dict[Cell, tuple[str, str]] = {}
        for (cell, _), name in self.places().items():
            found.setdefault(cell, name)
        return found

    def places(self) -> dict[tuple[Cell, Scaling], tuple[str, str]]:
        """Returns (cell, scaling of a setting) -> (name, title of that setting) for all cells."""
        found: dict[tuple[Cell, Scaling], tuple[str, str]] = {}
        # Earlier names win: a cell keeps the name that it has in the ordinary report.
        for setting in (*self.settings, *(lanes.setting for lanes in self.lanes)):
            for name, cell in (*setting.cells, *setting.base_cases):
                found.setdefault((cell.cell, setting.scaling), (name, setting.title))
        # Independent cells of a setting whose other cells have no results stand alone.
        for cell in self.entries:
            if cell.cell.independent:
                alone = independent_name(cell.cell), cell.cell.model
                found.setdefault((cell.cell, cell.scaling), alone)
        return found

    def earlier_attempts(self) -> list[str]:
        """Returns the folders of failed or interrupted attempts whose run was repeated."""
        return sorted(
            str(path.relative_to(self.folder))
            for path in self.folder.glob("cells/*/run_*.attempt_*")
        )

    def conditions(self) -> Conditions:
        """Returns the conditions under which the study was measured."""
        return make_conditions(
            [*self.summaries, *self.repeated],
            self.machines,
            scaling=self.scaling,
            framework_facts=self.framework_facts(),
            left_out=self.left_out(),
        )

    def left_out(self) -> list[str]:
        """Returns the tweaks that the tuned lane had to leave out, each with the reason."""
        found: dict[str, None] = {}
        for line in self.lines:
            if line.cell.tuning == TUNED:
                config = self.config(line)
                for name, reason in config.tweaks_left_out if config else []:
                    found[f"{line.cell.framework} {name}: {reason}"] = None
        for cell in self.shared:
            for name, reason in cell.shared.left_out if cell.shared else []:
                found[f"{cell.cell.framework} {name}: {reason}"] = None
        return list(found)

    def steps(self, line: ResultLine) -> list[dict[str, Any]]:
        """Returns the records of a run's ``steps.jsonl``; [] if the file is missing.

        Raises:
          ValueError: the file is damaged.
        """
        return self._records(line, "steps.jsonl")

    def windows(self, line: ResultLine) -> list[dict[str, Any]]:
        """Returns the records of a run's ``windows.jsonl``; [] if the file is missing.

        Raises:
          ValueError: the file is damaged, or has a negative duration.
        """
        found = self._records(line, "windows.jsonl")
        if any(isinstance(s := window.get("seconds"), int | float) and s < 0 for window in found):
            raise ValueError("windows.jsonl has a negative duration")
        return found

    def config(self, line: ResultLine) -> "RunFacts | None":
        """Returns facts of a run's ``config.json``; None if the file is missing or damaged."""
        record = self._record(line, "config.json") or {}
        names = {field.name for field in dataclasses.fields(RunFacts)}
        try:
            return from_record(RunFacts, {n: v for n, v in record.items() if n in names})
        except ValueError:
            return None

    def framework_facts(self) -> dict[str, dict[str, Any]]:
        """Returns framework -> facts that its successful run on the most devices reported."""
        widest: dict[str, ResultLine] = {}
        for line in self.lines:
            known = widest.get(line.cell.framework)
            wider = known is None or line.cell.devices > known.cell.devices
            if line.ok and wider and not line.cell.independent:
                widest[line.cell.framework] = line
        records = {name: self._record(line, "machine.json") for name, line in widest.items()}
        found = {name: (record or {}).get("framework") for name, record in records.items()}
        return {name: facts for name, facts in found.items() if isinstance(facts, dict)}

    def _record(self, line: ResultLine, name: str) -> dict[str, Any] | None:
        try:
            text = self._text(line, name, most=LARGEST_RESULT)
            record = from_json(text) if text else None
        except ValueError:
            return None  # reports need no more than results.jsonl, which has the figures
        return record if isinstance(record, dict) else None

    def _text(self, line: ResultLine, name: str, *, most: int) -> str | None:
        """Returns the text of a file of a run; None if the file is missing.

        Raises:
          FolderError: the file is not a regular file, too large, or not UTF-8.
        """
        path = self._path(line, name)
        try:
            return None if path is None else read_text(path, most=most)
        except MissingFileError:
            return None

    def _path(self, line: ResultLine, name: str) -> Path | None:
        """Returns the path of a file of a run; None if it is outside the study, also by a link."""
        run_dir = Path(line.result.run_dir or "/")
        path = self.folder / run_dir / name
        return None if run_dir.is_absolute() or leads_outside(self.folder, path) else path

    def log(self, line: ResultLine) -> Path | None:
        """Returns the path of a run's log; None if the run has none."""
        path = self._path(line, LOG)
        return path if path is not None and path.is_file() else None

    def _records(self, line: ResultLine, name: str) -> list[dict[str, Any]]:
        text = self._text(line, name, most=LARGEST)
        # One JSON document parses several times faster than a thousand documents.
        records = from_json(f"[{','.join(text.splitlines())}]") if text else []
        if not all(isinstance(record, dict) for record in records):
            raise ValueError(f"{name} has a line that is not an object")
        return records


def load_study(store: Store) -> StudyData:
    """Reads and analyses a study.

    Raises:
      ConfigError: the folder contains no study, or a study that isoscale did not write.
    """
    record = store.record()
    store.load()
    lines = sorted(store.lines(), key=lambda line: line.sequence)
    found = summarize_cells(lines, scaling=record.scaling, shared=record.shared())
    ladder = [cell for cell in found if cell.cell.tuning == LADDER]
    shown = _shown([cell for cell in found if cell.cell.tuning != LADDER], record.scaling)
    kept = {(entry.cell, entry.scaling) for entry in shown}
    repeated = [x for x in found if x.shared and (x.cell, x.scaling) not in kept]
    settings = split_into_settings(shown, scaling=record.scaling)
    dependent = [cell for cell in found if not cell.cell.independent]
    sweeps = find_sweeps(settings)
    (verdicts, lanes, curves), tests = in_one_family(
        lambda family: (
            judge(settings, family),
            compare_lanes(dependent, scaling=record.scaling, tests=family),
            curves_of(sweeps, family),
        ),
        margin=record.same_within,
        target=_target(record),
    )
    return StudyData(
        folder=store.folder,
        record=record,
        lines=lines,
        entries=[*shown, *ladder, *repeated],
        summaries=_once(shown),
        ladder=_once(ladder),
        shared=_once(cell for cell in found if cell.shared),
        settings=settings,
        verdicts=verdicts,
        losses={setting.title: loss_spread(setting) for setting in settings},
        lanes=lanes,
        sweeps=curves,
        tests=tests.count,
        planned=tests.planned,
        groups_needed=tests.groups_needed,
        widest_planned=tests.widest_planned(),
        noise=tests.noise(),
        notes=store.notes,
    )


def _target(record: StudyRecord) -> Target | None:
    if record.target_ci is None or record.first_stage is None:
        return None
    return Target(groups=record.first_stage, half_width=record.target_ci)


def _once(entries: Iterable[CellSummary]) -> list[CellSummary]:
    """Returns the first entry of each cell."""
    found: dict[Cell, CellSummary] = {}
    for entry in entries:
        found.setdefault(entry.cell, entry)
    return list(found.values())


def _shown(summaries: list[CellSummary], scaling: Scalings) -> list[CellSummary]:
    """Returns the cells without those of a setting in which all cells are shared.

    Such a setting would repeat every table and verdict of the stock lane.
    """
    settings = split_into_settings(summaries, scaling=scaling)
    repeated = {
        (cell.cell, setting.scaling)
        for setting in settings
        if all(cell.shared for _, cell in setting.cells)
        for _, cell in setting.all_cells
    }
    return [cell for cell in summaries if (cell.cell, cell.scaling) not in repeated]
