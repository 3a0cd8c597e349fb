"""Reads and writes checkpoints on disk: writes are atomic, and reads check everything.

``FOLDER/step_000000030/`` contains ``tensors.safetensors`` (names ``parameters/...``,
``first_moment/...``) and ``manifest.json``. ``save`` writes a checkpoint under a temporary name,
syncs it and renames it; a folder keeps its last ``KEPT`` checkpoints. Reading executes no code from
the files. Reading takes about two and a quarter times the memory of the model's tensors.
"""

import contextlib
import dataclasses
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import safetensors
import safetensors.numpy

from isoscale.common.checkpoint.manifest import (
    LARGEST_BYTES,
    PARAMETERS,
    Manifest,
    first_difference,
)
from isoscale.common.config import read
from isoscale.common.config.errors import ConfigError, FolderError
from isoscale.common.config.model_spec import Arrays
from isoscale.common.disk.json_files import write_atomically
from isoscale.common.disk.writing import (
    WRITING,
    old_name,
    remove_leftovers,
    sync,
    temporary_folder,
    writing,
)

KEPT = 2
MANIFEST, TENSORS = "manifest.json", "tensors.safetensors"
LATEST = "latest"
_NAME = re.compile(r"step_(\d{9,18})")


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """The arrays of a training under canonical names.

    Attributes:
      parameters: parameters of the model.
      slots: state of the optimizer: slot -> arrays.
    """

    parameters: Arrays
    slots: dict[str, Arrays]

    def tensors(self) -> Arrays:
        """Returns tensor name in the file -> array."""
        groups = {PARAMETERS: self.parameters, **self.slots}
        return {
            f"{group}/{name}": value for group, a in groups.items() for name, value in a.items()
        }

    def first_not_finite(self) -> str | None:
        """Returns the name of the first tensor with NaN or infinity; None: all are finite."""
        return next((n for n, v in self.tensors().items() if not np.isfinite(v).all()), None)


def checkpoints_in(folder: Path) -> list[tuple[int, Path]]:
    """Returns (step, path) of the checkpoints in a folder, oldest first."""
    found = [(_NAME.fullmatch(path.name), path) for path in folder.glob("step_*")]
    return sorted((int(match[1]), path) for match, path in found if match)


def newest_in(folder: Path) -> tuple[int, Path] | None:
    """Returns (step, path) of the newest checkpoint in a folder; None: the folder has none."""
    return next(reversed(checkpoints_in(folder)), None)


def save(folder: Path, state: State, **about: Any) -> Path:
    """Writes a checkpoint and removes old ones; returns its path.

    A crash at any moment keeps the earlier checkpoints and leaves no partial checkpoint.

    Args:
      folder: an existing folder; no other process writes to it.
      state: finite arrays of one dtype.
      **about: the other fields of its ``Manifest``.

    Raises:
      FolderError: the disk is full or unavailable, the folder has vanished, or it has a checkpoint
        of this step or of a later step.
    """
    newest = newest_in(folder)
    if newest and newest[0] >= about["step"]:  # a checkpoint of an earlier step could be removed
        raise FolderError(
            f"'{newest[1]}' already exists; cannot add a checkpoint of step {about['step']}"
        )
    target = folder / f"step_{about['step']:09d}"
    with writing(target):
        held, temporary = temporary_folder(folder, prefix=WRITING)
        try:
            _write(temporary, state, about)
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        finally:
            os.close(held)
        sync(folder)
        for _, path in checkpoints_in(folder)[:-KEPT]:
            # Renamed before its removal: a reader never finds a partial checkpoint.
            path.rename(old_name(path))
    remove_leftovers(folder)  # also those of a killed process
    return target


