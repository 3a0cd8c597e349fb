"""Foreign processes on the same machine can neither join a run nor execute code in it."""

import ast
import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from isoscale.common.processes import launch, ranks
from isoscale.common.processes.supervise import supervise
from tests.common.processes.workers import limits
from tests.conftest import ROOT, environment_of
from tests.faults.listeners import Listeners

TORCH = "isoscale.frameworks.torch_runner"
UNPICKLERS = {
    "all_gather_object", "gather_object", "broadcast_object_list", "scatter_object_list",
    "send_object_list", "recv_object_list", "pickle", "cPickle", "dill", "cloudpickle", "shelve",
    "marshal", "joblib",
}  # fmt: skip


def _names(tree: ast.AST) -> set[str]:
    """Returns every imported, read or called name of a file."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            words = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
            found |= {part for word in words for part in word.split(".")}
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Name):
            found.add(node.id)
    return found


@pytest.mark.parametrize("top", ["common", "models", "frameworks"])
def test_no_file_uses_a_function_that_unpickles(top: str) -> None:
    for path in sorted((ROOT / top).rglob("*.py")):
        tree = ast.parse(path.read_text())
        assert not _names(tree) & UNPICKLERS, path
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword):
                assert node.arg not in ("allow_pickle", "weights_only"), path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in {("torch", "load"), ("np", "load")}, path


EXCHANGE = """
import numpy as np, torch
from isoscale.common.processes import launch
launch.die_with_launcher()
from isoscale.common.program.main import define_flags, read_config
from isoscale.frameworks.torch_runner.strategies import ddp
flags = define_flags("torch")
words = ["--model=mlp_digits", "--strategy=ddp", "--devices=2", "--allow_oversubscription"]
flags.parse(words)
strategy = ddp.make(read_config(flags, "torch")[0])
rank = strategy.rank
assert strategy.gather({"rank": rank, "text": "x" * (1 + 1000 * rank), "none": None}) == [
    {"rank": r, "text": "x" * (1 + 1000 * r), "none": None} for r in range(2)
]
assert strategy.gather(0.1 + rank) == [0.1, 1.1]
try:
    strategy.gather(object())
except TypeError:
    pass
else:
    raise SystemExit("an object crossed")
shares = {
    "float64": np.array([[0.5, np.nan], [np.inf, -0.0]]) + rank,
    "scalar": np.array(1e-300 * (rank + 1)),
    "empty": np.zeros((0, 3), np.float32),
}
for r, found in enumerate(strategy.read_shares(shares)):
    for name, own in shares.items():
        expected = (own - rank + r if name == "float64" else own / (rank + 1) * (r + 1)) / 2
        assert found[name].dtype == own.dtype, name
        np.testing.assert_array_equal(found[name], expected)
totals = strategy.read_totals(torch.tensor([[1.5, float("nan")], [float(rank), 2.0]]))
np.testing.assert_array_equal(totals, [[3.0, np.nan], [1.0, 4.0]])
rows = strategy.read_rows(torch.full((2, 1), float(rank)))
np.testing.assert_array_equal(rows.ravel(), [0, 0, 1, 1])
strategy.close()
import os
os._exit(0)
"""


@pytest.mark.slow
def test_ranks_exchange_json_and_arrays_unchanged(tmp_path: Path) -> None:
    with ranks.environments(2, folder=tmp_path) as environments:
        processes = [
            launch.start(
                [sys.executable, "-c", EXCHANGE],
                environment={**os.environ, **own},
                log=tmp_path / "log",
            )
            for own in environments
        ]
        outcome = supervise(processes, run_dir=tmp_path, limits=limits(60))
    assert outcome.ok, (tmp_path / "log").read_text()


def _random(found: socket.socket) -> None:
    found.sendall(os.urandom(4096))


def _taken_rank(found: socket.socket) -> None:
    """Claims the place of a peer: gloo numbers the connections of a process from 0."""
    found.sendall(bytes(8))


def _some_sequence(found: socket.socket) -> None:
    found.sendall(random.randrange(2**63).to_bytes(8, "little") + os.urandom(100))


def _half_open(found: socket.socket) -> None:
    """Sends nothing."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "attack, count",
    [
        (_random, 1),
        pytest.param(_some_sequence, 20, marks=pytest.mark.long),
        (_taken_rank, 1),
        pytest.param(_half_open, 1, marks=pytest.mark.long),
        pytest.param(_half_open, 200, marks=pytest.mark.long),
    ],
)
def test_a_run_continues_or_ends_with_a_clear_line_under_foreign_connections(
    attack: Callable[[socket.socket], None], count: int, tmp_path: Path
) -> None:
    with (
        subprocess.Popen(
            [sys.executable, "-P", "-m", TORCH, "--model=mlp_digits", "--strategy=ddp",
             "--devices=2", "--steps=500", "--run_dir=r", "--watchdog_seconds=10",
             "--allow_oversubscription"],
            cwd=tmp_path, env=environment_of(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        ) as program,
        contextlib.ExitStack() as held,
        Listeners() as listeners,
    ):  # fmt: skip
        attacked: set[tuple[str, int]] = set()
        end = time.monotonic() + 60
        while program.poll() is None and time.monotonic() < end:
            for address in sorted(listeners.addresses - attacked):
                attacked.add(address)
                for _ in range(count):
                    with contextlib.suppress(OSError):
                        attack(held.enter_context(socket.create_connection(address, timeout=1)))
            time.sleep(0.002)
        assert program.poll() is not None, "the run hangs"
        said, error = program.communicate()
    assert attacked, "nothing was attacked"
    assert not listeners.outside_loopback()
    if program.returncode == 0:
        assert "results in  r" in said
    else:
        lines = [line for line in error.splitlines() if line.startswith("isoscale: ")]
        assert lines[-1].startswith("isoscale: killed by the watchdog: no progress for 10 s"), error
    assert not [p for p in psutil.Process().children(recursive=True) if "python" in p.name()]
    assert not list((tmp_path / "r").glob(f"{ranks.FOLDER}*"))


def test_listeners_reports_a_socket_on_all_interfaces() -> None:
    code = "import socket; s = socket.create_server(('0.0.0.0', 0)); input()"
    pipe = subprocess.PIPE
    with (
        subprocess.Popen([sys.executable, "-c", code], stdin=pipe) as program,
        Listeners() as listeners,
    ):
        end = time.monotonic() + 20
        while not listeners.addresses and time.monotonic() < end:
            time.sleep(0.02)
        assert [ip for ip, _ in listeners.outside_loopback()] == ["0.0.0.0"]
        program.communicate(b"\n")
