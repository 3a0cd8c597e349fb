"""Before a run on GPUs, isoscale asks the framework; here stubs answer."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MAIN = "isoscale.common.commands.main"
FOUR = "".join(f"GPU {i}: NVIDIA A100 (UUID: GPU-{i}d5bce)\n" for i in range(4))
DIVIDED = f"{FOUR}  MIG 1g.10gb Device 0: (UUID: MIG-a0)\n  MIG 1g.10gb Device 1: (UUID: MIG-b0)\n"
COMPARE = ("compare", "--frameworks=torch", "--models=mlp_digits", "--dry_run")
CUDA_BUILD = {"build": "CUDA 12.8", "cuda": "12.8", "cuda_packages": ["nvidia-cudnn-cu12 9"]}


def sees(count: int, **changes: Any) -> dict[str, Any]:
    """Returns the answer of a framework that sees some GPUs."""
    return {"devices": [f"cuda:{i}" for i in range(count)], **CUDA_BUILD, **changes}


def smi(folder: Path, *, listing: str = FOUR, cuda: str = "13.0") -> dict[str, str]:
    """Writes a stub of nvidia-smi; returns the variables that let programs find it."""
    program = folder / "bin" / "nvidia-smi"
    program.parent.mkdir(exist_ok=True)
    program.write_text(
        "#!/bin/sh\ncase $1 in\n"
        f"  -L) cat <<'END'\n{listing}END\n  ;;\n"
        "  --query-gpu=*) echo 'A GPU, 80000 MiB, 580.1' ;;\n"
        f"  *) echo 'CUDA Version: {cuda}' ;;\nesac\n"
    )
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}"}


def interpreter(folder: Path, answer: dict[str, Any] | None, *, framework: str = "torch") -> str:
    """Returns the flag of an interpreter in which a framework gives an answer; None: it crashes."""
    script = folder / f"python-{framework}"
    told = folder / f"{framework}.json"
    told.write_text(json.dumps(answer))
    act = f'cp {told} "$out/examination.json"' if answer else "echo 'Oops: it crashed' >&2; exit 1"
    script.write_text(
        '#!/bin/sh\nif [ "$3" = isoscale.common.program.examine ]; then\n'
        '  for word; do case $word in --out_dir=*) out="${word#--out_dir=}" ;; esac; done\n'
        f'  echo "$CUDA_VISIBLE_DEVICES" "$NCCL_ALGO" "$JAX_DEBUG_NANS" > {folder}/environment\n'
        f'  {act}\n  exit 0\nfi\nexec {sys.executable} "$@"\n'
    )
    script.chmod(0o755)
    return f"--python_{framework}={script}"


def refused(run_program: Callable, folder: Path, *arguments: str, **variables: str) -> str:
    """Returns the one line with which a command refuses to run; it has written nothing."""
    before = sorted(folder.rglob("*"))
    answer = run_program(MAIN, *arguments, "--platform=gpu", **variables)
    assert answer.returncode == 2, answer.stdout + answer.stderr
    assert set(folder.rglob("*")) - set(before) <= {folder / "environment"}
    (line,) = answer.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    "answer, variables, part",
    [
        (
            sees(0, build="CPU only", cuda=None),
            {},
            "torch cannot run on platform=gpu: its build is CPU only: {python} -m pip install "
            "'isoscale[cuda-torch]'",
        ),
        (sees(1), {}, "it sees 1 of 2 GPUs (build: CUDA 12.8; this machine"),
        (sees(0, gpu_error="no libcuda"), {}, "(build: CUDA 12.8; no libcuda; this machine shows"),
        (sees(0, cuda="14.1"), {}, "it needs CUDA 14.1; the driver supports 13.0"),
        (sees(0, cuda_packages=[]), {}, "has no CUDA libraries: {python} -m pip install"),
        (
            sees(1),
            {"CUDA_VISIBLE_DEVICES": "0,1"},
            "it sees 1 of 2 GPUs; CUDA_VISIBLE_DEVICES='0,1' hides others",
        ),
        (
            None,
            {},
            "exited with code 1 in 'starting'; last line of its log: Oops",
        ),
        ({"error": "BrokenFrameworkError: x"}, {}, "on platform=gpu: BrokenFrameworkError: x"),
    ],
)
def test_a_framework_that_sees_too_few_gpus_is_refused(
    answer: dict[str, Any] | None,
    variables: dict[str, str],
    part: str,
    run_program: Callable,
    tmp_path: Path,
) -> None:
    flag = interpreter(tmp_path, answer)
    line = refused(
        run_program, tmp_path, *COMPARE, "--devices=2", flag, **smi(tmp_path), **variables
    )
    assert part.format(python=flag.partition("=")[2]) in line


def test_a_process_sees_one_mig_device(run_program: Callable, tmp_path: Path) -> None:
    flag, variables = interpreter(tmp_path, sees(1)), smi(tmp_path, listing=DIVIDED)
    line = refused(run_program, tmp_path, *COMPARE, "--devices=2", flag, **variables)
    assert "it sees 1 of 2 GPUs; CUDA shows a process one MIG device" in line
    assert "(this machine shows 4 GPUs, divided into 2 MIG devices)" in line
    default = run_program(MAIN, *COMPARE, "--platform=gpu", flag, **variables)
    assert default.returncode == 0, default.stderr


def test_hidden_gpus_do_not_count_and_no_framework_is_asked(
    run_program: Callable, tmp_path: Path
) -> None:
    variables = smi(tmp_path) | {"CUDA_VISIBLE_DEVICES": "1"}
    flag = interpreter(tmp_path, sees(4))
    line = refused(run_program, tmp_path, *COMPARE, "--devices=2", flag, **variables)
    assert line == (
        "isoscale: devices=2 on platform=gpu: CUDA_VISIBLE_DEVICES='1' shows 1 of the 4 GPUs of "
        "this machine"
    )
    assert not (tmp_path / "environment").exists()


def test_a_framework_is_asked_in_the_environment_of_a_run(
    run_program: Callable, tmp_path: Path
) -> None:
    variables = smi(tmp_path) | {
        "CUDA_VISIBLE_DEVICES": "2,3", "NCCL_ALGO": "Tree", "JAX_DEBUG_NANS": "1",
    }  # fmt: skip
    answer = run_program(
        MAIN, *COMPARE, "--platform=gpu", interpreter(tmp_path, sees(2)), **variables
    )
    assert answer.returncode == 0, answer.stderr
    assert "ddp" in answer.stdout  # on the two devices that are visible
    assert (tmp_path / "environment").read_text() == "2,3 Tree \n"


def test_the_line_names_every_framework_that_cannot_run(
    run_program: Callable, tmp_path: Path
) -> None:
    flags = [
        interpreter(tmp_path, sees(4), framework="jax"),
        interpreter(tmp_path, sees(0), framework="tensorflow"),
        interpreter(tmp_path, sees(0, build="CPU only"), framework="torch"),
    ]
    line = refused(run_program, tmp_path, "compare", "--models=mlp_digits", *flags, **smi(tmp_path))
    assert line.startswith("isoscale: tensorflow cannot run on platform=gpu: it sees 0 of 2 GPUs")
    assert line.endswith("; nor can torch")


@pytest.mark.parametrize(
    "command",
    [
        ("explain", "s", "--frameworks=torch", "--models=mlp_digits"),
        ("parity", "--frameworks=torch", "--models=mlp_plain", "--devices=1"),
        ("relay", "--model=mlp_plain", "--legs=torch:bare:1,torch:ddp:2", "--steps=20"),
    ],
    ids=lambda command: command[0],
)
def test_every_command_asks(
    command: tuple[str, ...], run_program: Callable, tmp_path: Path
) -> None:
    flag = interpreter(tmp_path, sees(0, build="CPU only"))
    line = refused(run_program, tmp_path, *command, flag, **smi(tmp_path))
    assert "torch cannot run on platform=gpu: its build is CPU only" in line


def test_a_program_started_by_hand_asks_too(run_program: Callable, tmp_path: Path) -> None:
    """The real PyTorch of this interpreter answers: it sees no GPU, whatever the stub says."""
    answer = run_program(
        "isoscale.frameworks.torch_runner", "--model=mlp_digits", "--platform=gpu",
        "--run_dir=r", **smi(tmp_path),
    )  # fmt: skip
    assert answer.returncode == 2
    assert "isoscale: torch cannot run on platform=gpu: " in answer.stderr
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    "here, part", [(4, "--run_dir must name one folder"), (5, "this machine shows 4 GPUs")]
)
def test_a_rank_needs_the_gpus_of_its_own_machine(
    here: int, part: str, run_program: Callable, tmp_path: Path
) -> None:
    rank = {
        "RANK": "4", "LOCAL_RANK": "0", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": str(here),
        "MASTER_ADDR": "a", "MASTER_PORT": "1",
    }  # fmt: skip
    answer = run_program(
        "isoscale.frameworks.torch_runner", "--model=mlp_digits", "--platform=gpu", "--devices=8",
        **smi(tmp_path), **rank,
    )  # fmt: skip
    assert answer.returncode == 2
    (line,) = answer.stderr.splitlines()
    assert part in line
