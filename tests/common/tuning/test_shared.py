"""Tests the tweaks that several frameworks have in common."""

import pytest

from isoscale.common.tuning import shared
from isoscale.common.tuning.shared import huge_pages, keep_memory
from isoscale.common.tuning.tweaks import environment


@pytest.mark.parametrize(
    "library, kernel, missing",
    [
        (("glibc", "2.36"), "always [madvise] never", None),
        (("glibc", "2.36"), "always madvise [never]", "off in this kernel"),
        (("glibc", "2.31"), "[always] madvise never", "glibc 2.35"),
        (("", ""), "[always] madvise never", "glibc 2.35"),
        (("glibc", "2.36"), None, "off in this kernel"),
    ],
)
def test_huge_pages_name_the_missing_requirement(
    monkeypatch, tmp_path, library, kernel, missing
) -> None:
    setting = tmp_path / "enabled"
    if kernel:
        setting.write_text(kernel)
    monkeypatch.setattr(shared.platform, "libc_ver", lambda: library)
    monkeypatch.setattr(shared, "TRANSPARENT_HUGE_PAGES", setting)
    found = huge_pages(why="", pays=lambda config: True).missing()
    assert found == missing if missing is None else missing in found


def test_keep_memory_needs_glibc(monkeypatch) -> None:
    tweak = keep_memory(why="", pays=lambda config: True)
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.26"))
    assert tweak.missing() is None
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert "glibc 2.26" in tweak.missing()
    # `variables` must identify each part; an unidentified part would remain in a stock run.
    assert environment([tweak], [], tweak.environment()) == {"GLIBC_TUNABLES": ""}
