"""Tests the functions that read facts of the system, on fake files in a temporary folder."""

import ctypes
import os
from pathlib import Path

import pytest

from isoscale.common.machine import describe, system
from isoscale.common.machine.describe import UNKNOWN
from isoscale.common.machine.native_output import printed_by


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    "files, expected",
    [
        ({}, UNKNOWN),
        ({"proc/self/cgroup": "0::/\n"}, UNKNOWN),  # no control group is mounted
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cgroup.procs": ""}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        (  # the lowest limit of the enclosing groups counts
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "200000 100000",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000",
            },
            2.0,
        ),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "200000 100000",
                "sys/fs/cgroup/a/b/cpu.max": "300000 100000",
            },
            2.0,
        ),
        (  # version 1, in a container: the path is the host's
            {
                "proc/self/cgroup": "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            0.5,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        (  # a path outside the namespace
            {"proc/self/cgroup": "0::/../..\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"},
            1.0,
        ),
    ],
)
def test_cpu_quota(files, expected, tmp_path: Path) -> None:
    assert system.cpu_quota(tree(tmp_path, files)) == expected


@pytest.mark.parametrize(
    "files, limit",
    [
        ({}, UNKNOWN),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, None),
        (
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "1000000\n",
                "sys/fs/cgroup/memory.current": "700000\n",
                "sys/fs/cgroup/memory.stat": "anon 5\ninactive_file 100000\n",
            },
            1_000_000,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            None,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "1000000\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "700000\n",
                "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 100000\n",
            },
            1_000_000,
        ),
    ],
)
def test_memory_limit(files, limit, tmp_path: Path) -> None:
    memory = system.memory(tree(tmp_path, files))
    assert memory["limit_bytes"] == limit
    if limit == 1_000_000:  # in use: 700000, of which 100000 are cache that the kernel can free
        assert memory["available_bytes"] == 400_000
    else:
        assert 2**20 < memory["available_bytes"] <= memory["total_bytes"]


CPU = "sys/devices/system/cpu"


def test_facts_are_read_from_proc_and_sys(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/cpuinfo": "processor: 0\nflags\t\t: fpu hypervisor avx\n",
            "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
            f"{CPU}/cpu3/cache/index0/level": "1\n",
            f"{CPU}/cpu3/cache/index0/type": "Data\n",
            f"{CPU}/cpu3/cache/index0/size": "48K\n",
            f"{CPU}/cpu3/cache/index3/level": "3\n",
            f"{CPU}/cpu3/cache/index3/type": "Unified\n",
            f"{CPU}/cpu3/cache/index3/size": "32M\n",
            f"{CPU}/cpu3/cache/index3/shared_cpu_list": "0-7\n",
            f"{CPU}/cpu3/cpufreq/scaling_governor": "powersave\n",
            f"{CPU}/cpu3/cpufreq/scaling_driver": "intel_pstate\n",
            f"{CPU}/cpu3/cpufreq/scaling_cur_freq": "1200000\n",
            f"{CPU}/cpu4/cpufreq/scaling_governor": "performance\n",
            f"{CPU}/cpu4/cpufreq/scaling_cur_freq": "3600000\n",
            f"{CPU}/intel_pstate/no_turbo": "0\n",
            "sys/devices/system/node/node0/cpulist": "0-3",
            "sys/devices/system/node/node1/cpulist": "4-7",
        },
    )
    assert system.virtual_machine(root) is True
    assert system.huge_pages(root) == "madvise"
    assert system.numa_nodes(root) == 2
    assert system.caches(3, root) == {
        "L1d": {"bytes": 48 * 2**10, "shared_by_cpus": UNKNOWN},
        "L3": {"bytes": 32 * 2**20, "shared_by_cpus": "0-7"},
    }
    assert system.clocks([3, 4], root) == {
        "driver": "intel_pstate",
        "governors": ["performance", "powersave"],
        "boost": "on",
        "current_mhz": [1200.0, 3600.0],
    }
    assert system.clocks([3], root)["governors"] == ["powersave"]


