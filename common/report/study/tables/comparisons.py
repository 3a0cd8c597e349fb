"""The table of a setting's verdicts: one row for each comparison of two cells."""

from isoscale.common.analysis.verdicts import Verdict, evidence_text, ratio_text


def comparison_row(verdict: Verdict, *, more: str = "") -> tuple[str, str, str, str]:
    """Returns the cells compared, the ratio, the evidence and the outcome.

    Args:
      verdict: the comparison.
      more: text after the outcome.
    """
    return (
        f"{verdict.subject} against {verdict.other}",
        ratio_text(verdict.ratio),
        evidence_text(verdict.ratio, verdict.p),
        verdict.answer + more,
    )
