"""Damaged and forged checkpoints: a one-line error, little time and memory, no code executed."""

import hashlib
import io
import json
import os
import pickle
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isoscale.common.checkpoint import files
from isoscale.common.checkpoint.files import MANIFEST, TENSORS
from isoscale.common.checkpoint.manifest import LARGEST_BYTES, Manifest, check_agrees
from isoscale.common.config.errors import ConfigError
from tests.common.checkpoint import small


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return small.save(tmp_path, 5)


def read(path: Path) -> files.State:
    manifest = files.read_manifest(path)
    check_agrees(
        manifest, small.training(), small.SPEC, batches=lambda: small.BATCHES, called=str(path)
    )
    return files.read_state(path, manifest)


def refused(path: Path, message: str) -> None:
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(ConfigError, match=message) as caught:
            read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert time.process_time() - began < 2
    assert peak < 64 * 2**20


def header_of(content: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def packed(header: dict[str, Any] | bytes, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def forge(path: Path, content: bytes, **changes: Any) -> None:
    """Replaces the file of tensors, and writes a manifest with correct checksums."""
    manifest = json.loads((path / MANIFEST).read_text())["manifest"]
    for name in ("format", "version"):
        manifest.pop(name)
    manifest |= {
        "file_bytes": len(content),
        "file_sha256": hashlib.sha256(content).hexdigest(),
        **changes,
    }
    (path / TENSORS).write_bytes(content)
    (path / MANIFEST).write_text(Manifest(**manifest).to_text())


class Evil:
    """Unpickling an instance creates a folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("executed",))


# Damaged files of tensors.

FOREIGN = {
    "nothing": b"",
    "a byte": b"x",
    "text": b"these are no tensors, whatever the name says\n",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "a pickle": pickle.dumps(Evil()),
    "an old pickle": pickle.dumps(Evil(), protocol=0),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "zeros": bytes(1000),
}


def _zip() -> bytes:
    """Returns a file like the ones of ``torch.save``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Evil()))
    return buffer.getvalue()


FOREIGN["torch.save"] = _zip()


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("file", [TENSORS, MANIFEST])
@pytest.mark.parametrize("forged", [False, True])
def test_foreign_files_are_refused(
    name: str, file: str, forged: bool, saved: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if forged and file == TENSORS:
        forge(saved, FOREIGN[name])
    else:
        (saved / file).write_bytes(FOREIGN[name])
    refused(saved, file.replace(".", r"\."))
    assert not Path("executed").exists()


@pytest.mark.parametrize("file", [TENSORS, MANIFEST])
def test_a_file_truncated_at_any_place_is_refused(file: str, saved: Path) -> None:
    whole = (saved / file).read_bytes()
    for length in range(len(whole) - (1 if file == MANIFEST else 0)):  # the last byte is a newline
        (saved / file).write_bytes(whole[:length])
        with pytest.raises(ConfigError):
            read(saved)
    (saved / file).write_bytes(whole + b"x")
    with pytest.raises(ConfigError):
        read(saved)


@pytest.mark.parametrize("file", [TENSORS, MANIFEST])
def test_a_flipped_bit_at_any_place_is_found(file: str, saved: Path) -> None:
    """Each flipped bit is found, except in white space of the manifest, where it has no effect."""
    whole, good = (saved / file).read_bytes(), read(saved)
    found = 0
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        (saved / file).write_bytes(flipped)
        try:
            back = read(saved)
        except ConfigError:
            found += 1
            continue
        assert file == MANIFEST
        assert whole[place : place + 1].isspace()
        assert all(np.array_equal(v, back.tensors()[n]) for n, v in good.tensors().items())
    assert found > 0.9 * len(whole)


def _no_file(path: Path) -> None:
    path.unlink()


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


@pytest.mark.parametrize("file", [TENSORS, MANIFEST])
@pytest.mark.parametrize("change", [_no_file, _folder, _pipe, _device, _loop])
def test_a_missing_file_or_an_irregular_file_is_refused(
    change: Callable[[Path], None], file: str, saved: Path
) -> None:
    change(saved / file)
    refused(saved, "cannot read|is not a regular file")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "cannot read .*manifest.json: No such file")


# Forged files of tensors: the checksum is correct, the content is wrong.

FIRST, SECOND = "parameters/dense_0/kernel", "parameters/dense_0/bias"


