"""The documents stay short, and their links lead somewhere."""

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.documents.pages import PAGES, anchors, links

README, WORKSPACE = PAGES[:2]
LARGEST_PICTURE = 100_000  # bytes


@pytest.mark.parametrize("page, most", [(README, 150), (WORKSPACE, 120)])
def test_the_first_pages_are_short(page: Path, most: int) -> None:
    assert len(page.read_text().splitlines()) <= most


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for link in links(page):
        if re.match(r"https?://", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        inside = target.is_relative_to(ROOT) and target.exists()
        if not inside or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def reachable() -> set[Path]:
    """Returns all files that a reader of the README and of the map finds by links."""
    found, new = set(), [README, WORKSPACE]
    while new:
        page = new.pop()
        found.add(page)
        if page.suffix == ".md":
            names = (link.partition("#")[0] for link in links(page))
            paths = {(page.parent / name).resolve() for name in names if name and ":" not in name}
            new += paths - found
    return found


def test_a_reader_of_the_readme_finds_every_page_and_picture() -> None:
    pictures = {path for path in (ROOT / "docs/pictures").iterdir() if path.is_file()}
    assert (set(PAGES) | pictures) - reachable() == set()
    assert max(path.stat().st_size for path in pictures) <= LARGEST_PICTURE