@pytest.mark.parametrize(
    "name, text, expected",
    [
        ("cpufreq/boost", "1", "on"),
        ("cpufreq/boost", "0", "off"),
        ("intel_pstate/no_turbo", "1", "off"),
        ("intel_pstate/no_turbo", "0", "on"),
        ("cpufreq/else", "1", UNKNOWN),
    ],
)
def test_boost(name: str, text: str, expected: str, tmp_path: Path) -> None:
    root = tree(tmp_path, {f"{CPU}/{name}": text})
    assert system.clocks([0], root)["boost"] == expected


def test_facts_are_unknown_without_proc_and_sys(tmp_path: Path) -> None:
    found = system.facts(tmp_path / "not/made", tmp_path)
    for name in ("cpu_quota", "numa_nodes", "caches", "transparent_huge_pages"):
        assert found[name] == UNKNOWN
    for name in ("virtual_machine", "shared_memory_bytes"):
        assert found[name] == UNKNOWN
    assert set(found["clocks"].values()) == {UNKNOWN}
    assert found["memory"]["limit_bytes"] == UNKNOWN
    assert found["disk_free_bytes"] > 0  # of the nearest existing folder


def test_facts_of_this_machine_are_plausible() -> None:
    found = system.facts(Path("runs/out"))
    assert found["memory"]["total_bytes"] >= found["memory"]["available_bytes"] > 0
    activity = system.activity(0.05)
    assert 0 <= activity["busy_cpus"] <= (os.cpu_count() or 1)


SMI = """#!/bin/sh
case "$1" in
  --query-gpu=*power.limit*) {answer} ;;
  --query-gpu=*) echo "Old GPU, 16 MiB, 400.1" ;;
  *) echo "| NVIDIA-SMI 580.1   Driver Version: 580.1   CUDA Version: 13.0 |" ;;
esac
"""
LINE = "New GPU, 80000 MiB, 3 MiB, [N/A], 580.1, 1, 5, 16, 16, Enabled, 345 MHz, 1980 MHz, 700.00 W"


def fake_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, *, answer: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(SMI.format(answer=answer))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_gpus_are_read(tmp_path: Path, monkeypatch) -> None:
    fake_smi(tmp_path, monkeypatch, answer=f'echo "{LINE}"; echo "{LINE}"')
    first, second = system.gpus()
    assert first == second
    assert set(first) == set(system.GPU_FIELDS)
    assert first["utilization"] == UNKNOWN
    assert (first["name"], first["pcie_width_max"]) == ("New GPU", "16")
    assert first["power_limit"] == "700.00 W"
    assert system.cuda_of_driver() == "13.0"


def test_an_old_driver_with_fewer_fields_is_read(tmp_path: Path, monkeypatch) -> None:
    fake_smi(tmp_path, monkeypatch, answer="echo 'not a valid field'; exit 2")
    (gpu,) = system.gpus()
    assert (gpu["name"], gpu["memory"], gpu["driver"]) == ("Old GPU", "16 MiB", "400.1")
    assert gpu["pcie_width"] == UNKNOWN


def smi_that(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    fake_smi(folder, monkeypatch, answer="")
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")


@pytest.mark.parametrize("banner", ["CUDA Version: 12.8", "CUDA UMD Version: 13.3"])
def test_the_drivers_cuda_version_is_read(banner: str, tmp_path: Path, monkeypatch) -> None:
    smi_that(tmp_path, monkeypatch, f"echo '| Driver Version: 610.1   {banner} |'")
    assert system.cuda_of_driver() == banner.split()[-1]
    assert not system.gpu_driver_fails()


def test_a_failing_gpu_driver_is_detected(tmp_path: Path, monkeypatch) -> None:
    smi_that(tmp_path, monkeypatch, "echo Failed to initialize NVML; exit 18")
    assert system.gpu_driver_fails()
    assert system.gpus() == []


def test_terminal_escape_codes_are_removed_from_program_output(tmp_path: Path, monkeypatch) -> None:
    smi_that(tmp_path, monkeypatch, "printf '\\033[4mGPU0\\033[0m'")
    assert describe.query("nvidia-smi") == "GPU0"


def test_no_gpus(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert system.gpus() == []
    assert system.cuda_of_driver() == UNKNOWN


def test_output_of_c_code_is_captured() -> None:
    assert printed_by(lambda: ctypes.CDLL(None).puts(b"from C")) == "from C\n"
    with pytest.raises(ZeroDivisionError):
        printed_by(lambda: 1 / 0)
    assert printed_by(lambda: os.write(1, b"again")) == "again"
