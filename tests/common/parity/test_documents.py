"""Tests the documents of parity and relay: one form on disk; older versions are readable."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.config.records import SCHEMA_VERSION
from isoscale.common.disk.json_files import to_json
from isoscale.common.parity.compare import Comparison
from isoscale.common.parity.documents import ParityDocument, RelayDocument, exit_code

VERSION_1 = Path(__file__).parent / "version_1"
TYPES = [("parity.json", ParityDocument), ("relay.json", RelayDocument)]


def read(name: str) -> dict[str, Any]:
    return json.loads((VERSION_1 / name).read_text())


@pytest.mark.parametrize("name, kind", TYPES)
def test_a_document_without_a_version_has_version_1(name: str, kind: Any) -> None:
    """Reading and writing the file adds a version; keys, their order and values stay the same."""
    written = json.loads(to_json(kind.from_json(read(name)).to_json()))
    assert list(written.items()) == [("schema_version", SCHEMA_VERSION), *read(name).items()]


@pytest.mark.parametrize("name, kind", TYPES)
def test_a_document_survives_json(name: str, kind: Any) -> None:
    document = kind.from_json(read(name))
    again = kind.from_json(json.loads(to_json(document.to_json())))
    assert again.to_json() == document.to_json()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"schema_version": 9}, f"schema_version is 9; this isoscale reads 1 to {SCHEMA_VERSION}"),
        ({"steps": "6"}, "steps is '6'; it must be int"),
        ({"relays": [{"model": "mlp"}]}, r"relays\[0\].legs is missing"),
        ({"more": 1}, "more: RelayDocument lacks this field"),
    ],
)
def test_a_wrong_document_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RelayDocument.from_json(read("relay.json") | change)


def test_the_error_names_the_path_of_a_wrong_figure() -> None:
    record = read("relay.json")
    record["relays"][0]["comparisons"][0]["figures"][1]["step"] = None
    expected = r"relays\[0\].comparisons\[0\]: figures\[1\]: step is None; it must be int"
    with pytest.raises(ValueError, match=expected):
        RelayDocument.from_json(record)


def comparison(value: float) -> Comparison:
    found = Comparison("other")
    found.add("loss, relative", 0, {"loss": value}, 1e-12)
    return found


@pytest.mark.parametrize(
    "values, failed, code",
    [
        ([0.0, 0.0], False, 0),
        ([0.0, 1e-3], False, 1),
        ([math.inf], True, 1),
        ([0.0], True, 1),
        ([], True, 1),
    ],
)
def test_a_difference_or_a_failed_run_exits_with_1(
    values: list[float], failed: bool, code: int
) -> None:
    assert exit_code(map(comparison, values), failed=failed) == code
