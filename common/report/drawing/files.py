"""The files of drawings, and the links to them; needs no matplotlib."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup

from isoscale.common.config.errors import ConfigError
from isoscale.common.disk.json_files import write_atomically
from isoscale.common.disk.writing import writing

PLOTS = "plots"
"""Folder of the drawings, beside the page that shows them."""
_OURS = ".drawn"
"""File that lists the drawings of the latest page."""


FORMATS = ("png", "svg", "pdf")
"""Formats of every plot, which are also the suffixes of its files."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawn:
    """A plot in all ``FORMATS``; the same plot gives the same bytes.

    Attributes:
      svg: the text of the SVG file.
      png: the PNG file.
      pdf: the PDF file; vector graphics, with its fonts.
    """

    svg: str
    png: bytes
    pdf: bytes

    def files(self) -> dict[str, str | bytes]:
        """Returns suffix -> content, for each of ``FORMATS``."""
        return {name: getattr(self, name) for name in FORMATS}


def write_plots(folder: Path, drawn: Mapping[str, Drawn]) -> None:
    """Writes the drawings; removes drawings of an earlier page; keeps all other files.

    Args:
      folder: ``PLOTS`` beside the page; created if there is a drawing.
      drawn: slug -> its drawing.

    Raises:
      ConfigError: the folder is a link.
      FolderError: the disk is full, or the folder cannot be written.
    """
    if folder.is_symlink():
        raise ConfigError(
            f"{folder} is a link; the report needs a real folder there: remove the link"
        )
    if not drawn and not folder.exists():
        return
    with writing(folder):
        folder.mkdir(exist_ok=True)
        ours = folder / _OURS
        earlier = ours.read_text(encoding="utf-8").split("\n") if ours.exists() else []
        for slug, plot in drawn.items():
            for suffix, content in plot.files().items():
                write_atomically(folder / f"{slug}.{suffix}", content, durable=False)
        names = {path.name for path in folder.iterdir()}
        for slug in {*earlier} - drawn.keys():
            for name in {f"{slug}.{suffix}" for suffix in FORMATS} & names:
                (folder / name).unlink()
        write_atomically(ours, "\n".join(drawn))


def links(slug: str) -> Markup:
    """Returns links to the files of a drawing, for a page beside ``PLOTS``."""
    return Markup(" ").join(
        Markup('<a href="{}/{}.{}">{}</a>').format(PLOTS, slug, suffix, suffix.upper())
        for suffix in FORMATS
    )
