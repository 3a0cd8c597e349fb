from common.study.progress import Progress


def test_without_a_terminal_every_run_is_one_line(capsys) -> None:
    cell = {
        "model": "m",
        "framework": "torch",
        "strategy": "ddp",
        "devices": 4,
        "oversubscribed": True,
    }
    ok = {"cell": cell, "run": 0, "status": "ok", "disturbed": True}
    ok["step_seconds"] = {"median": 0.25}
    with Progress() as progress:
        progress.plan(3)
        progress.start_run("id", 0)
        progress.finish_run(ok)
        progress.plan(2)
        progress.finish_run({"cell": cell, "run": 1, "status": "failed", "error": "broke"})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("[1/3, ETA ")
    assert "250.000 ms/step, oversubscribed, disturbed" in lines[0]
    assert lines[1].startswith("[2/3, ETA ")
    assert "failed: broke" in lines[1]
