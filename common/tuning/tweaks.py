"""Tweaks: small, named ways to make a framework faster on a machine, with equal results.

A framework lists its own in ``frameworks/<name>_runner/tweaks.py`` as ``TWEAKS``, in the order in
which they are switched on. Which ones a run uses is decided here: ``--tuning`` names a lane
(``stock``: none; ``tuned``: all that pay here), and ``--tweaks=+name,-name`` changes it. Settings
that correct results need are no tweaks; they hold in both lanes.
"""

import ctypes
import dataclasses
import os
import platform
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from isoscale.common.config.errors import ConfigError, unknown
from isoscale.common.config.run_config import TUNED, RunConfig
from isoscale.common.machine.describe import UNKNOWN, cpu_info

_SEPARATOR = ":"  # of GLIBC_TUNABLES and LD_PRELOAD


def _no_environment() -> dict[str, str]:
    return {}


def _nothing_missing() -> None:
    return None


def _nothing_to_see() -> bool:
    return True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tweak:
    """One tweak.

    Attributes:
      name: for ``--tweaks``.
      what: it does.
      why: it helps, and by how much where that was measured.
      where: it can be used, in words.
      needs: of the machine, in words.
      source: where it is documented.
      applies: whether it can change anything for a run that has the tweaks before it.
      pays: whether the tuned lane takes it for a run that it applies to.
      missing: what it needs and this machine lacks, or None; nothing is changed.
      variables: variable -> what the parts of its value that are this tweak's contain.
      environment: variable -> the parts to set before the process starts; may build what it names.
      changes: fields of ``RunConfig`` that it sets.
      in_effect: whether it is there, asked in every process of a run before the framework is.
      evidence: what a run's record says of it at the end.
      unsupported: whether the vendor of the library does not support it.
    """

    name: str
    what: str
    why: str
    where: str
    needs: str
    source: str
    applies: Callable[[RunConfig], bool]
    pays: Callable[[RunConfig], bool]
    missing: Callable[[], str | None] = _nothing_missing
    variables: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    environment: Callable[[], dict[str, str]] = _no_environment
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    in_effect: Callable[[], bool] = _nothing_to_see
    evidence: Callable[[], dict[str, Any]] | None = None
    unsupported: bool = False

    @property
    def kind(self) -> str:
        """``environment`` (set before the process starts), ``setting`` or ``operation``."""
        if self.variables:
            return "environment"
        return "setting" if self.changes else "operation"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wish:
    """``--tweaks``, read.

    Attributes:
      fresh: start from no tweak, whatever the lane has.
      added, dropped: names.
    """

    fresh: bool = False
    added: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()


def read_wish(words: Sequence[str], known: Collection[str]) -> Wish:
    """Reads the words of ``--tweaks``.

    Raises:
      ConfigError: a word without sign, a name that is not known, or both signs for one.
    """
    signed: dict[str, set[str]] = {"+": set(), "-": set()}
    for word in words:
        if word == "none":
            continue
        sign, name = word[:1], word[1:]
        if sign not in signed:
            raise ConfigError(
                f"--tweaks={word}: each is +name, -name, or 'none' (start from no tweak)"
            )
        if name not in known:
            raise unknown("tweak", name, known)
        signed[sign].add(name)
    both = signed["+"] & signed["-"]
    if both:
        raise ConfigError(f"--tweaks: both +{min(both)} and -{min(both)}")
    return Wish(fresh="none" in words, added=frozenset(signed["+"]), dropped=frozenset(signed["-"]))


def choose(
    config: RunConfig,
    known: Sequence[Tweak],
    *,
    tuning: str,
    wish: Wish,
    compile_mode_given: bool = False,
    must_apply: bool = False,
) -> RunConfig:
    """Returns the configuration with its tweaks, and those left out with the reason.

    Args:
      config: without tweaks.
      known: the framework's tweaks, in order.
      tuning: ``stock`` or ``tuned``; ``ladder`` (between the two) starts from none.
      wish: changes to the lane.
      compile_mode_given: the user chose the compile mode: no tweak of the lane changes it.
      must_apply: a wanted tweak that can change nothing here is an error, else it is passed over.

    Raises:
      ConfigError: a wanted tweak that cannot be had.
    """
    names: list[str] = []
    left_out: list[tuple[str, str]] = []
    for tweak in known:
        wanted = tweak.name in wish.added
        applies = tweak.applies(config)
        in_lane = tuning == TUNED and not wish.fresh and applies and tweak.pays(config)
        if tweak.name in wish.dropped or not (wanted or in_lane):
            continue
        if not applies:
            if must_apply:
                raise ConfigError(
                    f"tweak '{tweak.name}' changes nothing here; it is for: {tweak.where}"
                )
            continue
        reason = tweak.missing()
        mode = tweak.changes.get("compile_mode")
        if compile_mode_given and mode and (mode != config.compile_mode or not wanted):
            reason = f"compile_mode={config.compile_mode} was asked for"
        if reason is None:
            names.append(tweak.name)
            config = dataclasses.replace(config, **tweak.changes)
        elif wanted:
            raise ConfigError(f"tweak '{tweak.name}' cannot be had: {reason}")
        else:
            left_out.append((tweak.name, reason))
    return dataclasses.replace(
        config,
        tuning=tuning,
        tweaks=tuple(names),
        tweaks_left_out=tuple(left_out),
    )


