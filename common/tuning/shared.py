"""Tweaks that several frameworks have in common, and helpers for conditions of tweaks.

Each framework gives its own reason and its own condition for the tuned lane: ``huge_pages(why=...,
pays=...)``.
"""

import ctypes
import os
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from isoscale.common.config.run_config import RunConfig
from isoscale.common.machine.describe import UNKNOWN, cpu_info
from isoscale.common.tuning.tweaks import SEPARATOR, Tweak


def cpu_vendor() -> str:
    """Returns ``GenuineIntel``, ``AuthenticAMD``, ... or ``unknown``."""
    return cpu_info().get("vendor_id", UNKNOWN)


TRANSPARENT_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def _glibc_missing(least: tuple[int, int]) -> str | None:
    library, version = platform.libc_ver()
    if library == "glibc" and tuple(map(int, re.findall(r"\d+", version)[:2])) >= least:
        return None
    wanted = ".".join(map(str, least))
    return f"needs glibc {wanted} or newer; this is {library or UNKNOWN} {version}".rstrip()


def _huge_pages_missing() -> str | None:
    reason = _glibc_missing((2, 35))
    if reason:
        return reason
    setting = TRANSPARENT_HUGE_PAGES
    if not setting.exists() or "[never]" in setting.read_text():
        return "transparent huge pages are off in this kernel"
    return None


def _huge_pages_held() -> dict[str, Any]:
    try:
        text = Path("/proc/self/smaps_rollup").read_text()
    except OSError:
        return {"anonymous_huge_pages_bytes": UNKNOWN}
    found = re.search(r"AnonHugePages:\s+(\d+) kB", text)
    return {"anonymous_huge_pages_bytes": 1024 * int(found[1]) if found else UNKNOWN}


def _malloc_setting(*, name: str, what: str, value: str, **options: Any) -> Tweak:
    """Returns a tweak of glibc's malloc, for frameworks that allocate with this malloc."""
    tunables = value.split(SEPARATOR)
    return Tweak(
        name=name,
        what=f"GLIBC_TUNABLES={value}: malloc {what}",
        where="runs on the CPU under Linux",
        source="https://sourceware.org/glibc/manual/2.36/html_node/Memory-Allocation-Tunables.html",
        applies=lambda config: config.platform == "cpu",
        variables={"GLIBC_TUNABLES": tuple(t.partition("=")[0] + "=" for t in tunables)},
        environment=lambda: {"GLIBC_TUNABLES": value},
        **options,
    )


def huge_pages(*, why: str, pays: Callable[[RunConfig], bool]) -> Tweak:
    """Returns the tweak that gives glibc's malloc huge pages."""
    return _malloc_setting(
        name="huge-pages",
        what="asks the kernel for huge pages",
        value="glibc.malloc.hugetlb=1",
        why=why,
        needs="glibc 2.35 or newer; transparent huge pages 'madvise' or 'always'",
        pays=pays,
        missing=_huge_pages_missing,
        evidence=_huge_pages_held,
    )


class _MallocState(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in _names.split()]


def _mapped_blocks() -> dict[str, Any]:
    """Returns the number of blocks that ``free`` returns to the kernel: 0 under this tweak."""
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except AttributeError:  # before glibc 2.33
        return {"malloc_mmapped_blocks": UNKNOWN}
    ask.restype = _MallocState
    return {"malloc_mmapped_blocks": ask().hblks}


def keep_memory(*, why: str, pays: Callable[[RunConfig], bool]) -> Tweak:
    """Returns the tweak that keeps freed memory in glibc.

    The tweak is for frameworks that allocate and free large buffers in each step.
    """
    settings = {"mmap_max": 0, "trim_threshold": 2**34, "top_pad": 2**28}
    return _malloc_setting(
        name="keep-memory",
        what="keeps freed memory, including large buffers",
        value=SEPARATOR.join(f"glibc.malloc.{name}={value}" for name, value in settings.items()),
        why=why,
        needs="glibc 2.26 or newer; more memory (measured: 0.1 to 0.4 GiB more at the peak)",
        pays=pays,
        missing=lambda: _glibc_missing((2, 26)),
        evidence=_mapped_blocks,
    )


def cache_folder() -> Path:
    """Returns the folder that keeps built libraries between runs.

    Raises:
      RuntimeError: this user has no home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "isoscale"


def works_on_sequences(config: RunConfig) -> bool:
    """Returns whether the activations have a sequence dim: inputs of dense layers have 3 dims."""
    return config.spec.sequence is not None


SHORT_STEP_FLOPS = 0.3e9
"""A step with fewer FLOPs takes a few milliseconds on one CPU core; the call is a part of that."""


STEPS_PER_DISPATCH = 10


def has_short_steps(config: RunConfig) -> bool:
    """Returns whether issuing a step takes a noticeable share of the step's time."""
    flops = config.spec.training_flops(global_batch_size=config.global_batch_size)
    return flops / config.devices < SHORT_STEP_FLOPS


def _has_whole_blocks(config: RunConfig) -> bool:
    rest = config.steps % STEPS_PER_DISPATCH + config.window_steps % STEPS_PER_DISPATCH
    return config.input_pipeline == "placed" and rest == 0


def several_steps(*, how: str, why: str, source: str) -> Tweak:
    """Returns the tweak that does several steps in each call into the framework."""
    return Tweak(
        name="several-steps",
        what=f"{STEPS_PER_DISPATCH} steps per call: {how}",
        why=why,
        where=(
            "batches on the devices (--input_pipeline=placed); --steps and --window_steps are "
            f"multiples of {STEPS_PER_DISPATCH}"
        ),
        needs="nothing",
        source=source,
        applies=_has_whole_blocks,
        pays=has_short_steps,
        changes={"steps_per_dispatch": STEPS_PER_DISPATCH},
    )
