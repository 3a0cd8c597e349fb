"""Converts dataclasses to JSON objects and back; an error contains the path of the wrong value."""

import dataclasses
import json
from typing import Any, Literal

import pytest

from isoscale.common.config.records import from_record, to_record


@dataclasses.dataclass(frozen=True)
class Point:
    """Has its own form: a list of two numbers."""

    x: float
    y: float

    def to_json(self) -> list[float]:
        return [self.x, self.y]

    @classmethod
    def from_json(cls, record: Any) -> "Point":
        x, y = record
        return cls(x, y)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    name: str
    share: float | None
    kind: Literal["a", "b"] = "a"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    count: int
    ratio: float
    on: bool
    inner: Inner
    many: tuple[Inner, ...]
    pair: tuple[str, int]
    places: list[int]
    by_name: dict[str, Inner]
    either: str | int
    point: Point
    free: Any = None
    text: str = "default"


INNER = Inner(name="i", share=None)
OUTER = Outer(
    count=3,
    ratio=0.5,
    on=True,
    inner=INNER,
    many=(INNER, Inner(name="j", share=0.25, kind="b")),
    pair=("p", 2),
    places=[1, 2],
    by_name={"k": INNER},
    either=7,
    point=Point(1.0, 2.0),
    free={"any": [1, "x"]},
)
RECORD = to_record(OUTER)


def test_a_record_survives_json() -> None:
    assert from_record(Outer, json.loads(json.dumps(RECORD))) == OUTER
    assert list(RECORD) == [field.name for field in dataclasses.fields(Outer)]
    assert RECORD["many"][1] == {"name": "j", "share": 0.25, "kind": "b"}
    assert RECORD["point"] == [1.0, 2.0]


def test_a_missing_key_gets_its_default_and_an_int_becomes_a_float() -> None:
    record = {key: value for key, value in RECORD.items() if key != "text"} | {"ratio": 2}
    found = from_record(Outer, record)
    assert found.text == "default"
    assert found.ratio == 2.0
    assert type(found.ratio) is float


@pytest.mark.parametrize(
    "change, message",
    [
        ({"count": "3"}, r"count is '3'; it must be int"),
        ({"count": True}, r"count is True; it must be int"),
        ({"count": 3.0}, r"count is 3.0; it must be int"),
        ({"on": 1}, r"on is 1; it must be bool"),
        ({"ratio": None}, r"ratio is None; it must be float"),
        ({"ratio": False}, r"ratio is False; it must be float"),
        ({"inner": []}, r"inner is \[\]; it must be an object"),
        ({"inner": {"name": "i"}}, r"inner.share is missing"),
        ({"inner": {"name": "i", "share": "x"}}, r"inner.share is 'x'; it must be float"),
        ({"inner": {"name": "i", "share": 1, "kind": "c"}}, r"inner.kind is 'c'; .*'a', 'b'"),
        ({"inner": {"name": "i", "share": 1, "kid": 1}}, r"inner.kid: Inner lacks this field"),
        ({"many": [{"name": 1, "share": None}]}, r"many\[0\].name is 1; it must be str"),
        ({"many": "ab"}, r"many is 'ab'; it must be a list"),
        ({"pair": ["p"]}, r"pair must have 2 entries, not 1"),
        ({"pair": ["p", "q"]}, r"pair\[1\] is 'q'; it must be int"),
        ({"places": [1, None]}, r"places\[1\] is None; it must be int"),
        ({"by_name": {"k": None}}, r"by_name.k is None; it must be an object"),
        ({"either": 1.5}, r"either is 1.5; it must be str or int"),
        ({"point": [1]}, r"point: not enough values"),
        ({"other": 1}, r"other: Outer lacks this field"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_error_names_the_path_of_a_wrong_value(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_record(Outer, RECORD | change)


def test_a_record_must_be_an_object() -> None:
    with pytest.raises(ValueError, match=r"the record is \[1\]; it must be an object"):
        from_record(Outer, [1])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spread:
    median: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timed:
    wall_seconds: float | None = None
    step_seconds: Spread | None = None
    by_cause_seconds: dict[str, float] | None = None
    rank_seconds: tuple[float, ...] = ()
    balance: float = 0.0


@pytest.mark.parametrize(
    "record, path",
    [
        ({"wall_seconds": -1}, "wall_seconds"),
        ({"wall_seconds": -0.5}, "wall_seconds"),
        ({"step_seconds": {"median": -1e-9}}, "step_seconds.median"),
        ({"by_cause_seconds": {"import": -2.0}}, "by_cause_seconds.import"),
        ({"rank_seconds": [1.0, -1.0]}, "rank_seconds[1]"),
    ],
)
def test_a_negative_duration_is_refused(record: dict[str, Any], path: str) -> None:
    with pytest.raises(ValueError, match="a duration cannot be negative") as caught:
        from_record(Timed, record)
    assert str(caught.value).startswith(f"{path} is -")


def test_zero_durations_and_other_negative_numbers_are_read() -> None:
    assert from_record(Timed, {"wall_seconds": 0, "balance": -1}).balance == -1.0
