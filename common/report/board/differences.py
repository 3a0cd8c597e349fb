"""The text page of several studies: what ``isoscale diff`` says about each and the next one."""

import itertools
from collections.abc import Mapping

from tensorboard.compat.proto.event_pb2 import Event

from isoscale.common.analysis.between_studies import match
from isoscale.common.report.board import event_records as records
from isoscale.common.report.board.event_records import clean
from isoscale.common.report.board.values import DIFF, study_seconds
from isoscale.common.report.study.data import StudyData
from isoscale.common.report.study.diff import diff_of_studies
from isoscale.common.study.records import SAME_WITHIN


def diff_events(studies: Mapping[str, StudyData]) -> list[Event]:
    """Returns a text for each two neighbours that have a cell in common.

    Args:
      studies: shown name -> study, in the order of the command line.
    """
    found = []
    for (first, a), (second, b) in itertools.pairwise(studies.items()):
        matched = match(*([*s.measured, *s.shared] for s in (a, b)))
        if matched.pairs:
            view = diff_of_studies(a, b, matched, threshold=SAME_WITHIN).view
            text = records.markdown(f"{DIFF}/{clean(first)} to {clean(second)}", view.markdown())
            wall_time = max(study_seconds(a), study_seconds(b))
            found.append(records.event([text], wall_time=wall_time))
    return found
