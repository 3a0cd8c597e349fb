"""Known problems of machines, and of the combination of several frameworks."""

from isoscale.common.machine.describe import UNKNOWN
from isoscale.common.machine.problem import GIB, Facts, Problem, cores, examined, gib, number

_PYTHONS = ((3, 11), (3, 14))


def _python(facts: Facts) -> str | None:
    pythons = {"isoscale": facts["machine"]["python"]}
    pythons |= {n: f["interpreter"]["python"] for n, f in examined(facts).items()}
    outside = [
        f"{name}: Python {version}"
        for name, version in pythons.items()
        if not _PYTHONS[0] <= tuple(map(int, version.split(".")[:2])) <= _PYTHONS[1]
    ]
    return ", ".join(outside) or None


def _few_cores(facts: Facts) -> str | None:
    return "only 1 physical core is usable" if cores(facts) < 2 else None


def _smt(facts: Facts) -> str | None:
    physical = number(facts["machine"]["physical_cores"])
    logical = number(facts["machine"]["logical_cores"])
    if physical is None or logical is None or logical <= physical:
        return None
    return f"{logical:.0f} logical CPUs on {physical:.0f} physical cores"


def _affinity(facts: Facts) -> str | None:
    cpus, logical = facts["settings"]["affinity"], number(facts["machine"]["logical_cores"])
    if cpus == UNKNOWN or logical is None or len(cpus) >= logical:
        return None
    return f"affinity allows CPUs {', '.join(map(str, cpus))}: {len(cpus)} of {logical:.0f}"


def _quota(facts: Facts) -> str | None:
    quota = number(facts["settings"]["cpu_quota"])
    if quota is None or quota >= cores(facts):
        return None
    most = "1 CPU" if quota == 1 else f"{quota:g} CPUs"
    return f"the container may use the time of {most}; {cores(facts)} cores are visible"


def _busy(facts: Facts) -> str | None:
    busy, load = facts["activity"]["busy_cpus"], facts["settings"]["load_average"]
    if busy < max(0.2, 0.1 * cores(facts)):
        return None
    average = "" if load == UNKNOWN else f"; load average {load[0]:.1f} over 1 minute"
    return (
        f"before isoscale started any program, {busy:.1f} of the usable CPUs were busy (measured "
        f"for {facts['activity']['seconds']:g} s){average}"
    )


def _virtual(facts: Facts) -> str | None:
    if facts["settings"]["virtual_machine"] is not True:
        return None
    stolen = number(facts["activity"]["stolen"])
    time = "unknown" if stolen is None else f"{100 * stolen:.1f} % (measured just now)"
    return f"the processor has the hypervisor flag; steal time {time}"


def _steal(facts: Facts) -> str | None:
    stolen = number(facts["activity"]["stolen"])
    if stolen is None or stolen < 0.01:
        return None
    return f"{100 * stolen:.1f} % of the time was stolen (measured just now)"


def _governor(facts: Facts) -> str | None:
    clocks = facts["settings"]["clocks"]
    if clocks["governors"] in (UNKNOWN, ["performance"]):
        return None
    return f"governor {', '.join(clocks['governors'])}, driver {clocks['driver']}"


def _boost(facts: Facts) -> str | None:
    on = facts["settings"]["clocks"]["boost"] == "on"
    return "boost is on" if on and cores(facts) > 1 else None


def _memory(facts: Facts) -> str | None:
    memory = facts["settings"]["memory"]
    if memory["available_bytes"] >= 4 * GIB:
        return None
    return f"{gib(memory['available_bytes'])} of {gib(memory['total_bytes'])} are available"


def _swap(facts: Facts) -> str | None:
    used = number(facts["settings"]["memory"]["swap_used_bytes"])
    return f"{gib(used)} of swap is in use" if used is not None and used > 0.1 * GIB else None


def _disk(facts: Facts) -> str | None:
    free = number(facts["settings"]["disk_free_bytes"])
    return f"{gib(free)} is free for results" if free is not None and free < GIB else None


def _versions(facts: Facts) -> str | None:
    tested = facts["tested_versions"]
    if tested == UNKNOWN:
        return None
    different = {}
    for entry in examined(facts).values():
        for name, version in entry["versions"].items():
            want = tested.get(name)
            if want and version != UNKNOWN and version.split("+")[0] != want:
                different[name] = f"{name} {version} (tested: {want})"
    return ", ".join(different.values()) or None


def _environment(facts: Facts) -> str | None:
    values = facts["environment"]
    texts = [
        f"{name}={values[name]!r}" if name in values else name
        for name in facts["removed_variables"]
    ]
    return "; ".join(texts) or None


