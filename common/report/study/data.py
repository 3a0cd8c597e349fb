"""What every view of a study is made from."""

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

from isoscale.common.analysis.losses import LossSpread, loss_spread
from isoscale.common.analysis.scaling import CellSummary, Scaling, summarize_cells
from isoscale.common.analysis.settings import Setting, split_into_settings
from isoscale.common.analysis.verdicts import Verdict, judge
from isoscale.common.analysis.waterfall import Lanes, compare_lanes
from isoscale.common.config.cell import Cell
from isoscale.common.config.run_config import LADDER, TUNED
from isoscale.common.report.study.conditions import Conditions, make_conditions
from isoscale.common.study.records import ResultLine, StudyRecord
from isoscale.common.study.store import Store

PLOTS = "plots"
"""Where a report has its plots, inside the study's folder."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyData:
    """A study, read and analysed.

    Attributes:
      folder: of the study.
      record: ``study.json``.
      lines: ``results.jsonl``, in order of execution.
      summaries: its cells, but those of the ladder.
      ladder: cells between stock and tuned, which have a part in ``lanes`` only.
      settings: the cells by what they have in common.
      verdicts: by title of the setting.
      losses: how far the losses of its cells lie apart, likewise.
      lanes: settings that were measured in several lanes: what stands between stock and tuned.
    """

    folder: Path
    record: StudyRecord
    lines: list[ResultLine]
    summaries: list[CellSummary]
    ladder: list[CellSummary]
    settings: list[Setting]
    verdicts: dict[str, list[Verdict]]
    losses: dict[str, LossSpread]
    lanes: list[Lanes]

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def scaling(self) -> Scaling:
        return self.record.scaling

    @property
    def machines(self) -> list[dict[str, Any]]:
        """The machine of each session."""
        return [session.machine for session in self.record.sessions]

    @property
    def commands(self) -> list[str]:
        """The command of each session, the first one first; the same one twice is said once."""
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

    def names(self) -> dict[Cell, tuple[str, str]]:
        """Returns the name and the setting's title of every cell, by cell."""
        # Later ones win: a cell of the ordinary report is called what it is called there.
        settings = [*(lanes.setting for lanes in self.lanes), *self.settings]
        return {
            cell.cell: (name, setting.title) for setting in settings for name, cell in setting.cells
        }

    def earlier_attempts(self) -> list[str]:
        """Returns the folders of runs that were run again: they failed, or were cut off."""
        return sorted(
            str(path.relative_to(self.folder))
            for path in self.folder.glob("cells/*/run_*.attempt_*")
        )

    def conditions(self) -> Conditions:
        """Returns the conditions under which the study was measured."""
        return make_conditions(
            self.summaries,
            self.machines,
            scaling=self.scaling,
            framework_facts=self.framework_facts(),
            left_out=self.left_out(),
        )

    def left_out(self) -> list[str]:
        """Returns the tweaks that the tuned lane would have had, each with why it did not."""
        found: dict[str, None] = {}
        for line in self.lines:
            if line.cell.tuning == TUNED:
                config = self.config(line) or {}
                for name, reason in config.get("tweaks_left_out", []):
                    found[f"{line.cell.framework} {name}: {reason}"] = None
        return list(found)

    def steps(self, line: ResultLine) -> list[dict[str, Any]]:
        """Returns the records of a run's ``steps.jsonl``; [] if they are not there.

        Raises:
          ValueError: the file is damaged.
        """
        return self._records(line, "steps.jsonl")

    def windows(self, line: ResultLine) -> list[dict[str, Any]]:
        """Returns the records of a run's ``windows.jsonl``; [] if they are not there.

        Raises:
          ValueError: the file is damaged.
        """
        return self._records(line, "windows.jsonl")

    def config(self, line: ResultLine) -> dict[str, Any] | None:
        """Returns a run's ``config.json``; None if it is not there or damaged."""
        return self._record(line, "config.json")

    def framework_facts(self) -> dict[str, dict[str, Any]]:
        """Returns what each framework's widest successful run said of itself."""
        widest: dict[str, ResultLine] = {}
        for line in self.lines:
            known = widest.get(line.cell.framework)
            wider = known is None or line.cell.devices > known.cell.devices
            if line.ok and wider:
                widest[line.cell.framework] = line
        records = {name: self._record(line, "machine.json") for name, line in widest.items()}
        return {name: record["framework"] for name, record in records.items() if record}

    def _record(self, line: ResultLine, name: str) -> dict[str, Any] | None:
        text = self._text(line, name)
        try:
            record = json.loads(text) if text else None
        except ValueError:
            return None  # a view of a view: the figures themselves are in results.jsonl
        return record if isinstance(record, dict) else None

    def _text(self, line: ResultLine, name: str) -> str | None:
        run_dir = Path(line.result.run_dir or "/")
        path = self.folder / run_dir / name
        if run_dir.is_absolute() or not path.is_file():
            return None
        # A path, or a link, that leads out of the study is none of ours.
        if not path.resolve().is_relative_to(self.folder.resolve()):
            return None
        return path.read_text(encoding="utf-8")

    def _records(self, line: ResultLine, name: str) -> list[dict[str, Any]]:
        text = self._text(line, name)
        # One document instead of a thousand: several times as fast to parse.
        return json.loads(f"[{','.join(text.splitlines())}]") if text else []


def load_study(store: Store) -> StudyData:
    """Reads and analyses a study.

    Raises:
      ConfigError: the folder holds no study, or one that we did not write.
    """
    record = store.record()
    store.load()
    lines = sorted(store.lines(), key=lambda line: line.sequence)
    measured = summarize_cells(lines, scaling=record.scaling)
    summaries = [summary for summary in measured if summary.cell.tuning != LADDER]
    settings = split_into_settings(summaries, scaling=record.scaling)
    return StudyData(
        folder=store.folder,
        record=record,
        lines=lines,
        summaries=summaries,
        ladder=[summary for summary in measured if summary.cell.tuning == LADDER],
        settings=settings,
        verdicts=judge(settings),
        losses={setting.title: loss_spread(setting) for setting in settings},
        lanes=compare_lanes(measured, scaling=record.scaling),
    )
