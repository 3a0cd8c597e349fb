"""Bad input: one line names the value and the allowed values; exit code 2; no file is written."""

from pathlib import Path

import pytest

from isoscale.common.machine.cores import available_cores

MAIN = "isoscale.common.commands.main"

COMPARE = [
    (["--models=gpt_tyni"], "unknown model 'gpt_tyni': did you mean 'gpt_tiny'?"),
    (["--models=tranformer"], "'transformer', 'transformer_small' or 'transformer_large'? Known:"),
    (["--models=my_net"], "Your own models need --extra=FOLDER"),
    (
        ["--models=mlp_plain"],
        "'mlp_plain' is for isoscale parity, which measures no time; choose "
        "another size of its family: mlp_medium, ",
    ),
    (["--models=moe,moe_plain/large"], "'moe_plain/large' is for isoscale parity"),
    (["--dataset=mine"], "Your own data sets need --extra=FOLDER"),
    (["--frameworks=pytorch"], "unknown framework 'pytorch': did you mean 'torch'?"),
    (["--strategies=dpd"], "unknown strategy 'dpd': did you mean 'ddp'?"),
    (["--dataset=digit"], "unknown dataset 'digit': did you mean 'digits'?"),
    (["--modles=x"], "unknown flag '--modles': did you mean '--models', "),
    (["--dtype=float16"], "unknown dtype 'float16'"),
    (["--scaling=weka"], "unknown scaling 'weka': did you mean 'weak'?"),
    (["--platform=tpus"], "unknown platform 'tpus': did you mean 'tpu', 'gpu' or 'cpu'?"),
    (["--optimizer=adam"], "unknown optimizer 'adam': did you mean 'adamw'?"),
    (["--devices=2", "--global_batch_size=7"], "global_batch_size=7 is not divisible by devices=2"),
    (["--devices=256"], "--allow_oversubscription"),
    (["--devices=4096"], "--devices=4096: must be a whole number, 1 to 256"),
    (["--devices=-1"], "--devices=-1: must be a whole number, 1 to 256"),
    (["--devices=0"], "--devices=0: must be a whole number, 1 to 256"),
    (["--runs=x"], "--runs=x: must be a whole number, 1 to 1000000"),
    (["--steps=1e3"], "--steps=1e3: must be a whole number, 1 to 10000000"),
    (
        ["--interleave=windows", "--steps=20"],
        "--steps=20 has no meaning with --interleave=windows, where windows go by time",
    ),
    (["--interleave=windows", "--window_steps=5"], "--window_steps=5 has no meaning"),
    (["--global_batch_size=-8"], "--global_batch_size=-8: must be a whole number"),
    (["--learning_rate=fast"], "--learning_rate=fast: must be a number"),
    (["--time_budget=soon"], "--time_budget=soon: must be a duration"),
    (["--models=gpt_tiny", "--num_heads=3"], "num_heads=3 does not divide d_model=128"),
    (["--models=gpt_tiny", "--d_model=64,6.5"], "--d_model=64,6.5: must be a whole number"),
    (["--models=mlp_medium", "--d_model=64"], "model 'mlp_medium' lacks this size; its sizes are"),
    (["--models=mlp_medium", "--dataset=digits"], "64 features and 10 classes"),
    (["--study=../escape"], "--study='../escape' must be a plain name"),
    (["--study=/tmp/x"], "must be a plain name"),
    (["--resume"], "--resume needs --study=NAME"),
    (["--resume", "--study=nothing"], "unknown study 'nothing'"),
    (["--frameworks=jax", "--strategies=ddp"], "strategy 'ddp' belongs to torch"),
    (["--python_jax=/no/python"], "--python_jax=/no/python is not a Python"),
    (["--compile_modes=torch:xla"], "unknown compile_mode of torch 'xla'"),
    (["--compile_modes=eager"], "FRAMEWORK:MODE"),
    (["--compile_modes=torch:eager,torch:compile"], "names torch twice"),
    (["--frameworks=jax", "--compile_modes=torch:compile"], "unknown framework of --compile_modes"),
    (["--models=mlp_digits", "--dataset=digits", "--global_batch_size=2000"], "1437 training"),
    (["--seed=99999999999999"], "--seed=99999999999999: must be a whole number, 0 to 2147483647"),
    (
        ["--seed=2147483647", "--runs=2", "--dry_run"],
        "with 2 runs per cell, --seed must be at most 2147483646",
    ),
    (["--out_dir=/proc/nope"], "/proc/nope"),
    (["--out_dir=" + "x" * 300], "cannot be used: File name too long"),
    (["--flagfile="], "--flagfile must be --flagfile=PATH"),
    (["--flagfil=x"], "did you mean '--flagfile', "),
    (["--causal=maybe"], "--causal=maybe: must be true or false"),
    (["--python_jax=/bin/false"], "--python_jax=/bin/false is not a Python"),
    (["--platform=gpu", "--devices=99"], "on platform=gpu: this machine shows"),
    (["models"], "'models' is not a flag"),
    (["--tuning=tunned"], "unknown tuning 'tunned': did you mean 'tuned'?"),
    (["--env=LD_PRELOAD=/missing/file.so"], "there is no file /missing/file.so; the run would"),
    (["--tweaks=+huge-page"], "unknown tweak 'huge-page': did you mean 'huge-pages'?"),
    (["--tweaks=huge-pages"], "each word must be +name, -name, or 'none'"),
]
RUNNER = [
    ([], "--model is required"),
    (["--model=moe_tinny"], "did you mean 'moe_tiny', 'gpt_tiny' or 'moe'?"),
    (["--model=moe_tiny", "--strategy=ddp"], "strategy 'ddp' belongs to torch, not to jax"),
    (["--model=moe_tiny", "--strategy=pjjit"], "did you mean 'pjit'?"),
    (["--model=moe"], "'moe' is a family of models; choose one of its sizes: moe_tiny"),
    (
        ["--model=moe_tiny", "--devices=2", "--strategy=bare"],
        "strategy 'bare' of jax allows at most 1; choose",
    ),
    (["--model=moe_tiny", "--save_every=5"], "--save_every=5 needs --save_checkpoint=FOLDER"),
    (["--model=moe_tiny", "--resume_from=latest"], "also use --save_checkpoint=FOLDER"),
    (["--model=moe_tiny", "--resume_from=nothing"], "checkpoint 'nothing' does not exist"),
    (["--model=moe_tiny", "--resume_from=/etc/hostname"], "is a file; a checkpoint is a folder"),
    (["--model=moe_tiny", "--resume_from=/etc"], "cannot read /etc/manifest.json"),
    (["--model=moe_tiny", "--tuning=fast"], "unknown tuning 'fast'"),
    (["--model=moe_tiny", "--tuning=ladder"], "--tuning=ladder is for 'isoscale compare'"),
    (["--model=moe_tiny", "--tweaks=+one-bucket"], "unknown tweak 'one-bucket'"),
    (
        ["--model=mlp_digits", "--tweaks=+dense-2d"],
        "'dense-2d' has no effect on this run; it is for",
    ),
    (["--model=moe_tiny", "--top_k=9"], "top_k=9 exceeds num_experts=8"),
    (["--model=mlp_digits", "--run_dir=/proc/nope"], "--run_dir: /proc/nope cannot be created"),
    (["--model=mlp_digits", "--platform=gpu"], "this machine shows"),
    (["--model=moe_tiny", "--stepz=9"], "did you mean '--steps', "),
    (["--model=moe_tiny", "--compile_mode=xla"], "unknown compile_mode of jax 'xla'"),
    (["--model=moe_tiny", "--d_model=64,128"], "--d_model=64,128: must be a whole number, 0 to"),
    (["--model=mlp_medium", "--hidden_sizes=8x8,4x4"], "--hidden_sizes=8x8,4x4: must be a whole"),
    (["--model=mlp_medium", "--hidden_sizes=8,x"], "--hidden_sizes=8,x: must be a whole number"),
]


