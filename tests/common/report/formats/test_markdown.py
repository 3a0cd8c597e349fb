import pytest

from isoscale.common.report.formats.escape import escape_markdown


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a|b", "a\\|b"),
        ("<i> & `x`", "&lt;i&gt; &amp; \\`x\\`"),
        ("[a](b)", "[a]\\(b)"),
        ("two\nlines", "two lines"),
        ("mlp_medium _x_ *y*", "mlp_medium \\_x\\_ \\*y\\*"),
        ("1.20x [1.18, 1.22]", "1.20x [1.18, 1.22]"),
        ("$x$ [a][b]", "\\$x\\$ [a]\\[b]"),
    ],
)
def test_markdown_characters_are_escaped(text: str, expected: str) -> None:
    assert escape_markdown(text) == expected
