"""Writes TensorBoard's event files without any framework.

TensorBoard's own writers import TensorFlow or torch if installed; its record format and messages do
not.
"""

import hashlib
import io
import re
import shutil
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog, SourceMetadata
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as layout_metadata
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from isoscale.common.config.errors import FolderError
from isoscale.common.config.read import MEBIBYTE, read_bytes
from isoscale.common.disk.json_files import write_atomically
from isoscale.common.machine.own_version import own_version

RECORD_OVERHEAD_BYTES = 16
"""Bytes of a record besides its content: length, and checksums of length and content."""
_PREFIX = "events.out.tfevents."
_NAME = re.compile(rf"{re.escape(_PREFIX)}(?P<key>[0-9a-f]+)-(?P<content>[0-9a-f]{{16}})\+*")
"""Name of an event file. A ``+`` for each time that the file was damaged and written again."""
_LARGEST = 4 * 1024 * MEBIBYTE
_PNG = b"\x89PNG\r\n\x1a\n"


def clean(text: Any) -> str:
    """Returns text that UTF-8 can express, on one line, without control characters."""
    plain = str(text).encode("utf-8", "replace").decode()
    return " ".join("".join(c for c in plain if c.isprintable() or c.isspace()).split())


def scalar(tag: str, value: float) -> Summary.Value:
    """Returns a point of a curve; TensorBoard stores it as float32."""
    return Summary.Value(tag=tag, simple_value=value)


def _strings(texts: Sequence[bytes], *, vector: bool) -> TensorProto:
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=len(texts))] if vector else [])
    return TensorProto(dtype=DT_STRING, tensor_shape=shape, string_val=texts)


def markdown(tag: str, text: str) -> Summary.Value:
    return Summary.Value(
        tag=tag,
        metadata=text_metadata.create_summary_metadata(display_name="", description=""),
        tensor=_strings([text.encode()], vector=False),
    )


def png(tag: str, content: bytes) -> Summary.Value | None:
    """Returns an image; None if the content is not PNG."""
    if not content.startswith(_PNG) or len(content) < 24:
        return None
    sides = struct.unpack(">II", content[16:24])  # the header chunk comes first
    return Summary.Value(
        tag=tag,
        metadata=image_metadata.create_summary_metadata(display_name="", description=""),
        tensor=_strings([*(str(side).encode() for side in sides), content], vector=True),
    )


def hparams(tag: str, content: HParamsPluginData) -> Summary.Value:
    return Summary.Value(
        tag=tag,
        metadata=hparams_metadata.create_summary_metadata(content),
        tensor=hparams_metadata.NULL_TENSOR,
    )


def layout(charts: layout_pb2.Layout) -> Summary.Value:
    return Summary.Value(
        tag=layout_metadata.CONFIG_SUMMARY_TAG,
        metadata=layout_metadata.create_summary_metadata(),
        tensor=_strings([charts.SerializeToString()], vector=False),
    )


def event(values: Iterable[Summary.Value], *, wall_time: float, step: int = 0) -> Event:
    """Returns an event with values of one step; ``wall_time`` in seconds since 1970."""
    return Event(wall_time=wall_time, step=step, summary=Summary(value=values))


def encode(events: Iterable[Event], *, wall_time: float) -> bytes:
    """Returns the content of an event file; its first record names the isoscale that wrote it.

    Args:
      events: the events, in order.
      wall_time: time of the file's first records, in seconds since 1970.
    """
    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    # The second record makes a running TensorBoard forget an older file of the same folder.
    for record in (
        Event(
            wall_time=wall_time,
            file_version="brain.Event:2",
            source_metadata=SourceMetadata(writer=f"isoscale {own_version()}"),
        ),
        Event(wall_time=wall_time, session_log=SessionLog(status=SessionLog.START)),
        *events,
    ):
        writer.write(record.SerializeToString(deterministic=True))
    return buffer.getvalue()


def digest(*parts: bytes | str) -> str:
    """Returns a short name for content: 16 hexadecimal digits of its SHA-256."""
    joined = b"\0".join(part.encode() if isinstance(part, str) else part for part in parts)
    return hashlib.sha256(joined).hexdigest()[:16]


def is_written(folder: Path, key: str) -> bool:
    """Returns whether the folder has exactly one event file, that of this key, undamaged."""
    found = list(folder.glob(f"{_PREFIX}*"))
    name = _NAME.fullmatch(found[0].name) if len(found) == 1 else None
    if name is None or name["key"] != key:
        return False
    try:
        return digest(read_bytes(found[0], most=_LARGEST)) == name["content"]
    except FolderError:
        return False


def write_event_file(folder: Path, content: bytes, key: str) -> None:
    """Writes the only event file of a folder, and removes others, which would double the points.

    TensorBoard sees a complete file or none. A running TensorBoard does not read a file with a
    known name again. So the name contains the key, and the file that replaces a damaged one gets
    another name.

    Raises:
      FolderError: the disk is full, or the folder cannot be written.
    """
    name = f"{_PREFIX}{key}-{digest(content)}"
    there = [path.name for path in folder.glob(f"{name}*")]
    target = folder / (f"{max(there, key=len)}+" if there else name)
    write_atomically(target, content, durable=False)
    for path in folder.glob(f"{_PREFIX}*"):
        if path != target:
            path.unlink(missing_ok=True)


def make_plain_folder(path: Path) -> Path:
    """Makes one folder and returns it; removes a file or link with its name first."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        path.unlink()
    path.mkdir(exist_ok=True)
    return path


def keep_only(folder: Path, names: Iterable[str]) -> None:
    """Removes all folders inside ``folder`` except ``names``; does not follow links."""
    kept = set(names)
    for path in folder.iterdir():
        if path.name in kept:
            continue
        if path.is_symlink():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
