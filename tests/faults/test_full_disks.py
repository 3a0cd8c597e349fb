"""Full, read-only and failing disks, and folders that vanish: one line, and nothing is lost."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from isoscale.common.study.store import RESULTS
from tests.conftest import ROOT, environment_of
from tests.faults import oracle
from tests.faults.disks import CAUSES, Disk, disk, handed, shim, start
from tests.faults.oracle import Ended, ended
from tests.faults.quick_program import interpreter

__all__ = ["disk", "shim"]  # fixtures
pytestmark = pytest.mark.slow

MAIN, QUICK = "isoscale.common.commands.main", "tests.faults.quick_program"
GRID = (
    "--models=mlp_digits", "--frameworks=torch", "--strategies=bare", "--devices=1", "--runs=2",
    "--global_batch_size=32,64", "--steps=20", "--noreport",
)  # fmt: skip
STRUCK = "*-b32-*/run_1"
"""Pattern of the run folder that a fault strikes; the study has three other runs."""


def isoscale(folder: Path, *arguments: str, module: str = MAIN, **variables: str) -> Ended:
    with start(folder, module, *arguments, **variables) as program:
        out, err = program.communicate(timeout=120)
    return Ended(code=program.returncode, out=out, err=err)


def compare(folder: Path, *more: str, **variables: str) -> Ended:
    return isoscale(folder, "compare", *GRID, *more, interpreter(folder), **variables)


def resume(folder: Path, *more: str, **variables: str) -> Ended:
    words = ("compare", "--study=s", "--resume", "--noreport", interpreter(folder))
    return isoscale(folder, *words, *more, **variables)


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns an unfaulted study of two cells with two runs each."""
    folder = tmp_path_factory.mktemp("control")
    oracle.check_said(compare(folder, "--study=s"), code=0, words=())
    return folder / "runs/out/s"


@pytest.fixture
def study(control: Path, tmp_path: Path) -> Path:
    """Returns a copy of the unfaulted study."""
    return Path(shutil.copytree(control, tmp_path / "runs/out/s"))


def check_resumable(folder: Path, control: Path, *more: str) -> None:
    """Checks that a study goes on without its fault: nothing lost, nothing repeated."""
    found = folder / "runs/out/s"
    oracle.check_no_process(folder)
    kept, whole = oracle.successful(found), oracle.whole_runs(found)
    oracle.check_said(resume(folder, *more), code=0, words=(), folders=[found])
    oracle.check_kept(kept, found)
    oracle.check_not_repeated(whole)
    oracle.check_no_leftovers(found)
    oracle.check_as_control(found, control)


def long(*values: object) -> object:
    return pytest.param(*values, marks=pytest.mark.long)


@pytest.mark.parametrize(
    "name, error",
    [
        ("/*steps.jsonl*", "ENOSPC"),
        ("*", "ENOSPC"),  # also log.txt, and the failed run's own result
        long("*", "EDQUOT"),
        long("*", "EROFS"),
        long("*", "EACCES"),
        long("*", "EIO"),
        long("*", "EFBIG"),
        *(long(f"/*{name}*", "ENOSPC") for name in ("result.json", "config.json", "machine.json")),
        *(long(f"/*{name}*", "EIO") for name in ("windows.jsonl", "result.json", "versions.json")),
        *(long(f"/*{name}*", "EACCES") for name in ("log.txt", "environment.json")),
        long("", "EROFS"),  # the folder itself
    ],
)
def test_a_run_that_cannot_write_its_files_is_a_failed_cell_and_the_study_goes_on(
    name: str, error: str, disk: Disk, control: Path, tmp_path: Path
) -> None:
    disk.fill()
    found = compare(tmp_path, "--study=s", **disk.environment(f"{STRUCK}{name}", error=error))
    folder = tmp_path / "runs/out/s"
    oracle.check_said(found, code=1, words=(), folders=[folder])
    (failed,) = [key for key, r in oracle.results(folder).items() if r["status"] != "ok"]
    result = oracle.results(folder)[failed]
    assert result["status"] == "failed"
    assert result["error"].startswith("cannot write "), result["error"]
    assert result["error"].endswith(f": {CAUSES[error]}"), result["error"]
    assert "run_1" in result["error"]
    oracle.check_as_control(folder, control, besides=[failed])
    disk.free()
    check_resumable(tmp_path, control)