def environment(
    known: Sequence[Tweak], names: Collection[str], present: Mapping[str, str]
) -> dict[str, str]:
    """Returns what the environment of a run has to hold, for every variable of any tweak.

    What is there and belongs to no tweak stays. What belongs to a tweak that is not in force goes:
    a run started from a tuned shell is stock if it says so. Applied twice it changes nothing.

    Args:
      known: the framework's tweaks.
      names: of those in force.
      present: the environment as it is.

    Raises:
      ConfigError: something that has to be built cannot be.
    """
    wanted: dict[str, str] = {}
    for variable in dict.fromkeys(name for tweak in known for name in tweak.variables):
        marks = [mark for tweak in known for mark in tweak.variables.get(variable, ())]
        parts = [part for part in present.get(variable, "").split(_SEPARATOR) if part]
        parts = [part for part in parts if not any(mark in part for mark in marks)]
        for tweak in known:
            if tweak.name in names and variable in tweak.variables:
                parts.append(tweak.environment()[variable])
        if parts or variable in present:
            wanted[variable] = _SEPARATOR.join(parts)
    return wanted


# What tweaks of several frameworks ask of the machine.


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
    """A setting of glibc's malloc, for frameworks that take their memory from it."""
    tunables = value.split(_SEPARATOR)
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
    """Huge pages for what glibc allocates."""
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
    """Blocks that go back to the kernel when they are freed: 0 with the tweak in force."""
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except AttributeError:  # before glibc 2.33
        return {"malloc_mmapped_blocks": UNKNOWN}
    ask.restype = _MallocState
    return {"malloc_mmapped_blocks": ask().hblks}


def keep_memory(*, why: str, pays: Callable[[RunConfig], bool]) -> Tweak:
    """Freed memory stays with glibc, for frameworks that take and free large buffers each step."""
    settings = {"mmap_max": 0, "trim_threshold": 2**34, "top_pad": 2**28}
    return _malloc_setting(
        name="keep-memory",
        what="keeps what is freed, large buffers too",
        value=_SEPARATOR.join(f"glibc.malloc.{name}={value}" for name, value in settings.items()),
        why=why,
        needs="glibc 2.26 or newer; more memory (0.1 to 0.4 GiB more at the peak were seen)",
        pays=pays,
        missing=lambda: _glibc_missing((2, 26)),
        evidence=_mapped_blocks,
    )


def cache_folder() -> Path:
    """Returns where built helpers are kept between runs.

    Raises:
      RuntimeError: this user has no home.
    """
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "isoscale"


def works_on_sequences(config: RunConfig) -> bool:
    """Whether a model's activations have a sequence dim: its dense layers see three dims."""
    return config.spec.sequence is not None


SHORT_STEP_FLOPS = 0.3e9
"""Below it, a step on one CPU core takes some milliseconds, and issuing it is a part of that."""


STEPS_PER_DISPATCH = 10


def has_short_steps(config: RunConfig) -> bool:
    """Whether the time to issue a step shows beside the time to compute it."""
    flops = config.spec.training_flops(global_batch_size=config.global_batch_size)
    return flops / config.devices < SHORT_STEP_FLOPS


def _has_whole_blocks(config: RunConfig) -> bool:
    rest = config.steps % STEPS_PER_DISPATCH + config.window_steps % STEPS_PER_DISPATCH
    return config.input_pipeline == "placed" and rest == 0


def several_steps(*, how: str, why: str, source: str) -> Tweak:
    """Several steps for each call into the framework."""
    return Tweak(
        name="several-steps",
        what=f"{STEPS_PER_DISPATCH} steps per call: {how}",
        why=why,
        where=(
            "batches that lie on the devices (--input_pipeline=placed); --steps and --window_steps "
            f"that are multiples of {STEPS_PER_DISPATCH}"
        ),
        needs="nothing",
        source=source,
        applies=_has_whole_blocks,
        pays=has_short_steps,
        changes={"steps_per_dispatch": STEPS_PER_DISPATCH},
    )
