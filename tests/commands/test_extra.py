"""A user's own folder: models, data sets and strategies outside the package."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from isoscale.common.report.study.data import load_study
from isoscale.common.study.store import Store
from tests.conftest import environment_of

MAIN = "isoscale.common.commands.start"
Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with the model that ``isoscale new model my_net`` writes."""
    folder = tmp_path_factory.mktemp("own") / "mine"
    subprocess.run(
        [sys.executable, "-P", "-m", MAIN, "new", "model", "my_net", f"--extra={folder}"],
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture
def own(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "mine"))


def refused(answer: subprocess.CompletedProcess) -> str:
    """Returns the one line of a refused command."""
    assert answer.returncode == 2, answer.stdout + answer.stderr
    (line,) = answer.stderr.splitlines()
    return line


@pytest.mark.slow
def test_a_new_model_computes_the_same_in_all_frameworks(own: Path, run_program: Run) -> None:
    answer = run_program(
        MAIN, "parity", "--models=my_net_tiny", "--dtype=float64", "--devices=1,2", "--steps=3",
        "--nopieces", f"--extra={own}",
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout + answer.stderr
    for name in ("jax - NumPy", "tensorflow - NumPy", "torch - NumPy"):
        assert name in answer.stdout


@pytest.mark.slow
def test_a_model_of_one_framework_is_compared_and_resumed(own: Path, run_program: Run) -> None:
    """Without NumPy reference, with own data and an own strategy; the folder by a variable."""
    family = own / "models/my_net"
    for name in ("flax_model.py", "tf_model.py"):
        (family / name).unlink()
    spec = (family / "spec.py").read_text()
    start, end = spec.index("    # Optional: without"), spec.index("def _dense")
    (family / "spec.py").write_text(spec[:start] + "\n\n" + spec[end:])
    (own / "data").mkdir()
    (own / "data/mine.py").write_text(
        '"""Batches of ours."""\nfrom isoscale.common.data.sources.synthetic import check, load\n'
    )
    (own / "strategies/torch").mkdir(parents=True)
    (own / "strategies/torch/again.py").write_text(
        "from isoscale.frameworks.torch_runner.strategies import ddp\n"
        'INFO = {"summary": "ddp again", "process_model": "per_device", "max_devices": 2,\n'
        '        "mesh_axes": ("data",)}\n'
        "make = ddp.make\n"
    )
    named = {"ISOSCALE_EXTRA": str(own)}
    answer = run_program(MAIN, "list", "models", "--json", f"--extra={own}")
    assert answer.returncode == 0, answer.stderr
    (small, _) = (m for m in json.loads(answer.stdout) if m["family"] == "my_net")
    assert small["frameworks"] == ["torch"]
    answer = run_program(
        MAIN, "compare", "--models=my_net_small", "--devices=1,2", "--runs=1", "--steps=10",
        "--strategies=bare,again", "--dataset=mine", "--study=s", "--allow_oversubscription",
        "--nobase_cases",
        "--width=32", **named,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout + answer.stderr
    study = own.parent / "runs/out/s"
    lines = [json.loads(text) for text in (study / "results.jsonl").read_text().splitlines()]
    assert {line["cell"]["framework"] for line in lines} == {"torch"}
    assert [line["status"] for line in lines] == ["ok"] * 3
    for line in lines:
        digests = {name for name in line["versions"] if name.startswith("extra ")}
        strategy = {"extra strategy again"} if line["cell"]["strategy"] == "again" else set()
        assert digests == {"extra model my_net", "extra data mine"} | strategy
    assert (study / "report.html").exists()
    # Runs on 1 and on 2 devices are pinned to other numbers of cores of the same machine.
    assert len({json.dumps(line["machine"]) for line in lines}) == 1
    for path in study.rglob("*"):
        if path.is_file():
            assert str(own).encode() not in path.read_bytes(), path
    # Nothing that only the study names is imported.
    resume = (MAIN, "compare", "--study=s", "--resume", "--runs=2", "--noreport")
    assert "to resume it, add --extra=FOLDER" in refused(run_program(*resume))
    # Another version of the model: its runs would mix with the finished ones.
    before = (family / "torch_model.py").read_text()
    (family / "torch_model.py").write_text(before.replace("functional.relu", "torch.tanh"))
    index = (study / "results.jsonl").read_bytes()
    for more in ((), ("--dry_run",)):
        line = refused(run_program(*resume, f"--extra={own}", *more))
        assert (
            "study 's' has finished runs with other files of 'extra model my_net' (digest" in line
        )
        assert line.endswith("or measure the changed ones in a new --study")
    assert (study / "results.jsonl").read_bytes() == index
    # Without a run to do, nothing mixes.
    answer = run_program(MAIN, "compare", "--study=s", "--resume", "--noreport", f"--extra={own}")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (family / "torch_model.py").write_text(before)
    answer = run_program(*resume, f"--extra={own}")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    summaries = load_study(Store(study)).summaries
    assert [len(summary.ok) for summary in summaries] == [2, 2, 2]
    assert not any(summary.mixed for summary in summaries)
    answer = run_program(
        MAIN, "parity", "--models=my_net_tiny", "--dtype=float64", "--devices=1", "--steps=2",
        "--nopieces", f"--extra={own}",
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout + answer.stderr
    said = "'my_net' has no reference_forward: its logits and losses are not compared with NumPy"
    assert said in answer.stderr
    comparisons = json.loads((own.parent / "runs/out/parity/parity.json").read_text())["runs"]
    kinds = {f["kind"] for run in comparisons for c in run["comparisons"] for f in c["figures"]}
    assert not any(kind.startswith("logits") for kind in kinds)
    assert any(kind.startswith("update of parameters") for kind in kinds)


def _edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(own: Path) -> None:
        path = own / "models/my_net" / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return edit


def _write(name: str, text: str) -> Callable[[Path], None]:
    def write(own: Path) -> None:
        path = own / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return write


WRONG = [
    (_edit("spec.py", "FAMILY = ", "FAMILIES = "), "spec.py lacks FAMILY: FAMILY = Family("),
    (_edit("spec.py", "def parameters", "def parameter"), "lacks the function parameters()"),
    (_edit("spec.py", "def forward_flops", "def flops"), "lacks the function forward_flops()"),
    (_edit("spec.py", "import numpy", "import no_such_package, numpy"),
     "spec.py cannot be imported: ModuleNotFoundError: No module named 'no_such_package'"),
    (_edit("spec.py", "import numpy", "import torch.nn, numpy"), "spec.py imports torch.nn (line "),
    (_edit("spec.py", "    def forward_flops", "    from jax import numpy\n    def forward_flops"),
     "spec.py imports jax (line "),
    (_edit("spec.py", "import num", "from isoscale.models.layers import torch_layers\nimport num"),
     "spec.py imports torch (through another module); only a framework's own model file or "),
    (_edit("torch_model.py", "import torch", "import torch, tensorflow"),
     "torch_model.py imports tensorflow (line "),
    (_write("data/mine.py", "def check(): pass\ndef load():\n import torch"),
     "mine.py imports torch (line 3)"),
    (_write("strategies/torch/mine.py", "import jax"), "mine.py imports jax (line 1)"),
    (_edit("spec.py", "def batch_kind(self)", "def batch_kind(self"), "cannot be read: line "),
    (_edit("spec.py", '_dense("output"', '_dense("hidden"'), "has hidden/kernel twice"),
    (_edit("spec.py", '"my_net_tiny"', '"my_net"'), "no size may have the name of the family"),
    (_edit("torch_model.py", "def build(", "def builds("),
     "torch_model.py lacks build: def build(spec, *, dtype, param_dtype, tweaks)"),
    (_write("models/mlp/spec.py", ""), "isoscale has a model family 'mlp'; choose another name"),
    (_write("models/my-net2/spec.py", ""), "'my-net2' must be letters, digits and underscores"),
    (_write("data/mine.py", "def check(spec, *, global_batch_size): pass"),
     "mine.py lacks load: def load(spec, *, global_batch_size, pool, seed, dtype)"),
    (_write("strategies/torch/mine.py", "make = 1"), "mine.py lacks INFO: a literal INFO"),
    (_write("strategies/torch/mine.py", "INFO = {'summary': 's'}\nmake = 1"), "INFO is wrong: "),
]  # fmt: skip


@pytest.mark.parametrize("damage, part", WRONG)
def test_wrong_and_missing_parts_are_named_in_one_line(
    damage: Callable[[Path], None], part: str, own: Path, run_program: Run
) -> None:
    damage(own)
    more = ["--dataset=mine"] if (own / "data").exists() else []
    answer = run_program(
        MAIN, "compare", "--models=my_net_small", "--frameworks=torch", "--dry_run", *more,
        f"--extra={own}",
    )  # fmt: skip
    assert part in refused(answer)


def test_a_folder_that_nobody_names_is_not_imported(own: Path, run_program: Run) -> None:
    """Not from the working folder, and not because a flag file names it."""
    trap = own / "models/my_net/spec.py"
    trap.write_text("raise SystemExit('executed')")
    line = refused(run_program(MAIN, "compare", "--models=my_net_small", "--dry_run"))
    assert "unknown model 'my_net_small'" in line
    flags = own / "flags"
    flags.write_text(f"--extra={own}\n--models=my_net_small\n")
    line = refused(run_program(MAIN, "compare", f"--flagfile={flags}", "--dry_run"))
    assert line == "isoscale: --extra must be on the command line, not in a file"


@pytest.mark.parametrize(
    "words, part",
    [
        (["new"], "type 'isoscale new model NAME'"),
        (["new", "modell", "x"], "did you mean 'model'?"),
        (["new", "model", "My-Net"], "cannot be the name of a model"),
        (["new", "model", "class"], "cannot be the name of a model"),
        (["new", "model", "mlp"], "there is a model family 'mlp'"),
        (["new", "model", "my_net"], "there is a model family 'my_net'"),
        (["new", "model", "x", "--frameworks=pytorch"], "unknown framework 'pytorch'"),
        (["compare", "--dry_run", "--extra=/no/such"], "--extra=/no/such is not a folder"),
        (["compare", "--dry_run", "--extra=/dev"], "has none of the folders models, data"),
    ],
)
def test_bad_input_of_new_and_extra(
    words: list[str], part: str, own: Path, run_program: Run
) -> None:
    named = (
        {} if any(word.startswith("--extra") for word in words) else {"ISOSCALE_EXTRA": str(own)}
    )
    before = sorted(path for path in own.rglob("*") if "__pycache__" not in path.parts)
    assert part in refused(run_program(MAIN, *words, **named))
    assert sorted(path for path in own.rglob("*") if "__pycache__" not in path.parts) == before


def test_new_without_a_folder_says_which_flag_is_missing(run_program: Run) -> None:
    assert os.environ.get("ISOSCALE_EXTRA") is None
    line = refused(run_program(MAIN, "new", "model", "my_net"))
    assert "--extra=FOLDER is required" in line


MODULE = """
import torch
from isoscale.models.layers.torch_layers import Dense
from torch import nn
from torch.nn import functional


class Net(nn.Module):
    def __init__(self, spec, dtype, tweaks):
        super().__init__()
        self.dtype = dtype
        self.hidden = Dense(spec.input_size, spec.width, tweaks=tweaks)
        self.output = Dense(spec.width, spec.num_classes, tweaks=tweaks)
        {also}

    def forward(self, x, *, dropout=None):
        return {returns}


def build(spec, *, dtype, param_dtype, tweaks):
    return Net(spec, dtype, tweaks).to(param_dtype)
"""
RIGHT = "self.output(functional.relu(self.hidden(x.to(self.dtype))))"
WRONG_MODULES = [
    ("self.register_buffer('window', torch.ones(3))", RIGHT, "the PyTorch module has the buffer w"),
    ("self.norm = nn.BatchNorm1d(3, affine=False)", RIGHT, "has the buffer norm.running_mean"),
    ("self.drop = nn.Dropout(0.5)", RIGHT, "Dropout in drop drops with rate 0.5"),
    ("self.rnn = nn.LSTM(3, 3, 2, dropout=0.1)", RIGHT, "LSTM in rnn drops with rate 0.1"),
    ("self.more = nn.Linear(3, 3)", RIGHT, "the spec lacks more/weight; the spec lacks more/bias"),
    ("self.output = Dense(spec.width, 7, tweaks=tweaks)", RIGHT,
     "output/kernel has shape (128, 7), but (128, 10) in the spec"),
    ("self.output = nn.Identity()", RIGHT, "it has no output/kernel; it has no output/bias"),
    ("pass", f"functional.pad({RIGHT}, (0, 1))", "the model returns 11 logits for each label"),
    ("pass", "self.output(functional.relu(self.hidden(x.float())))",
     "the model returns float32 logits in a run with dtype=bfloat16"),
]  # fmt: skip


@pytest.mark.slow
def test_modules_that_would_train_something_else_are_refused(own: Path, run_program: Run) -> None:
    """Each would run to its end: with undefined values, without dropout, or in another dtype."""
    code = (
        "import contextlib, io, sys\n"
        "from pathlib import Path\n"
        "from isoscale.common.program.main import read_config, define_flags\n"
        "from isoscale.common.registry import extra, lookup\n"
        "argv = ['--model=my_net_small', f'--extra={sys.argv[1]}', '--dtype=bfloat16']\n"
        "extra.take(argv)\n"
        "fv = define_flags('torch'); fv.parse(argv)\n"
        "config, _ = read_config(fv, 'torch')\n"
        "import torch\n"
        "from isoscale.frameworks.torch_runner.runner import RUNNER\n"
        "from isoscale.frameworks.torch_runner.strategies.bare import make\n"
        "batch = lookup.load_dataset(config).batches[0]\n"
        "for path in sorted(Path(sys.argv[2]).glob('*.py')):\n"
        "    names = {}\n"
        "    exec(path.read_text(), names)\n"
        "    try:\n"
        "        runner = RUNNER(config, build_model=names['build'], make_strategy=make)\n"
        "        runner.step(runner.place(batch))\n"
        "        print(path.stem, 'accepted')\n"
        "    except ValueError as error:\n"
        "        print(path.stem, error)\n"
    )
    folder = own.parent / "modules"
    folder.mkdir()
    cases = [("pass", RIGHT, "accepted"), *WRONG_MODULES]
    for index, (also, returns, _) in enumerate(cases):
        (folder / f"{index:02}.py").write_text(MODULE.format(also=also, returns=returns))
    answer = subprocess.run(
        [sys.executable, "-P", "-c", code, str(own), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env=environment_of(),
    )
    lines = answer.stdout.splitlines()
    assert len(lines) == len(cases), answer.stdout + answer.stderr
    for line, (_, _, part) in zip(lines, cases, strict=True):
        assert part in line, line
