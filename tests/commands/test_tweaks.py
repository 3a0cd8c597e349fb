"""Tests ``isoscale tweaks``."""

import json

from isoscale.common.commands.main import main
from isoscale.common.registry import lookup


def test_every_tweak_is_listed_with_its_source(capsys) -> None:
    assert main(["tweaks"]) == 0
    text = capsys.readouterr().out
    for framework in lookup.frameworks():
        for tweak in lookup.tweaks(framework):
            assert tweak.name in text
            assert tweak.source in text
    assert text.count("not supported by the vendor of the library") == 2


def test_json_has_missing_requirements_and_the_models_of_the_tuned_lane(capsys) -> None:
    assert main(["tweaks", "--json", "--frameworks=jax", "--models=gpt_tiny,mlp_digits"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["jax"]
    by_name = {entry["name"]: entry for entry in found["jax"]}
    assert by_name["dense-2d"]["in_tuned_lane_of"] == ["gpt_tiny"]
    assert by_name["several-steps"]["in_tuned_lane_of"] == ["mlp_digits"]
    assert by_name["dense-2d"]["missing"] is None


def test_tweaks_that_need_several_devices_are_listed(capsys) -> None:
    assert main(["tweaks", "--frameworks=jax", "--models=gpt_tiny,mlp_large"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "tuned one device: no model; two: mlp_large" in text


def test_bad_input(capsys) -> None:
    assert main(["tweaks", "--frameworks=jacks"]) == 2
    assert "did you mean 'jax'?" in capsys.readouterr().err
    assert main(["tweaks", "--models=gpt"]) == 2
