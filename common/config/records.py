"""Typed records to and from plain JSON values: one serialiser and one deserialiser for all.

A record is a dataclass whose fields are numbers, texts, booleans, None, records, and lists, tuples
and string-keyed dicts of these. On disk a record is an object with the fields as keys, in order.
"""

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

Record = TypeVar("Record")

OMIT_DEFAULT = {"omit default": True}
"""Metadata of a field that is absent on disk at its default value."""


def to_record(value: Any) -> Any:
    """Returns a record, or a list or dict of records, as plain JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_record(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if not (field.metadata.get("omit default") and _is_default(field, value))
        }
    if isinstance(value, Mapping):
        return {str(key): to_record(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_record(item) for item in value]
    return value


def _is_default(field: dataclasses.Field, record: Any) -> bool:
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    return getattr(record, field.name) == default


def from_record(kind: type[Record], value: Any, *, path: str = "") -> Record:
    """Returns the record that plain JSON values describe.

    Args:
      kind: a dataclass.
      value: what was read; a key that is missing takes the default of its field.
      path: name of the record in messages.

    Raises:
      ValueError: a key is unknown, missing without a default, or has a value of another type. The
        message names the key.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{path or kind.__name__} is {_short(value)}, not an object")
    hints, required = _fields(typing.cast(typing.Hashable, kind))
    for name in value:
        if name not in hints:
            raise ValueError(f"{_join(path, name)} is unknown")
    for name in required:
        if name not in value:
            raise ValueError(f"{_join(path, name)} is missing")
    return kind(**{n: _read(hints[n], item, _join(path, n)) for n, item in value.items()})


def _join(path: str, name: object) -> str:
    text = str(name)[:80]
    return f"{path}.{text}" if path else text


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@functools.cache
def _fields(kind: type) -> tuple[dict[str, Any], list[str]]:
    """Returns (field name -> type, fields without a default)."""
    if not dataclasses.is_dataclass(kind):
        raise TypeError(f"{kind} is not a dataclass")
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    missing = dataclasses.MISSING
    required = [f.name for f in fields if f.default is missing and f.default_factory is missing]
    return {field.name: hints[field.name] for field in fields}, required


def _read(hint: Any, value: Any, path: str) -> Any:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in parts:
            return None
        problems = []
        for part in parts:
            if part is not type(None):
                try:
                    return _read(part, value, path)
                except ValueError as problem:
                    problems.append(problem)
        raise problems[-1]
    if origin is typing.Literal:
        if value in parts:
            return value
        raise ValueError(f"{path} is {_short(value)}, not one of {', '.join(map(str, parts))}")
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ValueError(f"{path} is {_short(value)}, not an object")
        return {str(key): _read(parts[1], item, _join(path, key)) for key, item in value.items()}
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise ValueError(f"{path} is {_short(value)}, not a list")
        if origin is tuple and parts[-1] is not Ellipsis:
            if len(parts) != len(value):
                raise ValueError(f"{path} has {len(value)} entries, not {len(parts)}")
            items = zip(parts, value, strict=True)
            return tuple(_read(part, item, f"{path}[{i}]") for i, (part, item) in enumerate(items))
        return origin(_read(parts[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    if dataclasses.is_dataclass(hint):
        return from_record(typing.cast(type, hint), value, path=path)
    # bool is a subclass of int: a truth value is no number.
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise ValueError(f"{path} is {_short(value)}, not {_called(hint)}")


def _called(hint: type) -> str:
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return names.get(hint, str(hint))
