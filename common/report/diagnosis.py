"""The page of ``isoscale doctor``: facts with their units, and known problems."""

import shutil
import sys
import textwrap
from collections.abc import Iterable
from typing import Any

from isoscale.common.machine.describe import UNKNOWN
from isoscale.common.machine.problem import gib, is_disturbed

_LABEL = 20
_WIDTH = 100


def _width() -> int:
    """Returns the width of the page, in characters."""
    if not sys.stdout.isatty():
        return _WIDTH
    return max(60, min(_WIDTH, shutil.get_terminal_size().columns))


def _fact(label: str, text: str, *, indent: int = 2) -> str:
    start = " " * indent + f"{label:<{_LABEL}}"
    return textwrap.fill(
        text or UNKNOWN,
        _width(),
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _joined(values: Any) -> str:
    """Returns the values as one text; an unknown value remains ``unknown``."""
    if isinstance(values, str):
        return values
    return ", ".join(map(str, values)) or "none"


def _size(value: Any) -> str:
    return gib(value) if isinstance(value, int) else UNKNOWN


def _machine(facts: dict[str, Any]) -> list[str]:
    machine, settings, activity = facts["machine"], facts["settings"], facts["activity"]
    memory, clocks = settings["memory"], settings["clocks"]
    quota, limit = settings["cpu_quota"], memory["limit_bytes"]
    caches = settings["caches"]
    if caches != UNKNOWN:
        caches = ", ".join(
            f"{name} {entry['bytes'] // 1024} KiB (CPUs {entry['shared_by_cpus']})"
            for name, entry in caches.items()
        )
    megahertz = clocks["current_mhz"]
    if megahertz != UNKNOWN:
        megahertz = " to ".join(dict.fromkeys(f"{value:.0f}" for value in megahertz)) + " MHz"
    virtual = {True: "yes", False: "no"}.get(settings["virtual_machine"], UNKNOWN)
    load = settings["load_average"]
    load = load if load == UNKNOWN else ", ".join(f"{value:.1f}" for value in load)
    stolen = activity["stolen"]
    stolen = stolen if stolen == UNKNOWN else f"{100 * stolen:.1f} %"
    return [
        "Machine",
        _fact("processor", f"{machine['cpu_model']} ({machine['cpu_vendor']}, "
                           f"{machine['architecture']})"),
        _fact("instruction sets", _joined(machine["instruction_sets"])),
        _fact("cores", f"{machine['physical_cores']} physical cores, {machine['logical_cores']} "
                       f"logical CPUs; devices are made from CPUs "
                       f"{_joined(machine['available_cores'])}"),
        _fact("affinity", f"CPUs {_joined(settings['affinity'])}"
              if settings["affinity"] != UNKNOWN else UNKNOWN),
        _fact("CPU quota", {None: "none is set", UNKNOWN: UNKNOWN}.get(quota)
              or f"the time of {quota:g} CPUs"),
        _fact("NUMA nodes", str(settings["numa_nodes"])),
        _fact("caches", caches),
        _fact("memory", f"{_size(memory['total_bytes'])}, {_size(memory['available_bytes'])} "
                        f"available; limit of the control group: "
                        f"{'none is set' if limit is None else _size(limit)}; swap in use: "
                        f"{_size(memory['swap_used_bytes'])}"),
        _fact("/dev/shm", _size(settings["shared_memory_bytes"])),
        _fact("disk", f"{_size(settings['disk_free_bytes'])} free for results"),
        _fact("pages", f"{settings['page_bytes']} bytes; transparent huge pages: "
                       f"{settings['transparent_huge_pages']}"),
        _fact("clock", f"governor {_joined(clocks['governors'])}, driver {clocks['driver']}, boost "
                       f"{clocks['boost']}, now {megahertz}"),
        _fact("virtual machine", virtual),
        _fact("load", f"averages {load} (1, 5, 15 minutes); measured for "
                      f"{activity['seconds']:g} s: {activity['busy_cpus']:.1f} CPUs in use, steal "
                      f"time {stolen}"),
        _fact("system", f"{machine['operating_system']}, C library {settings['c_library']}"),
        _fact("isoscale", f"{facts['isoscale']}, Python {machine['python']}"),
    ]  # fmt: skip


def _gpus(facts: dict[str, Any]) -> list[str]:
    if not facts["gpus"]:
        return ["GPUs", "  none reported by nvidia-smi, or nvidia-smi is missing"]
    lines = ["GPUs"]
    for index, gpu in enumerate(facts["gpus"]):
        lines.append(
            _fact(
                f"GPU {index}",
                f"{gpu['name']}, {gpu['memory']} ({gpu['memory_used']} in use, utilization "
                f"{gpu['utilization']}); PCIe generation {gpu['pcie_generation']} of "
                f"{gpu['pcie_generation_max']}, x{gpu['pcie_width']} of x{gpu['pcie_width_max']} "
                f"now; clock {gpu['sm_clock']} of {gpu['sm_clock_max']} now; power limit "
                f"{gpu['power_limit']}; persistence mode {gpu['persistence_mode']}",
            )
        )
    driver = facts["gpus"][0]["driver"]
    lines.append(_fact("driver", f"{driver}, for CUDA up to {facts['cuda_of_driver']}"))
    links = facts["machine"]["gpu_links"] or UNKNOWN
    return [*lines, "  links (nvidia-smi topo -m)", *(f"    {x}" for x in links.splitlines())]


def _environment(facts: dict[str, Any]) -> list[str]:
    values, removed = facts["environment"], facts["removed_variables"]
    found = [
        _fact(name, values.get(name, "") + (" (runs do not get it)" if name in removed else ""))
        for name in sorted({*values, *removed})
    ]
    return ["Environment variables that can change results", *(found or ["  none is set"])]


def product_text(product: Any, *, on: str) -> str:
    """Returns the rate of a matrix product as text.

    Args:
      product: result of ``examine.measure``, or ``unknown``.
      on: ``cpu`` or ``gpu``.
    """
    if product == UNKNOWN:
        return UNKNOWN
    size = product["size"]
    where = "one pinned core" if on == "cpu" else "one GPU"
    disturbed = ""
    if on == "cpu" and is_disturbed(product):
        share = 100 * product["core_share"]
        disturbed = f"; DISTURBED: the process had the core for only {share:.0f} % of the time"
    return (
        f"{product['best_flops_per_second'] / 1e9:.1f} GFLOP/s best, "
        f"{product['median_flops_per_second'] / 1e9:.1f} median (measured: {product['n']} products "
        f"of {size} x {size} on {where}{disturbed})"
    )


def _framework(name: str, entry: dict[str, Any]) -> Iterable[str]:
    if entry["status"] != "ok":
        yield _fact(name, f"{entry['status'].upper()}: {entry['error']}")
        return
    versions = dict(entry["versions"])
    own = versions.pop(name, UNKNOWN)
    others = ", ".join(f"{package} {version}" for package, version in versions.items())
    yield f"  {name} {own}" + (f" ({others})" if others else "")

    def fact(label: str, text: str) -> str:
        return _fact(label, text, indent=4)

    interpreter = entry["interpreter"]
    yield fact("interpreter", f"Python {interpreter['python']}, {interpreter['executable']}")
    yield fact("devices on CPU", _joined(entry["devices"]))
    yield fact("built for", entry["build"])
    yield fact("float32 product", product_text(entry["matrix_product"], on="cpu"))
    yield fact("matrix library", entry["matrix_library"])
    sets = entry["instruction_set"]
    if isinstance(sets, dict):
        sets = "; ".join(f"{library}: {says}" for library, says in sets.items())
    yield fact("instruction set", sets)
    yield fact("threads of a process pinned to one core", str(entry["threads"]))
    yield fact("TF32 by default", entry["tf32_by_default"])
    if entry["cuda_packages"]:
        yield fact("CUDA packages", _joined(entry["cuda_packages"]))
    if entry["gpu"] is not None:
        gpu = entry["gpu"]
        if "error" in gpu:
            yield fact("on GPU", f"FAILED: {gpu['error']}")
        else:
            yield fact("devices on GPU", _joined(gpu["devices"]))
            yield fact("product on GPU", product_text(gpu["matrix_product"], on="gpu"))


def _frameworks(facts: dict[str, Any]) -> list[str]:
    lines = ["Frameworks, each examined in its own process on one pinned core"]
    for name, entry in facts["frameworks"].items():
        lines += _framework(name, entry)
    return lines


def _problems(facts: dict[str, Any]) -> list[str]:
    width, found = _width(), facts["problems"]
    counts = {kind: sum(p["severity"] == kind for p in found) for kind in ("problem", "note")}
    lines = [
        f"Known problems of this machine with these frameworks: {counts['problem']}; "
        f"notes: {counts['note']}"
    ]
    for problem in found:
        lines.append(f"  {problem['severity'].upper()}: {problem['id']}")
        for label in ("evidence", "meaning", "remedy"):
            start = f"    {label:<10}"
            lines.append(
                textwrap.fill(
                    problem[label],
                    width,
                    initial_indent=start,
                    subsequent_indent=" " * len(start),
                    break_long_words=False,
                    break_on_hyphens=False,
                )
            )
    return lines


def _missing(facts: dict[str, Any]) -> list[str]:
    found = [
        _fact(name, entry["install"])
        for name, entry in facts["frameworks"].items()
        if "install" in entry
    ]
    return ["Missing frameworks, and the command to install each", *(found or ["  none"])]


def lines(facts: dict[str, Any]) -> list[str]:
    """Returns the lines of the page.

    Args:
      facts: the document of ``isoscale doctor --json``.
    """
    sections = (_machine, _gpus, _environment, _frameworks, _missing, _problems)
    page = []
    for section in sections:
        page += [*section(facts), ""]
    return [
        *page,
        "Figures marked 'measured' were measured now. The system or the framework reported all "
        "other facts;",
        "'unknown' means: not reported.",
    ]
