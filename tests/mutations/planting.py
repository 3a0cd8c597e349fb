"""Changes expressions in a copy of the code."""

import ast
import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """The replacement of one expression by another.

    Attributes:
      old, new: the expression and its replacement.
      within: function or method with the old expression; None: anywhere in the file.
      places: number of occurrences of the old expression.
      number: index of the occurrence to replace, from 0; None: all occurrences.
    """

    old: str
    new: str
    within: str | None = None
    places: int = 1
    number: int | None = None


def plant(path: Path, *changes: Change) -> None:
    """Changes a file.

    Raises:
      ValueError: the number of occurrences of an expression differs from ``places`` of the change.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for change in changes:
        replace = _Replace(change)
        if change.within is None:
            replace.visit(tree)
        else:
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef) and node.name == change.within:
                    replace.visit(node)
        if replace.count != change.places:
            raise ValueError(
                f"'{change.old}' occurs {replace.count} times in {path}"
                f"{f' ({change.within})' if change.within else ''}, not {change.places}"
            )
    path.write_text(ast.unparse(ast.fix_missing_locations(tree)), encoding="utf-8")


class _Replace(ast.NodeTransformer):
    """Replaces the expressions that equal the old one, and counts them."""

    def __init__(self, change: Change):
        self._old = ast.dump(ast.parse(change.old, mode="eval").body)
        self._change = change
        self.count = 0

    def visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, ast.expr) or ast.dump(node) != self._old:
            return self.generic_visit(node)
        self.count += 1
        if self._change.number not in (None, self.count - 1):
            return node
        return ast.parse(self._change.new, mode="eval").body
