"""Files of a study that are damaged, or that somebody else wrote: one line, no traceback."""

import json
import os
import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.commands.main import main
from tests.common.report.fake_study import grid_lines, write_study

CONFIG = {
    "steps": 5,
    "warmup_steps": 5,
    "window_steps": 5,
    "latency_steps": 0,
    "max_in_flight": 2,
    "tweaks_left_out": [["xla", "missing"]],
}
RUN_FILES = ("steps.jsonl", "windows.jsonl", "config.json", "machine.json")


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(4 * 2**30)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _outside(path: Path) -> None:
    path.symlink_to("/etc/hostname")


KINDS = (_sparse, _fifo, _folder, _loop, _zero, _outside)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "s"
    write_study(folder, grid_lines(runs=1, devices=(1,)), steps=5)
    for run_dir in folder.glob("cells/*/run_0"):
        (run_dir / "config.json").write_text(json.dumps(CONFIG))
        (run_dir / "machine.json").write_text(json.dumps({"framework": {"threads": 1}}))
    return folder


@pytest.fixture
def study(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "out/s"))


def run(study: Path, command: str, capsys: Any) -> tuple[int, str]:
    """Runs a command on the study in this process; returns its exit code and standard error."""
    name = ["--study=s", "--resume", "--dry_run"] if command == "compare" else ["s"]
    if command == "diff":
        name.append("--cells=jax-bare,torch-bare")
    code = main([command, *name, f"--out_dir={study.parent}"])
    return code, capsys.readouterr().err


@pytest.mark.parametrize("command", ["report", "compare", "diff", "repair"])
@pytest.mark.parametrize("name", ["results.jsonl", "study.json"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_a_study_that_is_no_regular_file_is_refused_in_one_line(
    kind: Callable[[Path], None], name: str, command: str, study: Path, capsys: Any
) -> None:
    (study / name).unlink()
    kind(study / name)
    code, said = run(study, command, capsys)
    assert code in (2, 3), said
    assert said.startswith("isoscale: ")
    assert len(said.splitlines()) == 1, said


@pytest.mark.parametrize("name", RUN_FILES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_a_run_that_is_no_regular_file_costs_no_report(
    kind: Callable[[Path], None], name: str, study: Path, capsys: Any
) -> None:
    path = next(iter(sorted(study.glob("cells/*/run_0")))) / name
    path.unlink()
    kind(path)
    code, said = run(study, "report", capsys)
    assert code == 0, said
    assert (study / "report.html").exists()
    assert "Traceback" not in said


@pytest.mark.parametrize("place", ["s", "cells", "cells/*", "cells/*/run_0"])
def test_a_folder_that_is_a_link_out_of_the_study_is_not_used(
    place: str, study: Path, tmp_path: Path, capsys: Any
) -> None:
    path = study if place == "s" else next(iter(sorted(study.glob(place))))
    moved = path.rename(tmp_path / "elsewhere")
    path.symlink_to(moved)
    before = {p: p.stat().st_mtime_ns for p in moved.rglob("*")}
    for command in ("report", "compare", "diff", "repair"):
        code, said = run(study, command, capsys)
        assert "Traceback" not in said
        assert code == (3 if place in ("s", "cells") else 0), said
    assert {p: p.stat().st_mtime_ns for p in moved.rglob("*")} == before


def _corrupted(content: bytes, rng: random.Random) -> bytes:
    """Returns the content with one fault of a random kind."""
    text = content.decode()
    place = rng.randrange(len(content))
    digits = [i for i, c in enumerate(text) if c.isdigit()]
    words = [i for i, c in enumerate(text) if c == '"']
    number, quote = rng.choice(digits), rng.choice(words)
    return rng.choice(
        [
            lambda: content[:place],
            lambda: content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :],
            lambda: content[:place] + b"\xff\xfe" + content[place:],
            lambda: content[:place] + content[place + rng.randrange(1, 50) :],
            lambda: (text[:number] + "9" * 400 + text[number:]).encode(),
            lambda: (text[:number] + "1e400" + text[number + 1 :]).encode(),
            lambda: (text[:quote] + '"\\ud800' + text[quote + 1 :]).encode(),
            lambda: (text[:number] + "[" * 100_000 + text[number:]).encode(),
            lambda: (text[:number] + "null" + text[number + 1 :]).encode(),
            lambda: (text[:number] + '"x"' + text[number + 1 :]).encode(),
            lambda: (text[:quote] + "{}" + text[quote:]).encode(),
            lambda: b"",
            lambda: b"\0" * 1000,
            lambda: b"[]",
            lambda: b"null\n",
        ]
    )()


@pytest.mark.parametrize(
    "seed", [*range(12), *(pytest.param(s, marks=pytest.mark.long) for s in range(12, 312))]
)
def test_a_corrupted_file_gives_one_line_and_no_traceback(
    seed: int, study: Path, capsys: Any
) -> None:
    rng = random.Random(seed)
    names = ["results.jsonl", "study.json", *(f"cells/*/run_0/{name}" for name in RUN_FILES)]
    path = rng.choice(sorted(study.glob(rng.choice(names))))
    path.write_bytes(_corrupted(path.read_bytes(), rng))
    threads = threading.active_count()
    for command in ("report", "compare", "diff", "repair"):
        code, said = run(study, command, capsys)
        assert code in (0, 2, 3), said
        assert "Traceback" not in said
        assert all(line.startswith(("isoscale: ", "Writing")) for line in said.splitlines()), said
        assert len(said) < 3000, said
    assert threading.active_count() == threads
    for line in (study / "results.jsonl").read_bytes().splitlines():
        if path.name == "results.jsonl" and code == 0:
            json.loads(line)


@pytest.mark.parametrize("more", [(), ("--env=TF_X=2",)])
@pytest.mark.parametrize("dry_run", [True, False])
def test_no_variable_that_only_a_study_names_reaches_a_run(
    more: tuple[str, ...], dry_run: bool, study: Path, capsys: Any
) -> None:
    """LD_PRELOAD, for example, would start code that the author of the study chose."""
    record = json.loads((study / "study.json").read_text())
    record["sessions"][0]["flags"] = ["--models=mlp_digits", "--env=LD_PRELOAD=/x.so"]
    (study / "study.json").write_text(json.dumps(record))
    flags = ["--study=s", "--resume", f"--out_dir={study.parent}", *more]
    code = main(["compare", *flags, *(["--dry_run"] if dry_run else [])])
    said = capsys.readouterr().err
    assert code == 2, said
    assert "was run with '--env=LD_PRELOAD=/x.so'; to resume it, add this flag" in said
    # Given again, the flag is the user's own.
    mine = ["--models=mlp_digits", "--env=LD_PRELOAD=/bin/sh"]
    record["sessions"][0]["flags"] = mine
    (study / "study.json").write_text(json.dumps(record))
    again = ["compare", *flags[:3], mine[1], "--dry_run", "--noreport"]
    code = main(again)
    assert code == 0, capsys.readouterr().err


def test_compare_names_the_variables_that_runs_do_not_get(run_program) -> None:
    answer = run_program(
        "isoscale.common.commands.main", "compare", "--models=mlp_digits", "--dry_run",
        JAX_DISABLE_JIT="1", GOMP_CPU_AFFINITY="0",
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == (
        "isoscale: runs do not get these variables of this shell: GOMP_CPU_AFFINITY, "
        "JAX_DISABLE_JIT (--env=NAME=VALUE hands a variable on and makes it part of the cell)\n"
    )