PROBLEMS = (
    Problem(
        id="python_version",
        severity="problem",
        topic="installation",
        evidence=_python,
        meaning="isoscale supports Python 3.11 to 3.14. TensorFlow has no packages for 3.14.",
        remedy="Create the environment with one of these versions: "
        "make PYTHON=/path/to/python3.12 setup.",
    ),
    Problem(
        id="few_cores",
        severity="problem",
        topic="capacity",
        evidence=_few_cores,
        meaning="Each CPU device needs its own core, so this machine cannot measure scaling over "
        "CPU devices; --allow_oversubscription shows overhead and correctness only.",
        remedy="Compare frameworks with --devices=1, or use a machine with more cores.",
    ),
    Problem(
        id="cpu_quota",
        severity="problem",
        topic="capacity",
        evidence=_quota,
        meaning="In each period, the kernel stops a container that has used its CPU time, until "
        "the next period begins: tens of milliseconds. "
        "Window times vary, and more devices than the limit add no speed.",
        remedy="Raise the limit (docker --cpus, the CPU limit of a pod), or choose --devices below "
        "the limit.",
    ),
    Problem(
        id="busy",
        severity="problem",
        topic="capacity",
        evidence=_busy,
        meaning="Other programs use the measured cores: figures are slower and spread wider. "
        "isoscale marks a run as disturbed if other programs use more than 10 % of one "
        "core's time on its cores.",
        remedy="End the other programs or wait for them, then run isoscale doctor again.",
    ),
    Problem(
        id="steal_time",
        severity="problem",
        topic="capacity",
        evidence=_steal,
        meaning="The hypervisor gives this machine's processors to other machines. Timings vary, "
        "and no setting inside this machine helps.",
        remedy="Use a machine with dedicated cores, or do more runs (--runs=6 or more) and read "
        "the intervals.",
    ),
    Problem(
        id="little_memory",
        severity="problem",
        topic="capacity",
        evidence=_memory,
        meaning="The default models had a peak of 0.3 to 1.0 GiB in a run on two cores. The system "
        "may kill runs of larger models, or with more processes, for lack of memory.",
        remedy="End other programs, raise the container's memory limit, or choose smaller models "
        "and batches.",
    ),
    Problem(
        id="little_disk",
        severity="problem",
        topic="capacity",
        evidence=_disk,
        meaning="isoscale may be unable to write all results.",
        remedy="Free disk space, or choose another folder with --out_dir.",
    ),
    Problem(
        id="other_versions",
        severity="note",
        topic="installation",
        evidence=_versions,
        meaning="isoscale's tests and published figures used other versions.",
        remedy="Install the tested versions: pip install --constraint constraints.txt --editable "
        "'.[all,digits,dev]'. Or keep your versions and run the parity tests (make parity) before "
        "you trust a comparison.",
    ),
    Problem(
        id="virtual_machine",
        severity="note",
        topic="system",
        evidence=_virtual,
        meaning="Other virtual machines on the same hardware make timings noisy. The real clocks, "
        "caches and cores may differ from those that this system shows.",
        remedy="Do more runs (--runs=6 or more) and read the intervals; compare only "
        "cells of one study.",
    ),
    Problem(
        id="frequency_governor",
        severity="note",
        topic="system",
        evidence=_governor,
        meaning="The clock follows the load, so a window may start at a lower clock than the next.",
        remedy="Run as root: cpupower frequency-set -g performance. Restore the old governor "
        "afterwards.",
    ),
    Problem(
        id="boost",
        severity="note",
        topic="system",
        evidence=_boost,
        meaning="One busy core may have a higher clock than several busy cores. The clock can "
        "explain a part of an apparent scaling loss over CPU devices.",
        remedy="For scaling figures, switch boost off as root: echo 1 > "
        "/sys/devices/system/cpu/intel_pstate/no_turbo if that file exists, else echo 0 > "
        "/sys/devices/system/cpu/cpufreq/boost.",
    ),
    Problem(
        id="hardware_threads",
        severity="note",
        topic="system",
        evidence=_smt,
        meaning="Two hardware threads share a core. isoscale counts physical cores: it uses one "
        "thread of each core and leaves the other threads idle.",
        remedy="No action needed; keep other programs off all threads of the cores in use.",
    ),
    Problem(
        id="affinity",
        severity="note",
        topic="system",
        evidence=_affinity,
        meaning="This process may use only a part of the machine's CPUs; all CPU devices are made "
        "from this part.",
        remedy="No action needed if the limit is intended (taskset, Slurm, a container's cpuset).",
    ),
    Problem(
        id="swap",
        severity="note",
        topic="system",
        evidence=_swap,
        meaning="Some memory was moved to disk. If isoscale's memory is moved, timings vary.",
        remedy="End programs that need much memory before you measure.",
    ),
    Problem(
        id="environment",
        severity="note",
        topic="installation",
        evidence=_environment,
        meaning="These environment variables of this shell can change results or speed. isoscale "
        "removes them from the environment of its runs. Your own programs get them.",
        remedy="No action needed. To hand a variable on to runs, add --env=NAME=VALUE; it becomes "
        "part of the cell.",
    ),
)
