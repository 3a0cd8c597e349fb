"""The answer of a study in plain sentences, made from verdicts only."""

import dataclasses
from collections.abc import Sequence

from common.analysis.estimates import LEAST_RUNS
from common.analysis.scaling import CellSummary
from common.analysis.settings import Setting
from common.analysis.verdicts import (
    Verdict,
    champions,
    comparable,
    device_counts,
    evidence_text,
    overall,
    ratio_text,
)
from common.report.study_data import StudyData


@dataclasses.dataclass(frozen=True, kw_only=True)
class Glance:
    """A row of the opening table: what to choose for one setting, and how sure that is.

    Attributes:
      setting: its title.
      choice: the fastest cell, with all that no difference is shown from.
      sure: the evidence against the best of the rest.
      scaling: whether more devices pay.
    """

    setting: str
    choice: str
    sure: str
    scaling: str


def _joined(items: Sequence[str]) -> str:
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def _step(cell: CellSummary) -> str:
    assert cell.step_seconds is not None
    milliseconds = 1e3 * cell.step_seconds.median
    return f"{milliseconds:.{2 if milliseconds < 100 else 0}f} ms/step"


def _devices(count: int) -> str:
    return f"{count} device{'s' if count > 1 else ''}"


def _disturbed(cells: Sequence[CellSummary]) -> str:
    disturbed, runs = sum(cell.disturbed for cell in cells), sum(len(cell.ok) for cell in cells)
    return f" {disturbed} of these {runs} runs were disturbed by other programs." * bool(disturbed)


def _too_few(cells: Sequence[CellSummary]) -> str:
    least = min(len(cell.ok) for cell in cells)
    return "one run" if least == 1 else f"{least} runs"


def _contest(setting: Setting, verdicts: Sequence[Verdict], devices: int | None) -> str | None:
    """Returns who is fastest with so many devices (None: with any number)."""
    best = champions(setting, devices)
    if not best:
        return None
    if devices is None:
        where, found = "With any number of devices", overall(setting, verdicts)
    else:
        where = f"On {_devices(devices)}"
        found = [
            verdict
            for verdict in verdicts
            if verdict.question == "at equal devices"
            and verdict.subject_cell.cell["devices"] == devices
        ]

    def called(name: str) -> str:
        return name if devices is None else name.rsplit(" on ", 1)[0]

    first, cell = called(best[0][0]), best[0][1]
    if len(best) == 1:
        return f"{where} only {first} was measured ({_step(cell)}): there is nothing to compare."
    cells = [entry for _, entry in best]
    if any(verdict.outcome == "no verdict" for verdict in found):
        order = _joined([f"{called(entry)} {_step(of)}" for entry, of in best])
        return (
            f"{where} there is no verdict ({_too_few(cells)} of a cell; {LEAST_RUNS} are needed). "
            f"Measured, without an interval: {order}.{_disturbed(cells)}"
        )
    wins = [
        f"{ratio_text(v.ratio)} faster than {called(v.other)} ({evidence_text(v.ratio, v.p)})"
        for v in found
        if v.outcome == "faster"
    ]
    ties = [
        f"{called(v.other)} (ratio {ratio_text(v.ratio)}, {evidence_text(v.ratio, v.p)})"
        for v in found
        if v.outcome != "faster"
    ]
    if not ties:
        text = f"{where} {first} is fastest ({_step(cell)}): {_joined(wins)}."
    else:
        text = (
            f"{where} no single fastest is shown: between {first} ({_step(cell)}) and "
            f"{_joined(ties)} no difference is shown."
        )
        if wins:
            text += f" {first} is {_joined(wins)}."
    return text + _disturbed(cells)