@pytest.mark.parametrize(
    "name, error",
    [
        (RESULTS, "ENOSPC"),
        *(long(RESULTS, error) for error in CAUSES if error != "ENOSPC"),
        long("", "ENOSPC"),  # every file of the study
        long("", "EROFS"),
    ],
)
def test_a_study_that_cannot_write_its_results_stops_in_one_line_and_resumes(
    name: str, error: str, disk: Disk, control: Path, tmp_path: Path
) -> None:
    """The disk fills up after the first result; the results so far stay."""
    folder = tmp_path / "runs/out/s"
    faults = disk.environment(f"{folder}/*{name}*", error=error)
    arguments = ("compare", *GRID, "--study=s", interpreter(tmp_path))
    with start(tmp_path, MAIN, *arguments, QUICK_STEP_SECONDS="0.02", **faults) as program:
        _wait_for(lambda: bool(oracle.results(folder)), program)
        disk.fill()
        out, err = program.communicate(timeout=60)
    found = Ended(code=program.returncode, out=out, err=err)
    words = (f"cannot write {folder.relative_to(tmp_path)}/{RESULTS}: {CAUSES[error]}; ",
             "finished runs are kept; ", "compare --study=s --resume")  # fmt: skip
    oracle.check_said(found, code=3, words=words, folders=[folder])
    assert len(oracle.successful(folder)) >= 1
    disk.free()
    check_resumable(tmp_path, control)


def _wait_for(condition: Callable[[], bool], program: subprocess.Popen) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        assert program.poll() is None, program.communicate()
        time.sleep(0.01)


@pytest.mark.parametrize(
    "name, calls, error",
    [
        ("s/*study.json*", "", "ENOSPC"),
        long("s/.lock", "", "EROFS"),
        long("s/*", "", "ENOSPC"),
        long("s/*", "or", "EACCES"),
        long("s", "m", "EROFS"),
        long("s", "m", "ENOSPC"),
    ],
)
def test_a_new_study_on_a_full_disk_can_be_started_again_by_the_same_command(
    name: str, calls: str, error: str, disk: Disk, control: Path, tmp_path: Path
) -> None:
    disk.fill()
    faults = disk.environment(f"{tmp_path}/runs/out/{name}", error=error, calls=calls)
    found = compare(tmp_path, "--study=s", **faults)
    oracle.check_said(found, code=3, words=["runs/out/s", CAUSES[error]])
    disk.free()
    oracle.check_said(compare(tmp_path, "--study=s"), code=0, words=())
    oracle.check_as_control(tmp_path / "runs/out/s", control)


@pytest.mark.parametrize(
    "name, error",
    [
        ("*report.html*", "ENOSPC"),
        *(long(name, "ENOSPC") for name in ("*report.md*", "*results.csv*", "plots/*.png*")),
        *(long(name, "ENOSPC") for name in ("*cells.csv*", "*verdicts.json*")),
        *(long(name, "EDQUOT") for name in ("tensorboard/*tfevents*", "plots/*.drawn*")),
        *(long(name, "EROFS") for name in ("plots", "tensorboard", "plots/*.svg*")),
    ],
)
def test_a_report_that_cannot_be_written_is_one_line_and_the_results_stay(
    name: str, error: str, disk: Disk, study: Path, tmp_path: Path
) -> None:
    disk.fill()
    kept, whole = oracle.results(study), oracle.whole_runs(study)
    faults = disk.environment(f"{study}/{name}", error=error)
    found = resume(tmp_path, "--report", **faults)
    words = ["cannot make the report: cannot write ", CAUSES[error], "; the results are kept"]
    oracle.check_said(found, code=1, words=words, folders=[study])
    if "tensorboard" not in name:
        again = isoscale(tmp_path, "report", "s", **faults)
        oracle.check_said(again, code=3, words=["cannot write ", CAUSES[error]])
    disk.free()
    found = resume(tmp_path, "--report")
    assert (found.code, found.lines) == (0, [])
    oracle.check_kept(kept, study)
    oracle.check_not_repeated(whole)
    oracle.check_no_leftovers(study)
    assert (study / "report.html").exists()


