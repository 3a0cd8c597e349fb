from isoscale.common.measure.result import Summary
from isoscale.common.measure.windows import summarize


def test_the_summary_of_an_empty_list_has_no_figures() -> None:
    assert summarize([]) == Summary(median=None, mean=None, p10=None, p90=None, n=0)
    assert summarize([1.0, 2.0, 6.0]).mean == 3.0
    assert summarize([1.0, 2.0, 6.0]).median == 2.0