def _header(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def forged(content: bytes) -> bytes:
        header, data = header_of(content)
        change(header)
        return packed(header, data)

    return forged


def _data(value: float) -> Callable[[bytes], bytes]:
    def forged(content: bytes) -> bytes:
        header, data = header_of(content)
        begin = header[FIRST]["data_offsets"][0]
        return packed(header, data[:begin] + np.float32(value).tobytes() + data[begin + 4 :])

    return forged


def _length(length: int) -> Callable[[bytes], bytes]:
    return lambda content: length.to_bytes(8, "little") + content[8:]


def _bare(header: bytes) -> Callable[[bytes], bytes]:
    """Replaces the header; its length stays consistent with the bytes of the tensors."""
    return lambda content: packed(header, header_of(content)[1])


def _rename(header: dict[str, Any]) -> None:
    header["parameters/dense_0/kernle"] = header.pop(FIRST)


def _overlap(header: dict[str, Any]) -> None:
    header[SECOND]["data_offsets"] = [n - 4 for n in header[SECOND]["data_offsets"]]


def _reshape(header: dict[str, Any]) -> None:
    header[FIRST]["shape"] = header[FIRST]["shape"][::-1]


def _half(header: dict[str, Any]) -> None:
    header[FIRST]["dtype"], header[FIRST]["shape"] = "F16", [3, 8]


def _integers(header: dict[str, Any]) -> None:
    header[FIRST]["dtype"] = "I32"


def _brain(header: dict[str, Any]) -> None:
    header[FIRST]["dtype"], header[FIRST]["shape"] = "BF16", [3, 8]


FORGED = {
    "length beyond the file": (_length(10**6), "header of 1000000 bytes"),
    "length of exabytes": (_length(2**63), "header of 9223372036854775808 bytes"),
    "length of all bits": (_length(2**64 - 1), "header of 18446744073709551615 bytes"),
    "length 0": (_length(0), "header of 0 bytes"),
    "header too large": (_bare(b"{" + b" " * 2**20 + b"}"), "header of 1048578 bytes; at most"),
    "header is no JSON": (_bare(b"x" * 99), "not a valid safetensors file"),
    "header is a list": (_bare(b"[1, 2]"), "not a valid safetensors file"),
    "header is deep": (_bare(b"[" * 1500), "not a valid safetensors file"),
    "header without tensors": (_bare(b"{}"), "not a valid safetensors file"),
    "header is not UTF-8": (_bare(b'{"\xff\xfe": 1}'), "not a valid safetensors file"),
    "tensors overlap": (_header(_overlap), "not a valid safetensors file"),
    "ends before it begins": (
        _header(lambda h: h[FIRST]["data_offsets"].reverse()), "not a valid safetensors file"),
    "beyond the end": (
        _header(lambda h: h[FIRST].update(data_offsets=[0, 10**15])),
        "not a valid safetensors file"),
    "before the beginning": (
        _header(lambda h: h[FIRST].update(data_offsets=[-4, 44])), "not a valid safetensors file"),
    "offsets are no numbers": (
        _header(lambda h: h[FIRST].update(data_offsets=["a", "b"])),
        "not a valid safetensors file"),
    "a hole": (_header(lambda h: h.pop(FIRST)), "not a valid safetensors file"),
    "unknown dtype": (
        _header(lambda h: h[FIRST].update(dtype="Q7")), "not a valid safetensors file"),
    "shape larger than its bytes": (
        _header(lambda h: h[FIRST].update(shape=[10**9, 10**9])), "not a valid safetensors file"),
    "shape overflows": (
        _header(lambda h: h[FIRST].update(shape=[2**63, 2**63])), "not a valid safetensors file"),
    "another name": (_header(_rename), f"{FIRST}: found no tensor"),
    "another shape": (_header(_reshape), r"kernel: found \[4, 3\], expected \[3, 4\]"),
    "half floats": (_header(_half), r"kernel: found \[3, 8\], expected \[3, 4\]"),
    "bfloat16": (_header(_brain), "safetensors"),
    "integers": (_header(_integers), "kernel: found int32, expected float32"),
    "NaN": (_data(np.nan), f"{FIRST} contains NaN"),
    "infinity": (_data(-np.inf), f"{FIRST} contains NaN or infinity"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_forged_tensors_are_refused(name: str, saved: Path) -> None:
    change, message = FORGED[name]
    forge(saved, change((saved / TENSORS).read_bytes()))
    refused(saved, message)


def test_a_file_too_large_for_the_memory_is_refused(saved: Path) -> None:
    """A sparse file of 4 TiB is refused before it is read."""
    manifest = files.read_manifest(saved)
    shapes = {**manifest.tensors, FIRST: (2**30, 2**10)}
    size = (saved / TENSORS).stat().st_size - 48 + 2**42
    forge(saved, (saved / TENSORS).read_bytes(), tensors=shapes, file_bytes=size)
    os.truncate(saved / TENSORS, size)
    with pytest.raises(ConfigError, match="reading it needs twice as much memory"):
        files.read_state(saved, files.read_manifest(saved))


# Forged manifests.


def _fields(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda record: record.update(changes)


BAD_MANIFESTS = {
    "another format": (_fields(format="pytorch"), "not the manifest of an isoscale checkpoint"),
    "a later version": (_fields(version=3), "has format version '3'"),
    "a field less": (lambda record: record.pop("seed"), "lacks field 'seed'"),
    "a field more": (_fields(script="import os"), "unknown field 'script'"),
    "a step below 0": (_fields(step=-1), "invalid step: '-1'"),
    "a step that is true": (_fields(step=True), "invalid step: 'True'"),
    "half a step": (_fields(step=1.5), "invalid step"),
    "a step that is text": (_fields(step="1"), "invalid step"),
    "a step without end": (_fields(step=10**30), "a number has 31 digits"),
    "an unknown dtype": (_fields(dtype="float8"), "invalid dtype: 'float8'"),
    "no tensors": (_fields(tensors=[]), "invalid tensors"),
    "a shape below 0": (_fields(tensors={FIRST: [-3, 4]}), "invalid shape"),
    "a shape of 0": (_fields(tensors={FIRST: [0, 4]}), "invalid shape"),
    "a shape of text": (_fields(tensors={FIRST: ["3", 4]}), "invalid shape"),
    "a shape that is none": (_fields(tensors={FIRST: 12}), "invalid shape"),
    "a shape without end": (_fields(tensors={FIRST: [10**20]}), "invalid shape"),
    "a shape of many": (
        _fields(tensors={FIRST: [1] * 100_000}),
        r"kernel: found \[1, 1, .* expected",
    ),
    "one tensor only": (_fields(tensors={FIRST: [3, 4]}), "dense_0/bias: found no tensor"),
    "another size of file": (_fields(file_bytes=1), "its manifest says 1"),
    "another checksum": (_fields(file_sha256="0" * 64), "is damaged"),
    "another optimizer": (
        _fields(optimizer={"name": "adam"}),
        "optimizer=adam; this run has adamw",
    ),
    "another cursor": (
        _fields(next_batch=2),
        "has next_batch=2, which does not match step=5 and batches=4",
    ),
    "no batches": (
        _fields(batches=0, next_batch=0),
        "has next_batch=0, which does not match step=5 and batches=0",
    ),
    "more batches": (_fields(batches=5, next_batch=0), "trained with batches=5; this run has 4"),
    "other batches": (_fields(data_sha256="ab"), "trained with data_sha256=ab; this run has"),
    "another family": (_fields(family="../../evil"), "family=../../evil; this run has mlp"),
}


@pytest.mark.parametrize("name", BAD_MANIFESTS)
def test_forged_manifests_are_refused(name: str, saved: Path) -> None:
    change, message = BAD_MANIFESTS[name]
    record = json.loads((saved / MANIFEST).read_text())["manifest"]
    change(record)
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    (saved / MANIFEST).write_text(json.dumps({"manifest": record, "sha256": digest}))
    refused(saved, message)


@pytest.mark.parametrize(
    "text, message",
    [
        ("[" * 100_000, "is not JSON"),
        ("[]", "is not the manifest"),
        ("null", "is not the manifest"),
        ('{"manifest": NaN}', "is not JSON"),
        ('{"manifest": {}}', "is not the manifest"),
        ('{"manifest": {"format": "isoscale checkpoint", "version": 2}}', "is damaged"),
        ('{"manifest": "' + "x" * LARGEST_BYTES + '"}', "is larger than"),
        ('{"manifest": ' + "9" * 10_000 + "}", "is not"),
        ("[" + "[]," * (LARGEST_BYTES // 3 - 1) + "[]]", "is not the manifest"),
        ("[" + "{}," * (LARGEST_BYTES // 3 - 1) + "{}]", "is not the manifest"),
    ],
    ids=lambda value: value[:20],
)
def test_json_that_is_no_manifest_is_refused(text: str, message: str, saved: Path) -> None:
    (saved / MANIFEST).write_text(text)
    refused(saved, message)
