"""The last line of a log that says something."""

from pathlib import Path

import pytest

from isoscale.common.processes.log_lines import telling_line


def test_a_log_without_a_telling_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert telling_line(log) is None
    log.write_text("$ python -m program\n\n  \n")
    assert telling_line(log) is None


def test_the_last_line_of_a_traceback(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("Traceback\nValueError: no\n\n  \n")
    assert telling_line(log) == "ValueError: no"


NOISE = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1764321729.123456   12345 cpu_feature_guard.cc:227] This TensorFlow binary is",
    "To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow",
    "2026-11-28 09:22:09.123456: I tensorflow/core/util/port.cc:153] oneDNN custom operations are",
    "2026-11-28 09:22:09.123456: W external/local_xla/xla/tsl/framework/cpu_allocator.cc:84] All",
    "W0000 00:00:1764321729.123456   12345 gpu_device.cc:2342] Cannot dlopen some GPU libraries",
    "[W1128 09:22:09.123456789 ProcessGroupGloo.cpp:751] Warning: Unable to resolve hostname",
    "[rank1]:[W1128 09:22:09.123456789 ProcessGroupGloo.cpp:751] Warning: Unable to resolve",
    "INFO:tensorflow:Using MirroredStrategy with devices",
    "/lib/python3.11/multiprocessing/resource_tracker.py:254: UserWarning: leaked semaphore",
    "  warnings.warn('resource_tracker: There appear to be %d '",
    '  File "/lib/python3.11/threading.py", line 331 in wait',
    "Thread 0x00007f0d9c1ff6c0 (most recent call first):",
    "E0000 00:00:1795863110.074384   20692 cuda_platform.cc:52] failed call to cuInit: INTERNAL: C",
    "E0000 00:00:1764321729.123456   12345 cuda_dnn.cc:8579] Unable to register cuDNN factory",
    "Extension modules: numpy._core._multiarray_umath, psutil._psutil_linux (total: 40)",
    "    ~~~~~~~~^^^^^^^",
]


@pytest.mark.parametrize("noise", NOISE, ids=lambda line: line[:30])
def test_lines_that_say_nothing_are_passed_over(noise: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(f"RuntimeError: the reason\n{noise}\n")
    assert telling_line(log) == "RuntimeError: the reason"


@pytest.mark.parametrize(
    "line",
    [
        "terminate called after throwing an instance of 'gloo::EnforceNotMet'",
        "E0000 00:00:1764321729.123456   12345 pjrt_client.cc:12] Allocation failed",
        "F1128 09:22:09.123456   12345 client.cc:80] Check failed: memory",
        "Fatal Python error: Segmentation fault",
        "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: out of memory",
    ],
    ids=lambda line: line[:30],
)
def test_lines_that_say_something_are_quoted(line: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(f"I0000 00:00:1.2 3 x.cc:1] fine\n{line}\nI0000 00:00:1.2 3 x.cc:1] fine\n")
    assert telling_line(log) == line
