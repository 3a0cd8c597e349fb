"""The control groups of this process: limits that a container or a cluster sets."""

from pathlib import Path


def read(path: Path) -> str | None:
    """Returns the text of a file of the system; None if the file is missing or unreadable."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def control_groups(controller: str, root: Path) -> list[Path]:
    """Returns the folders of this process's control groups, innermost first; [] if unknown.

    Version 2 has one tree for all controllers, version 1 has one tree per controller. Inside a
    container the path may be the host's; then only the mounted top of the path exists, which is the
    container's own group.
    """
    folders: list[Path] = []
    for line in (read(root / "proc/self/cgroup") or "").splitlines():
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if names else "")
        parts = [part for part in path.split("/") if part not in ("", "..")]
        places = [top.joinpath(*parts[:n]) for n in range(len(parts), -1, -1)]
        folders += [place for place in places if place.is_dir()]
    return folders


def cpu_quota(root: Path = Path("/")) -> float | str | None:
    """Returns the CPU limit of the control groups, as a number of CPUs; None: no limit."""
    folders = control_groups("cpu", root)
    quotas = []
    for folder in folders:
        text = read(folder / "cpu.max")
        if text is None:
            limit, period = read(folder / "cpu.cfs_quota_us"), read(folder / "cpu.cfs_period_us")
            text = f"{limit} {period}" if limit and period else "max 0"
        limit, period = text.split()
        if limit not in ("max", "-1"):
            quotas.append(int(limit) / int(period))
    return min(quotas) if quotas else None if folders else "unknown"
