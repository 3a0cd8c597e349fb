"""A study is often published: it holds nothing about its user besides the study's own name.

The tests put canaries into everything that a user gives a study, and search all its bytes.
"""

import gzip
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.test_compare import MAIN
from tests.conftest import copy_of_the_code, environment_of
from tests.faults.disks import start

pytestmark = pytest.mark.slow

CANARY = "c4n4ry"
KEY = f"ghp_{CANARY}16C7e42F292c6912E7710"
STRANGERS = (
    "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "WANDB_API_KEY", "JAX_SECRET", "TF_TOKEN", "XLA_KEY",
    "TORCH_PASSWORD", "CUDA_SECRET", "NCCL_TOKEN", "GLOO_TOKEN", "OMP_SECRET", "KMP_TOKEN",
    "MKL_LICENSE_KEY", "OPENBLAS_TOKEN", "DNNL_KEY", "SLURM_JOB_USER", "HOSTNAME", "USER",
    "LOGNAME", "PWD", "SSH_CONNECTION", "ISOSCALE_TOKEN",
)  # fmt: skip
"""Variables that no run records."""
ODD = {
    # Variables that a run records, with values that they should not have.
    "JAX_COMPILATION_CACHE_DIR": f"/opt/{CANARY}/cache",
    "LIBTPU_INIT_ARGS": f"--token={KEY}",
    "CUBLAS_WORKSPACE_CONFIG": KEY,
    "GLIBC_TUNABLES": f"glibc.malloc.check={KEY}",
    "NCCL_IB_TIMEOUT": f"{CANARY}0",
    "NCCL_DEBUG": f"https://me:{CANARY}@host",
    "ONEDNN_VERBOSE": f"{CANARY}1",
    "TF_GPU_ALLOCATOR": KEY,
    "PYTORCH_CUDA_ALLOC_CONF": "",
    "LD_PRELOAD": "{folder}/libnothing.so",
}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Returns a folder with a canary in its path, and a home, an interpreter and flags inside."""
    folder = tmp_path / f"{CANARY}-folder"
    (folder / "home").mkdir(parents=True)
    (folder / "venv/bin").mkdir(parents=True)
    (folder / "venv/bin/python").symlink_to(sys.executable)
    (folder / "venv/lib").symlink_to(Path(sys.prefix) / "lib")
    (folder / "venv/pyvenv.cfg").write_text((Path(sys.prefix) / "pyvenv.cfg").read_text())
    (folder / "flags").write_text("--models=mlp_digits\n--steps=20\n")
    return folder


def variables(folder: Path, *, besides: tuple[str, ...] = ()) -> dict[str, str]:
    """Returns environment variables with canaries."""
    odd = {name: value.format(folder=folder) for name, value in ODD.items() if name not in besides}
    strangers = {name: f"{CANARY}-{name}" for name in STRANGERS}
    return {**strangers, **odd, "HOME": str(folder / "home")}


def contents(path: Path) -> Iterator[bytes]:
    """Yields the bytes of a file, and what is compressed inside."""
    data = path.read_bytes()
    yield data
    if data.startswith(b"\x1f\x8b"):
        yield gzip.decompress(data)
    place = data.find(b"zTXt")
    while data.startswith(b"\x89PNG") and place >= 0:
        yield zlib.decompress(data[data.index(b"\0", place + 4) + 2 :])
        place = data.find(b"zTXt", place + 1)


def check_no_canary(folder: Path) -> int:
    """Checks that no name and no content below a folder has a canary; returns the files' number."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    found = [path for path in folder.rglob("*") if CANARY in path.name]
    for path in files:
        for data in contents(path):
            places = [place.decode(errors="replace") for place in data.splitlines()
                      if CANARY.encode() in place]  # fmt: skip
            found += [(path.relative_to(folder), places[:2])] if places else []  # type: ignore[list-item]
    assert not found, found
    return len(files)


def run(folder: Path, module: str, *arguments: str, **more: str) -> tuple[int, str]:
    with start(folder, module, *arguments, **more) as program:
        out, err = program.communicate(timeout=240)
    return program.returncode, out + err