def check(answer, message: str, folder: Path) -> None:
    assert answer.returncode == 2, answer.stdout + answer.stderr
    assert message in answer.stderr
    assert len(answer.stderr.splitlines()) == 1, answer.stderr
    assert answer.stdout == ""
    assert not list(folder.iterdir())


@pytest.mark.parametrize("arguments, message", COMPARE, ids=lambda value: str(value)[:40])
def test_compare(arguments: list[str], message: str, run_program, tmp_path: Path) -> None:
    check(run_program(MAIN, "compare", *arguments), message, tmp_path)


@pytest.mark.parametrize("arguments, message", RUNNER, ids=lambda value: str(value)[:40])
def test_runner(arguments: list[str], message: str, run_program, tmp_path: Path) -> None:
    check(run_program("isoscale.frameworks.jax_runner", *arguments), message, tmp_path)


def test_unknown_command(run_program, tmp_path: Path) -> None:
    answer = run_program(MAIN, "comprae")
    check(answer, "unknown command 'comprae': did you mean 'compare'?", tmp_path)


def test_an_existing_study_is_not_replaced(run_program, tmp_path: Path) -> None:
    folder = tmp_path / "runs/out/s"
    folder.mkdir(parents=True)
    (folder / "study.json").write_text("{}")
    answer = run_program(MAIN, "compare", "--study=s")
    assert answer.returncode == 2
    assert "--study=s exists" in answer.stderr
    answer = run_program(MAIN, "compare", "--study=s", "--resume")
    assert answer.returncode == 2
    assert "study.json was not written by isoscale" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
    assert [path.name for path in folder.iterdir()] == ["study.json"]