def _write(folder: Path, state: State, about: dict[str, Any]) -> None:
    """Writes the files of a checkpoint into a folder and syncs them.

    Raises:
      FolderError, OSError: the disk is full or unavailable.
    """
    # safetensors 0.8 ignores strides: it would write a transposed array incorrectly.
    tensors = {name: np.ascontiguousarray(v) for name, v in state.tensors().items()}
    path = folder / TENSORS
    try:
        safetensors.numpy.save_file(tensors, path)
    except safetensors.SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number:
            raise OSError(int(number[1]), "") from None
        raise FolderError(f"cannot write {path}: {error}") from None
    sync(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    manifest = Manifest(
        tensors={name: value.shape for name, value in tensors.items()},
        file_bytes=path.stat().st_size,
        file_sha256=digest,
        **about,
    )
    text = manifest.to_text()
    if len(text) > LARGEST_BYTES:
        raise FolderError(f"the manifest has {len(text)} bytes, which is too large to read")
    write_atomically(folder / MANIFEST, text)  # also syncs the folder


def find(text: str, *, folder: Path | None = None) -> Path | None:
    """Returns the checkpoint that ``--resume_from`` names.

    Args:
      text: a checkpoint, a folder of checkpoints, of which the newest is taken, or ``latest``.
      folder: the folder for ``latest``.

    Returns:
      Path of the checkpoint; ``text`` itself if that folder has no checkpoint; None if ``text`` is
      ``latest`` and ``folder`` has no checkpoint yet.

    Raises:
      ConfigError: ``text`` names no folder, or ``latest`` was given without ``folder``.
    """
    if text == LATEST:
        if folder is None:
            raise ConfigError(
                f"--resume_from={LATEST} takes the newest checkpoint in --save_checkpoint; "
                "also use --save_checkpoint=FOLDER"
            )
        newest = newest_in(folder)
        return newest and newest[1]
    path = Path(text)
    try:
        there, is_folder = path.exists(), path.is_dir()
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read checkpoint {text[:200]!r}: {error}") from None
    if not there:
        raise ConfigError(f"checkpoint {text[:200]!r} does not exist")
    if not is_folder:
        raise ConfigError(
            f"checkpoint {text[:200]!r} is a file; a checkpoint is a folder with {MANIFEST} and "
            f"{TENSORS}"
        )
    if os.path.lexists(path / MANIFEST):
        return path
    newest = newest_in(path)
    return newest[1] if newest else path


@contextlib.contextmanager
def _bad_input() -> Iterator[None]:
    """Turns an unreadable file into bad input: the user named the checkpoint."""
    try:
        yield
    except FolderError as error:
        raise ConfigError(str(error)) from None


def read_manifest(path: Path) -> Manifest:
    """Returns the manifest of a checkpoint; does not read the arrays.

    Raises:
      ConfigError: the manifest is missing, damaged or of another format.
    """
    with _bad_input():
        text = read.read_bytes(path / MANIFEST, most=LARGEST_BYTES)
    try:
        return Manifest.from_text(text)
    except ConfigError as error:
        raise ConfigError(f"{path / MANIFEST} {error}") from None


def read_state(path: Path, manifest: Manifest) -> State:
    """Returns the arrays of a checkpoint; check first that its manifest fits the run.

    Raises:
      ConfigError: the file is unreadable or too large for the free memory, or the arrays are
        damaged, differ from the manifest, or are not finite.
    """
    content_path = path / TENSORS
    with _bad_input(), read.opened(content_path) as (file, size):
        if size != manifest.file_bytes:
            raise ConfigError(
                f"{content_path} has {size} bytes; its manifest says {manifest.file_bytes}"
            )
        header_bytes = int.from_bytes(file.read(8), "little")
        if size < 8 or header_bytes != size - 8 - manifest.tensor_bytes:
            raise ConfigError(
                f"{content_path} has {size} bytes and a header of {header_bytes} bytes; "
                f"after the header, its tensors need exactly {manifest.tensor_bytes} bytes"
            )
        largest = 1024 + sum(256 + 2 * len(name) for name in manifest.tensors)
        if header_bytes > largest:
            raise ConfigError(
                f"{content_path} has a header of {header_bytes} bytes; at most {largest}"
            )
        free = psutil.virtual_memory().available
        if 2 * size > free:
            raise ConfigError(
                f"{content_path} has {size} bytes; reading it needs twice as much memory, but "
                f"{free} bytes are available"
            )
        file.seek(0)
        content = file.read(size)
    if hashlib.sha256(content).hexdigest() != manifest.file_sha256:
        raise ConfigError(f"{content_path} is damaged: its checksum differs from the manifest")
    return _parse(content_path, content, manifest)


def _parse(name: Path, content: bytes, manifest: Manifest) -> State:
    try:
        tensors = safetensors.numpy.load(content)
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        said = " ".join(str(error).split())[:200]
        raise ConfigError(f"{name} is not a valid safetensors file: {said}") from None
    shapes = {key: value.shape for key, value in tensors.items()}
    difference = first_difference(shapes, manifest.tensors)
    if difference:
        raise ConfigError(f"{name} differs from its manifest: {difference}")
    for key, value in tensors.items():
        if value.dtype != manifest.tensor_dtype:
            raise ConfigError(
                f"{name} differs from its manifest: {key[:200]}: found {value.dtype}, expected "
                f"{manifest.tensor_dtype}"
            )
    groups: dict[str, Arrays] = {}
    for key, value in tensors.items():
        group, _, canonical = key.partition("/")
        groups.setdefault(group, {})[canonical] = value
    state = State(
        parameters=groups.get(PARAMETERS, {}),
        slots={slot: groups.get(slot, {}) for slot in manifest.slots},
    )
    broken = state.first_not_finite()
    if broken:
        raise ConfigError(f"{name}: {broken[:200]} contains NaN or infinity")
    return state
