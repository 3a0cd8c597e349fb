"""The declaration of a setting: its flag, its help, and whether the setting belongs to the cell.

``RunConfig`` and ``OptimizerConfig`` declare every field with ``option``. Three things derive from
these declarations: the flags, the cell of a run, and the flags that rebuild a configuration.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

from isoscale.common.config.errors import LARGEST, require_number, require_whole
from isoscale.common.config.records import OMIT_DEFAULT

_KEY = "option"

Kind = Literal["integer", "number", "text", "boolean", "names", "texts"]
"""Type of a flag's value; ``names``: a list, separated by commas; ``texts``: a repeated flag."""

Membership = Literal["always", "unless default", "never", "part"]
"""Whether a field belongs to the cell.

``unless default``: at its default value the field is absent from the cell on disk, so that a new
field leaves the ids of earlier cells unchanged. ``part``: the whole record that contains the field
belongs to the cell.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
    """The declaration of one field.

    Attributes:
      cell: whether runs that differ in this field belong to different cells.
      flag: name of the flag; None: no flag sets this field directly.
      help: help text of the flag.
      kind: type of the flag's value; decides the parser.
      minimum, maximum: least and largest value of a number.
      flag_default: default of the flag; ``FIELD``: the default of the field.
      to_flag: turns the value of the field into the text of the flag.
    """

    cell: Membership
    flag: str | None
    help: str
    kind: Kind
    minimum: float
    maximum: float
    flag_default: Any
    to_flag: Callable[[Any], str]

    def flag_texts(self, value: Any) -> list[str]:
        """Returns the texts of the flag for a value of the field: one, or one per entry."""
        return list(value) if self.kind == "texts" else [self.to_flag(value)]


FIELD: Any = object()
"""Stands for the default of the field."""


def text_of(value: Any) -> str:
    """Returns a value as the text of a flag."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def option(
    *,
    cell: Membership,
    flag: str | None = None,
    help: str = "",
    kind: Kind = "text",
    minimum: float | None = None,
    maximum: float = LARGEST,
    flag_default: Any = FIELD,
    to_flag: Callable[[Any], str] = text_of,
    **field: Any,
) -> Any:
    """Returns a dataclass field with its declaration.

    Args:
      cell, flag, help, kind, maximum, flag_default, to_flag: the attributes of ``Option``.
      minimum: None: 1 for a whole number, 0 for other numbers.
      **field: arguments of ``dataclasses.field``, such as ``default``.
    """
    declared = Option(
        cell=cell,
        flag=flag,
        help=help,
        kind=kind,
        minimum=(1 if kind == "integer" else 0.0) if minimum is None else minimum,
        maximum=maximum,
        flag_default=flag_default,
        to_flag=to_flag,
    )
    omit = OMIT_DEFAULT if cell == "unless default" else {}
    return dataclasses.field(**field, metadata={_KEY: declared, **omit})


def options_of(kind: type) -> dict[str, Option]:
    """Returns field name -> declaration, in the order of the fields.

    Raises:
      TypeError: a field has no declaration.
    """
    found = {}
    for field in dataclasses.fields(kind):
        if _KEY not in field.metadata:
            raise TypeError(f"{kind.__name__}.{field.name} must be declared with option()")
        found[field.name] = field.metadata[_KEY]
    return found


def check_numbers(holder: Any) -> None:
    """Checks the numbers of a dataclass whose fields are declared with ``option``.

    Raises:
      ConfigError: a number has another type, or is outside of its declared range.
    """
    for name, declared in options_of(type(holder)).items():
        value = getattr(holder, name)
        if declared.kind == "integer":
            require_whole(name, value, minimum=declared.minimum, maximum=declared.maximum)
        elif declared.kind == "number":
            require_number(name, value, minimum=declared.minimum, maximum=declared.maximum)


def flag_default(kind: type, name: str) -> Any:
    """Returns the default of a field's flag; None if the field has no default."""
    (field,) = (field for field in dataclasses.fields(kind) if field.name == name)
    declared: Option = field.metadata[_KEY]
    if declared.flag_default is not FIELD:
        return declared.flag_default
    return None if field.default is dataclasses.MISSING else field.default
