import os
import threading
from pathlib import Path

import pytest

from isoscale.common.machine import describe
from isoscale.common.machine.cores import (
    MovedThreadsError,
    Pinning,
    available_cores,
    cores_of_devices,
    pin,
)


@pytest.mark.parametrize(
    "first, devices, threads, expected",
    [
        (0, 1, 1, [4]),
        (1, 1, 1, [5]),
        (0, 2, 1, [4, 5]),
        (0, 2, 2, [4, 5, 6, 7]),
        (1, 1, 2, [6, 7]),
        (3, 1, 2, [6, 7]),  # after the last core the count restarts
        (0, 8, 1, [4, 5, 6, 7]),
    ],
)
def test_each_device_gets_its_own_cores(first, devices, threads, expected) -> None:
    found = cores_of_devices(
        [4, 5, 6, 7], first_device=first, devices=devices, threads_per_device=threads
    )
    assert found == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_pinning_restricts_this_process() -> None:
    before = os.sched_getaffinity(0)
    try:
        assert pin(available_cores()[:1])
        assert available_cores() == [min(os.sched_getaffinity(0))]
        assert len(os.sched_getaffinity(0)) == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two CPUs, both may be in use")
def test_pinning_again_brings_all_threads_back() -> None:
    before, end = os.sched_getaffinity(0), threading.Event()
    first = available_cores()[0]
    pinning = Pinning([first])
    pinning.pin_again()  # the threads of libraries that other tests have loaded
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        assert set(pinning.places() or {}) == {str(first)}
        pinning.verify()
        os.sched_setaffinity(thread.native_id or 0, range(os.cpu_count() or 1))
        assert len(pinning.places() or {}) == 2
        with pytest.raises(MovedThreadsError, match="1 on CPU 0,1"):
            pinning.verify()
        pinning.pin_again()
        pinning.verify()
    finally:
        end.set()
        thread.join()
        Pinning(sorted(before)).pin_again()


def test_a_process_that_is_not_pinned_has_nothing_to_verify() -> None:
    pinning = Pinning(None)
    pinning.pin_again()
    pinning.verify()
    assert pinning.places() is None


def test_the_machine_is_described() -> None:
    machine = describe.machine()
    assert machine["available_cores"] == available_cores()
    assert machine["memory_bytes"] > 2**28
    assert all(value != "" for value in machine.values())


def test_only_allowed_environment_variables_are_recorded(monkeypatch) -> None:
    monkeypatch.setenv("AWS_SECRET", "x")
    monkeypatch.setenv("OMP_PLACES", "cores")
    monkeypatch.setenv("MADE_UP_FLAGS", "-O")
    found = describe.environment({"MADE_UP_FLAGS"})
    assert "AWS_SECRET" not in found
    assert found["OMP_PLACES"] == "cores"
    assert found["MADE_UP_FLAGS"] == "-O"
    assert "MADE_UP_FLAGS" not in describe.environment(())


def test_a_value_without_the_form_of_its_variable_is_not_recorded(monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "hunter2")
    monkeypatch.setenv("OMP_SECRET", "hunter2")
    monkeypatch.setenv("NCCL_TOKEN", "hunter2")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo\x1b[31m")
    monkeypatch.setenv("LD_PRELOAD", f"{Path.home()}/lib/a.so:{Path.home()}y/b.so")
    found = describe.environment(())
    assert found["OMP_NUM_THREADS"] == "(not recorded: 7 characters)"
    assert found["GLOO_SOCKET_IFNAME"] == "(not recorded: 7 characters)"
    assert found["LD_PRELOAD"] == "a.so:b.so"
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    "value, shown",
    [
        ("--xla_dump_to=/home/me/dump --xla_cpu_use_fusion=true",
         "--xla_dump_to=(path) --xla_cpu_use_fusion=true"),
        ("~/cache", "(path)"),
        ("--xla_cpu_enable_fast_math=false --xla_step_marker_location_v2_with_a_long_name=1", None),
        ("garbage_collection_threshold:0.8,max_split_size_mb:128", None),
        ("glibc.cpu.x86_non_temporal_threshold=4096", None),
        ("--token=ghp_16C7e42F292c6912E7710c838347Ae178B4a", "(not recorded: 48 characters)"),
        ("https://me:hunter2@example.com", "(not recorded: 30 characters)"),
    ],
)  # fmt: skip
def test_paths_and_keys_in_values_are_not_recorded(
    value: str, shown: str | None, monkeypatch
) -> None:
    monkeypatch.setenv("MADE_UP_FLAGS", value)
    assert describe.environment({"MADE_UP_FLAGS"})["MADE_UP_FLAGS"] == (shown or value)
    assert ("MADE_UP_FLAGS" in describe.changed_in_record({"MADE_UP_FLAGS"})) == bool(shown)
