"""Counts the GPUs that CUDA can show a process of this machine, without importing a framework."""

import dataclasses
import math
import os
import re
import shutil
from collections.abc import Mapping

from isoscale.common.config.errors import shown
from isoscale.common.machine.describe import query

VISIBLE = "CUDA_VISIBLE_DEVICES"
_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Files of the drivers of NVIDIA, of WSL, and of AMD."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gpus:
    """The GPUs of this machine.

    Attributes:
      listed: number of GPUs that nvidia-smi lists.
      usable: largest number of devices that a process can use; infinity: unknown without asking a
        framework.
      parts: number of MIG devices, into which GPUs are divided.
      words: what this machine shows, as the end of a message.
    """

    listed: int
    usable: float
    parts: int
    words: str


def look(variables: Mapping[str, str] = os.environ) -> Gpus:
    """Returns the GPUs that a process with these environment variables can use at most."""
    if shutil.which("nvidia-smi") is None:
        if any(map(os.path.exists, _DRIVERS)):
            return Gpus(listed=0, usable=math.inf, parts=0, words="nvidia-smi is not installed")
        return _none("this machine shows 0 GPUs (no driver: nvidia-smi is not installed)")
    answer = query("nvidia-smi", "-L")
    if answer is None:
        return _none("this machine shows 0 GPUs (nvidia-smi fails: run it and read its message)")
    # GPU 0: NVIDIA A100 (UUID: GPU-5d5b...)
    #   MIG 1g.5gb Device 0: (UUID: MIG-c6d4...)
    whole = re.findall(r"^GPU \d+:(?:.*UUID: ([\w-]+))?", answer, re.MULTILINE)
    parts = re.findall(r"^\s+MIG .*UUID: ([\w/-]+)", answer, re.MULTILINE)
    count = f"{len(whole)} GPUs"
    chosen = variables.get(VISIBLE)
    if chosen is None:
        usable, words = len(parts) or len(whole), f"this machine shows {count}"
    else:
        usable = _chosen(chosen, whole, parts)
        words = f"{VISIBLE}={shown(chosen)!r} shows {usable} of the {count} of this machine"
    if parts:
        words += f", divided into {len(parts)} MIG devices"
    return Gpus(listed=len(whole), usable=usable, parts=len(parts), words=words)


def _none(words: str) -> Gpus:
    return Gpus(listed=0, usable=0, parts=0, words=words)


def _chosen(text: str, whole: list[str], parts: list[str]) -> int:
    """Returns how many devices a value of CUDA_VISIBLE_DEVICES names.

    CUDA ignores the first invalid entry and all entries after it.
    Source: CUDA programming guide, "CUDA Environment Variables".
    """
    known = [*whole, *parts]
    for count, entry in enumerate(map(str.strip, text.split(","))):
        by_number = entry.isascii() and entry.isdecimal() and int(entry) < len(whole)
        by_name = entry.startswith(("GPU-", "MIG-")) and (
            any(name.startswith(entry) for name in known)
            or entry.startswith("MIG-GPU-")  # an older driver's name of a MIG device
        )
        if not by_number and not by_name:
            return count
    return text.count(",") + 1