@pytest.mark.parametrize(
    "frameworks, more",
    [
        ("torch", ("--strategies=bare",)),
        pytest.param("torch,jax,tensorflow", ("--tuning=stock,tuned",), marks=pytest.mark.long),
    ],
)
def test_a_study_holds_no_canary_of_its_user(
    frameworks: str, more: tuple[str, ...], secret: Path
) -> None:
    flags = (
        f"--flagfile={secret / 'flags'}", f"--out_dir={secret / 'out'}", "--study=s", "--runs=1",
        f"--frameworks={frameworks}", "--devices=2", "--allow_oversubscription", "--nobase_cases",
    )  # fmt: skip
    python = f"--python_torch={secret / 'venv/bin/python'}"
    code, said = run(secret, MAIN, "compare", *flags, python, *more, **variables(secret))
    assert code == 0, said
    assert check_no_canary(secret / "out/s") > 15
    assert list((secret / "out/s").rglob("*tfevents*"))


FAILS = """
import os, sys, warnings
from isoscale.frameworks.torch_runner.strategies import bare
INFO = {{
    "summary": "fails",
    "process_model": "single",
    "max_devices": 2,
    "mesh_axes": ("data",),
}}

class Strategy(bare.Strategy):
    def __init__(self, config):
        super().__init__(config)
        warnings.warn("a warning names the file that it comes from")
        print(sys.executable, sys.prefix, os.path.expanduser("~"), os.environ["CUDA_HOME"])
        {action}

make = Strategy
"""


@pytest.mark.long
def test_the_log_and_the_error_of_a_failed_run_hold_no_canary(secret: Path) -> None:
    code = copy_of_the_code(secret / "checkout")
    actions = {
        "raises": "open(os.path.join(sys.prefix, 'missing'))",
        "leaves": "print(os.environ['CUDA_HOME'], sys.prefix, flush=True); os._exit(7)",
    }
    for name, action in actions.items():
        path = code / f"frameworks/torch_runner/strategies/{name}.py"
        path.write_text(FAILS.format(action=action))
    faults = {
        **environment_of(code),
        **variables(secret),
        "CUDA_HOME": f"{secret}/cuda",
    }
    status, said = run(
        secret, MAIN, "compare", f"--flagfile={secret / 'flags'}", f"--out_dir={secret / 'out'}",
        "--study=s", "--runs=1", "--frameworks=torch", "--strategies=raises,leaves", "--devices=1",
        f"--python_torch={secret / 'venv/bin/python'}", **faults,
    )  # fmt: skip
    assert status == 1, said
    check_no_canary(secret / "out/s")
    text = (secret / "out/s/results.jsonl").read_text()
    assert "No such file or directory: 'python/missing'" in text
    assert "exited with code 7" in text
    logs = [path.read_text() for path in (secret / "out/s").rglob("log.txt")]
    assert any(
        'File "isoscale/frameworks/torch_runner/strategies/raises.py"' in log for log in logs
    )


@pytest.mark.long
def test_a_run_by_hand_and_its_checkpoint_hold_no_canary(secret: Path) -> None:
    program = ("isoscale.frameworks.torch_runner", "--model=mlp_digits")
    first = (*program, "--steps=20", f"--run_dir={secret / 'first'}")
    code, said = run(secret, *first, f"--save_checkpoint={secret / 'ckpt'}", **variables(secret))
    assert code == 0, said
    again = (*program, "--steps=40", f"--run_dir={secret / 'second'}")
    code, said = run(secret, *again, f"--resume_from={secret / 'ckpt'}", **variables(secret))
    assert code == 0, said
    assert f"results in  {secret / 'second'}" in said, "the user sees the whole path"
    for name in ("first", "second", "ckpt"):
        check_no_canary(secret / name)


@pytest.mark.long
def test_parity_holds_no_canary_of_variables_and_interpreters(secret: Path, tmp_path: Path) -> None:
    """Its documents name their own folder, and its logs are as the processes wrote them: what
    ``ld.so`` says about a missing library stays there.
    """
    plain = tmp_path / "plain"
    plain.mkdir()
    code, said = run(
        plain, MAIN, "parity", "--models=mlp_digits", "--frameworks=torch", "--devices=1",
        "--steps=2", f"--python_torch={secret / 'venv/bin/python'}", "--out_dir=p",
        **variables(secret, besides=("LD_PRELOAD",)),
    )  # fmt: skip
    assert code in (0, 1), said
    check_no_canary(plain)