@pytest.mark.parametrize("place", ["", long("cells"), "cells/*/run_0"])
def test_a_folder_that_vanishes_in_the_middle_of_a_run_does_not_come_back(
    place: str, control: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "runs/out/s"
    arguments = ("compare", *GRID, "--study=s", interpreter(tmp_path))
    with start(tmp_path, MAIN, *arguments, QUICK_STEP_SECONDS="0.03") as program:
        _wait_for(lambda: bool(list(folder.glob("cells/*/run_0/heartbeat.0"))), program)
        struck = next(iter(folder.glob(place))) if place else folder
        shutil.rmtree(struck)
        out, err = program.communicate(timeout=60)
    found = Ended(code=program.returncode, out=out, err=err)
    oracle.check_no_process(tmp_path)
    if place == "":
        words = ["study 's' has vanished: runs/out/s was removed"]
        oracle.check_said(found, code=3, words=words)
        assert not folder.exists()
        return
    oracle.check_said(found, code=1, words=(), folders=[folder])
    (failed,) = [r for r in oracle.results(folder).values() if r["status"] != "ok"]
    assert failed["error"].endswith("run_0 has vanished: it was removed while the run used it")
    check_resumable(tmp_path, control)


def test_leftovers_of_killed_processes_are_removed_and_files_of_the_user_stay(
    study: Path, tmp_path: Path
) -> None:
    run = next(iter(study.glob("cells/*/run_0")))
    (study / "plots").mkdir()
    ours = [
        study / ".writing.results.jsonl.abcd_123", study / "plots/.writing.a.png.abcd_123",
        run / ".writing.result.json.abcd_123", run / ".ranks-abcd_123",
    ]  # fmt: skip
    mine = [study / ".results.jsonl.swp", run / ".writing.notes", study / "plots/mine.png"]
    for path in (*ours[:3], *mine):
        path.touch()
    ours[3].mkdir()
    (ours[3] / "store").touch()
    oracle.check_said(isoscale(tmp_path, "repair", "s"), code=0, words=())
    assert not [path for path in ours if path.exists()]
    assert all(path.exists() for path in mine)


def test_a_new_study_that_was_killed_while_it_wrote_study_json_can_be_started_again(
    control: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "runs/out/s"
    folder.mkdir(parents=True)
    (folder / ".lock").touch()
    (folder / ".writing.study.json.abcd_123").touch()
    oracle.check_said(compare(tmp_path, "--study=s"), code=0, words=())
    oracle.check_no_leftovers(folder)
    oracle.check_as_control(folder, control)


BY_HAND = ("--model=mlp_digits", "--steps=20", "--run_dir=r")


def by_hand(folder: Path, *more: str, **variables: str) -> Ended:
    answer = subprocess.run(
        [sys.executable, "-P", "-m", QUICK, *BY_HAND, *more],
        cwd=folder,
        env=environment_of(PYTHONPATH=str(ROOT), **variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended(answer)


@pytest.mark.parametrize(
    "name, error",
    [
        ("r/*steps.jsonl*", "ENOSPC"),
        ("r/*", "ENOSPC"),
        long("r/*result.json*", "EDQUOT"),
        long("r/*", "EROFS"),
        long("r", "EROFS"),
        long("r/*", "EACCES"),
        long("r/*", "EIO"),
    ],
)
def test_a_program_by_hand_says_in_one_line_which_file_it_cannot_write(
    name: str, error: str, disk: Disk, tmp_path: Path
) -> None:
    disk.fill()
    found = by_hand(tmp_path, **disk.environment(f"{tmp_path}/{name}", error=error))
    oracle.check_said(found, code=3, words=["r", CAUSES[error]], folders=[tmp_path])
    oracle.check_no_leftovers(tmp_path)


@pytest.mark.parametrize(
    "error", ["ENOSPC", *(long(error) for error in CAUSES if error != "ENOSPC")]
)
def test_checkpoints_that_cannot_be_written_cost_no_run(
    error: str, disk: Disk, tmp_path: Path
) -> None:
    disk.fill()
    faults = disk.environment(f"{tmp_path}/saved/.writing.*", error=error)
    found = by_hand(tmp_path, "--save_checkpoint=saved", **faults)
    line = f"no checkpoint at step 30: cannot write saved/step_000000030: {CAUSES[error]}"
    oracle.check_said(found, code=1, words=[line], folders=[tmp_path])
    assert (tmp_path / "r/result.json").exists()
    oracle.check_no_leftovers(tmp_path)


@pytest.mark.long
def test_a_checkpoint_folder_that_vanishes_costs_no_run(tmp_path: Path) -> None:
    arguments = (*BY_HAND, "--save_checkpoint=saved")
    slow = {"PYTHONPATH": str(ROOT), "QUICK_STEP_SECONDS": "0.05"}
    with start(tmp_path, QUICK, *arguments, **slow) as program:
        _wait_for(lambda: (tmp_path / "r/heartbeat.0").exists(), program)
        shutil.rmtree(tmp_path / "saved")
        out, err = program.communicate(timeout=60)
    found = Ended(code=program.returncode, out=out, err=err)
    line = "no checkpoint at step 30: cannot write saved/step_000000030: no such file"
    oracle.check_said(found, code=1, words=[line], folders=[tmp_path])
    assert (tmp_path / "r/result.json").exists()
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize("name, error", [("saved", "ENOSPC"), ("r", "EROFS")])
@pytest.mark.long
def test_ranks_that_cannot_write_say_so_in_one_line(
    name: str, error: str, disk: Disk, tmp_path: Path
) -> None:
    """With the real program of PyTorch, which has a strategy with several processes."""
    disk.fill()
    pattern = {"saved": "saved/.writing.*", "r": "r/*.json*"}[name]
    faults = disk.environment(f"{tmp_path}/{pattern}", error=error)
    more = ("--strategy=ddp", "--devices=2", "--allow_oversubscription", "--save_checkpoint=saved")
    torch = "isoscale.frameworks.torch_runner"
    found = isoscale(tmp_path, *BY_HAND, *more, handed(faults), module=torch, **faults)
    oracle.check_said(found, code=1 if name == "saved" else 3, words=[name, CAUSES[error]])
    oracle.check_no_process(tmp_path)
    oracle.check_no_leftovers(tmp_path)


PARITY = (
    "parity", "--models=mlp_plain", "--frameworks=torch", "--devices=1,2", "--dtype=float64",
    "--steps=2", "--nopieces", "--processes=1",
)  # fmt: skip


@pytest.mark.parametrize(
    "name, error, kept",
    [
        ("*parity.json*", "ENOSPC", 3),
        ("*parity.html*", "EDQUOT", 3),
        (".work/torch-2*", "EROFS", 2),  # the second of two groups
        (".work/*/results.jsonl", "ENOSPC", 0),
        (".work/*request.json*", "ENOSPC", None),
        (".work", "EROFS", None),
    ],
)
@pytest.mark.long
def test_parity_on_a_full_disk_stops_in_one_line_and_resumes(
    name: str, error: str, kept: int | None, disk: Disk, tmp_path: Path
) -> None:
    folder = tmp_path / "runs/out/parity"
    disk.fill()
    faults = disk.environment(f"{folder}/{name}", error=error)
    found = isoscale(tmp_path, *PARITY, handed(faults), **faults)
    if "results" in name:  # each job fails by itself
        assert found.code == 1, found
        assert "Traceback" not in found.out + found.err
    else:
        words = ["cannot write ", "parity", CAUSES[error]]
        words += [] if kept is None else [f"{kept} of 3 runs are kept in ", " --resume"]
        oracle.check_said(found, code=3, words=words, folders=[folder])
    oracle.check_no_process(tmp_path)
    disk.free()
    again = isoscale(tmp_path, *PARITY, handed(faults), *([] if kept is None else ["--resume"]))
    assert (again.code, again.lines) == (0, []), again
    oracle.check_no_leftovers(folder)


@pytest.mark.long
def test_a_parity_folder_that_vanishes_ends_all_processes_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "runs/out/parity"
    with start(tmp_path, MAIN, *PARITY) as program:
        _wait_for(lambda: bool(list(folder.glob(".work/*/heartbeat.0"))), program)
        shutil.rmtree(folder)
        out, err = program.communicate(timeout=60)
    found = Ended(code=program.returncode, out=out, err=err)
    oracle.check_said(found, code=3, words=["parity/.work has vanished: it was removed"])
    oracle.check_no_process(tmp_path)
    assert not folder.exists()
