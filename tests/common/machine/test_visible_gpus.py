"""Tests how many GPUs a process can use, with a stub of nvidia-smi."""

import math
from pathlib import Path

import pytest

from isoscale.common.machine import visible_gpus
from isoscale.common.machine.visible_gpus import look

FOUR = "".join(f"GPU {i}: NVIDIA A100 (UUID: GPU-{i}d5bce-1b)\n" for i in range(4))
DIVIDED = FOUR + (
    "  MIG 1g.10gb     Device  0: (UUID: MIG-a0-1)\n  MIG 1g.10gb     Device  1: (UUID: MIG-b0-1)\n"
)


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Returns a function that makes nvidia-smi list a text, or fail."""

    def install(listing: str | None) -> None:
        program = tmp_path / "nvidia-smi"
        answer = "exit 9" if listing is None else f"cat <<'END'\n{listing}END"
        program.write_text(f'#!/bin/sh\n[ "$1" = -L ] || exit 2\n{answer}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return install


@pytest.mark.parametrize(
    "visible, usable",
    [
        (None, 4),
        ("", 0),
        ("-1", 0),
        ("NoDevFiles", 0),
        ("0", 1),
        ("3, 1", 2),
        ("0,2,-1,1", 2),  # CUDA ignores all entries after an invalid one
        ("0,4,1", 1),
        ("GPU-1d,GPU-2d5bce-1b", 2),
        ("GPU-9", 0),
        ("MIG-a0-1", 0),
    ],
)
def test_cuda_visible_devices_counts(visible: str | None, usable: int, smi) -> None:
    smi(FOUR)
    found = look({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    assert (found.listed, found.usable, found.parts) == (4, usable, 0)
    if visible is None:
        assert found.words == "this machine shows 4 GPUs"
    else:
        assert found.words == (
            f"CUDA_VISIBLE_DEVICES={visible!r} shows {usable} of the 4 GPUs of this machine"
        )


def test_mig_devices_are_told_from_gpus(smi) -> None:
    smi(DIVIDED)
    found = look({})
    assert (found.listed, found.usable, found.parts) == (4, 2, 2)
    assert found.words == "this machine shows 4 GPUs, divided into 2 MIG devices"
    for name in ("MIG-b0-1", "MIG-GPU-1d5bce-1b/1/0"):
        assert look({"CUDA_VISIBLE_DEVICES": name}).usable == 1


def test_a_driver_that_fails_shows_no_gpu(smi) -> None:
    smi(None)
    found = look({})
    assert found.usable == 0
    assert "nvidia-smi fails" in found.words


def test_without_nvidia_smi_the_files_of_a_driver_decide(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(visible_gpus, "_DRIVERS", (str(tmp_path / "nvidiactl"),))
    assert look({}).usable == 0
    assert "no driver" in look({}).words
    (tmp_path / "nvidiactl").touch()
    assert look({}).usable == math.inf
