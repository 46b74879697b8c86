"""Messages of Python's sources, found in the syntax tree of what raises or warns."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# Functions that make an error of a text, or a warning.
MAKERS = {"warn": "warning", "refuse": "ValueError", "fail": "error"}
TEXTS = (ast.Constant, ast.JoinedStr, ast.BinOp)


def of_python(folder: Path) -> Iterator[tuple[str, str, Path, int]]:
    """(error, text, file, line) of each call below a folder."""
    for path in sorted(folder.rglob("*.py")):
        for call, inside in _calls(ast.parse(path.read_text(encoding="utf-8")), ()):
            name = _name_of(call.func)
            if name.endswith("Error") or name in MAKERS:
                texts = [a for a in call.args if isinstance(a, TEXTS)][:1] or call.args[:1]
                for text in texts:
                    words = " ".join(_template(text, inside).split())
                    yield MAKERS.get(name, name), words, path, call.lineno


def _calls(node: ast.AST, inside: tuple[ast.AST, ...]) -> Iterator[tuple[Any, Any]]:
    """Each call, with the functions that it stands in, the innermost first."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield child, inside
        within = (child, *inside) if isinstance(child, ast.FunctionDef) else inside
        yield from _calls(child, within)


def _name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _template(node: ast.AST, inside: Sequence[ast.AST], depth: int = 2) -> str:
    """The text of an expression that makes a message."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_template(part, inside, depth) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return _template(node.value, inside, depth)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _template(node.left, inside, depth) + _template(node.right, inside, depth)
    if isinstance(node, ast.Name):
        made = _assigned(node.id, inside) if depth else None
        return f"{{{node.id}}}" if made is None else _template(made, inside, depth - 1)
    if isinstance(node, ast.Attribute):
        return f"{{{node.attr}}}"
    return "…"


def _assigned(name: str, inside: Sequence[ast.AST]) -> ast.AST | None:
    """The one text that a function assigns to the name, or None."""
    for function in inside:
        values = [
            node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign)
            and any(isinstance(t, ast.Name) and t.id == name for t in node.targets)
        ]
        if len(values) == 1 and isinstance(values[0], (ast.JoinedStr, ast.Constant, ast.BinOp)):
            return values[0]
        if values:
            return None
    return None