def test_an_existing_result_is_not_replaced(run_program, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r/result.json").write_text("{}")
    answer = run_program("isoscale.frameworks.torch_runner", "--model=mlp_digits", "--run_dir=r")
    assert answer.returncode == 2
    assert "contains another run's result" in answer.stderr
    assert (tmp_path / "r/result.json").read_text() == "{}"


def test_a_run_dir_with_foreign_files_is_refused(run_program, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r/config.json").write_text("mine")
    answer = run_program("isoscale.frameworks.torch_runner", "--model=mlp_digits", "--run_dir=r")
    assert answer.returncode == 2
    assert "is not empty (config.json)" in answer.stderr
    assert (tmp_path / "r/config.json").read_text() == "mine"


@pytest.mark.parametrize(
    "environment, message",
    [
        ({"RANK": "x"}, "RANK='x' is not a whole number"),
        ({"RANK": "1" * 5000}, "... (5000 characters)' is not a whole number"),
        ({"RANK": "0"}, "WORLD_SIZE='' is not a whole number"),
        ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "1"}, "MASTER_ADDR is not"),
        (
            {"RANK": "0", "WORLD_SIZE": "3", "MASTER_PORT": "1", "MASTER_ADDR": "a"},
            "does not fit devices=2",
        ),
        (
            {"RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "1", "MASTER_ADDR": "a"},
            "LOCAL_WORLD_SIZE is not",
        ),
        (
            {
                "RANK": "0",
                "WORLD_SIZE": "2",
                "LOCAL_WORLD_SIZE": "2",
                "MASTER_PORT": "1",
                "MASTER_ADDR": "a",
            },
            "--run_dir must name one folder",
        ),
    ],
)
def test_invalid_rank_variables_are_refused(
    environment, message, run_program, tmp_path: Path
) -> None:
    arguments = ("--model=mlp_digits", "--strategy=ddp", "--devices=2")
    answer = run_program("isoscale.frameworks.torch_runner", *arguments, **environment)
    check(answer, message, tmp_path)


def test_more_devices_than_cores_are_refused(run_program, tmp_path: Path) -> None:
    devices = len(available_cores()) + 1
    answer = run_program(
        "isoscale.frameworks.torch_runner",
        "--model=mlp_digits",
        "--strategy=ddp",
        f"--devices={devices}",
        f"--global_batch_size={devices}",
    )
    check(answer, f"needs {devices} cores and {devices - 1} are available", tmp_path)


@pytest.mark.parametrize("module", [MAIN, "isoscale.frameworks.jax_runner"])
def test_help_exits_with_0_and_writes_no_file(module: str, run_program, tmp_path: Path) -> None:
    arguments = ["compare", "--help"] if module == MAIN else ["--help"]
    answer = run_program(module, *arguments)
    assert answer.returncode == 0
    for text in ("--global_batch_size", "gpt_tiny", "pjit", "default:"):
        assert text in answer.stdout
    assert not list(tmp_path.iterdir())