def _scaling(verdicts: Sequence[Verdict]) -> list[str]:
    """Returns who gains from more devices and who loses, against one device without wrapper."""
    found = [verdict for verdict in verdicts if verdict.question == "against bare"]
    sentences = []
    for outcome, text in (
        ("faster", "Faster on more devices than bare on one"),
        ("slower", "Slower on more devices than bare on one"),
        ("no difference shown", "No difference shown from bare on one device"),
        ("no verdict", "Speedup against bare on one device, without interval or verdict"),
    ):
        listed = [
            f"{v.subject} {ratio_text(v.ratio)} "
            f"({100 * v.ratio.value / v.subject_cell.cell['devices']:.0f} % efficiency)"
            for v in found
            if v.outcome == outcome
        ]
        if listed:
            sentences.append(f"{text}: {_joined(listed)}.")
    above = [
        verdict.subject
        for verdict in found
        if (verdict.ratio.low or verdict.ratio.value) > verdict.subject_cell.cell["devices"]
    ]
    if above:
        sentences.append(
            f"More than ideal: {_joined(above)}. The devices cannot give that by themselves; the "
            "base on one device is slow, so this is no scaling figure to rely on."
        )
    return sentences


def answer(study: StudyData, setting: Setting) -> list[str]:
    """Returns the sentences about one setting, the most important first."""
    verdicts = study.verdicts[setting.title]
    counts = device_counts(setting)
    questions: list[int | None] = list(counts)
    if all(champions(setting) != champions(setting, count) for count in counts):
        questions.append(None)  # else it was already answered
    sentences = [text for n in questions if (text := _contest(setting, verdicts, n))]
    sentences += _scaling(verdicts)
    compared = {cell.cell["framework"] for _, cell in comparable(setting)}
    absent = sorted({cell.cell["framework"] for _, cell in setting.cells} - compared)
    if absent:
        sentences.append(f"Not compared, for want of a result: {_joined(absent)}.")
    shared = sorted(
        {cell.cell["devices"] for _, cell in setting.cells if cell.cell["oversubscribed"]}
    )
    if shared:
        counts_text = _joined([str(count) for count in shared])
        sentences.append(
            f"Cells with {counts_text} devices shared cores (oversubscribed); they show overhead "
            "and correctness, so no verdict is drawn from them."
        )
    return sentences


def glance(study: StudyData, setting: Setting) -> Glance:
    """Returns the opening table's row for a setting."""
    verdicts = study.verdicts[setting.title]
    best = champions(setting)
    if not best:
        return Glance(setting=setting.title, choice="nothing measured", sure="-", scaling="-")
    found = overall(setting, verdicts)
    name, cell = best[0]
    if not found:
        choice, sure = f"{name} ({_step(cell)})", "nothing to compare with"
    elif any(verdict.outcome == "no verdict" for verdict in found):
        cells = [entry for _, entry in best]
        choice = f"{name} was fastest ({_step(cell)})"
        sure = (
            f"no verdict: {_too_few(cells)} of a cell; {ratio_text(found[0].ratio)} over the next"
        )
    else:
        ties = [verdict.other for verdict in found if verdict.outcome != "faster"]
        choice = " or ".join([f"{name} ({_step(cell)})", *ties])
        shown = [verdict for verdict in found if verdict.outcome == "faster"]
        sure = "no difference shown between them; " if ties else ""
        sure += f"{shown[0].evidence} over {shown[0].other}" if shown else ""
        sure = sure.removesuffix("; ")
    return Glance(setting=setting.title, choice=choice, sure=sure, scaling=_pays(verdicts))


def _pays(verdicts: Sequence[Verdict]) -> str:
    found = [verdict for verdict in verdicts if verdict.question == "against bare"]
    if not found:
        return "not measured"
    if all(verdict.outcome == "no verdict" for verdict in found):
        highest = max(found, key=lambda verdict: verdict.ratio.value)
        return f"no verdict; highest speedup {ratio_text(highest.ratio)} ({highest.subject})"
    faster = sorted(
        (verdict for verdict in found if verdict.outcome == "faster"),
        key=lambda verdict: -verdict.ratio.value,
    )
    if not faster:
        return "no gain shown for any"
    return "yes: " + ", ".join(f"{v.subject} {ratio_text(v.ratio)}" for v in faster)
