"""Converts dataclasses to JSON objects and back, by the names and the types of their fields.

A field may be a string, a number, a boolean, ``None``, a ``Literal``, a tuple, a list, a ``dict``
or ``Mapping`` with string keys, ``Any``, a union of these, or another dataclass. A class that
defines both ``to_json()`` and ``from_json(record)`` has its own form. A field whose name ends with
``seconds`` is a duration: it cannot be negative.
"""

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

T = TypeVar("T")

SCHEMA_VERSION = 4
"""The version of new records; a record without a version has version 1.

Version 3 adds ``isoscale``: the version and commit of the program. Since version 4 a result calls
its throughput ``examples_per_second``, as all exports do; before, ``items_per_second``.
"""
OMIT_DEFAULT = {"omit default": True}
"""Metadata of a field that is absent from the JSON object at its default value."""


class LaterVersionError(ValueError):
    """A record was written by a later isoscale."""


def to_record(value: Any) -> Any:
    """Returns a dataclass, or a list or dict of dataclasses, as plain JSON values.

    The keys of an object are the names of the fields, in order.
    """
    if hasattr(value, "to_json"):
        return value.to_json()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return fields_to_record(value)
    if isinstance(value, Mapping):
        return {str(key): to_record(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_record(item) for item in value]
    return value


def fields_to_record(value: Any) -> dict[str, Any]:
    """Returns the fields of a dataclass as a JSON object; ignores the class's own ``to_json``."""
    return {
        field.name: to_record(getattr(value, field.name))
        for field in dataclasses.fields(value)
        if field.init and not _is_omitted(field, value)
    }


def with_version(record: dict[str, Any]) -> dict[str, Any]:
    """Returns a record with its schema version first."""
    return {"schema_version": SCHEMA_VERSION, **record}


def without_version(record: Any) -> dict[str, Any]:
    """Returns a record without its schema version.

    Raises:
      ValueError: the record is not an object, or this isoscale cannot read its version.
    """
    if not isinstance(record, dict):
        raise _wrong("", record, "an object")
    version = record.get("schema_version", 1)
    if type(version) is int and version > SCHEMA_VERSION:
        raise LaterVersionError(
            f"schema_version is {str(version)[:20]}; this isoscale reads 1 to {SCHEMA_VERSION}"
        )
    if isinstance(version, bool) or version not in range(1, SCHEMA_VERSION + 1):
        raise ValueError(f"schema_version is {version!r:.60}; it must be 1 to {SCHEMA_VERSION}")
    return {name: value for name, value in record.items() if name != "schema_version"}


def _is_omitted(field: dataclasses.Field, record: Any) -> bool:
    if not field.metadata.get("omit default"):
        return False
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    return getattr(record, field.name) == default


def from_record(cls: type[T], record: Any, *, path: str = "") -> T:
    """Returns the dataclass that a JSON object describes; the inverse of ``to_record``.

    Args:
      cls: the dataclass.
      record: the JSON object. A missing key takes the default of its field.
      path: names ``record`` in error messages.

    Raises:
      ValueError: a key is unknown, a key without a default is missing, or a value and its field
        have different types. The message contains the path of the value, for example
        ``runs[2].devices``.
    """
    if not isinstance(record, dict):
        raise _wrong(path, record, "an object")
    types_of, required = _fields(typing.cast(Any, cls))  # mypy: no type is Hashable
    unknown = [key for key in record if key not in types_of]
    if unknown:
        raise ValueError(f"{_join(path, str(unknown[0]))}: {cls.__name__} lacks this field")
    missing = [name for name in required if name not in record]
    if missing:
        raise ValueError(f"{_join(path, missing[0])} is missing")
    values = {
        name: _read(types_of[name], value, _join(path, name)) for name, value in record.items()
    }
    return cls(**values)


@functools.cache
def _fields(cls: type) -> tuple[dict[str, Any], list[str]]:
    """Returns (field name -> type, names of the fields without a default)."""
    fields = [field for field in dataclasses.fields(cls) if field.init]
    hints = typing.get_type_hints(cls)
    none = dataclasses.MISSING
    required = [f.name for f in fields if f.default is none and f.default_factory is none]
    return {field.name: hints[field.name] for field in fields}, required


def _read(kind: Any, value: Any, path: str) -> Any:
    """Returns ``value`` as the type ``kind``."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin is Literal:
        if not any(value == item and type(value) is type(item) for item in arguments):
            raise _wrong(path, value, f"one of {', '.join(map(repr, arguments))}")
        return value
    if origin in (typing.Union, types.UnionType):
        return _read_union(arguments, value, path)
    if origin in (tuple, list):
        return _read_sequence(origin, arguments, value, path)
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise _wrong(path, value, "an object")
        return {key: _read(arguments[1], item, _join(path, key)) for key, item in value.items()}
    if hasattr(kind, "from_json"):
        try:
            return kind.from_json(value)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from None
    if dataclasses.is_dataclass(kind):
        return from_record(typing.cast(type, kind), value, path=path)
    return _read_plain(kind, value, path)


def _read_union(kinds: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and types.NoneType in kinds:
        return None
    others = [kind for kind in kinds if kind is not types.NoneType]
    if len(others) == 1:  # the error of one type is more precise than the error of the union
        return _read(others[0], value, path)
    for kind in others:
        try:
            return _read(kind, value, path)
        except ValueError:
            continue
    raise _wrong(path, value, " or ".join(getattr(kind, "__name__", str(kind)) for kind in others))


def _read_sequence(origin: type, arguments: tuple[Any, ...], value: Any, path: str) -> Any:
    if not isinstance(value, list | tuple):
        raise _wrong(path, value, "a list")
    if origin is list or arguments[-1] is Ellipsis:
        kinds: typing.Sequence[Any] = [arguments[0]] * len(value)
    else:
        kinds = arguments
    if len(kinds) != len(value):
        raise ValueError(f"{path} must have {len(kinds)} entries, not {len(value)}")
    return origin(
        _read(kind, item, f"{path}[{index}]")
        for index, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def _read_plain(kind: type, value: Any, path: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if not fits:
        raise _wrong(path, value, kind.__name__)
    if kind in (int, float) and value < 0 and _is_duration(path):
        raise ValueError(f"{path} is {value}; a duration cannot be negative")
    return value


def _is_duration(path: str) -> bool:
    """Returns whether a value is in seconds, or part of figures in seconds, by its names."""
    return any(name.split("[")[0].endswith("seconds") for name in path.split("."))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _wrong(path: str, value: Any, expected: str) -> ValueError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return ValueError(f"{path or 'the record'} is {shown}; it must be {expected}")
