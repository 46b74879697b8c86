"""Packages whose files import one another in one direction only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGES = ("train",)
SOURCES = Path(__file__).resolve().parents[1] / "python" / "onepass"


def imports(package: str) -> dict[str, set[str]]:
    """File → the package's files that it imports anywhere: TYPE_CHECKING and functions included."""
    files = {path.stem for path in (SOURCES / package).glob("*.py")} - {"__init__"}
    graph: dict[str, set[str]] = {}
    prefix = f"onepass.{package}"
    for name in files:
        found: set[str] = set()
        for node in ast.walk(ast.parse((SOURCES / package / f"{name}.py").read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == prefix:
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                found.add(node.module.removeprefix(f"{prefix}."))
            elif isinstance(node, ast.Import):
                found |= {alias.name.removeprefix(f"{prefix}.") for alias in node.names}
        graph[name] = found & files
    return graph


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Files that import one another in a circle; empty if there is none."""
    left = dict(graph)
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    return sorted(left)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_circles(package: str) -> None:
    graph = imports(package)
    assert any(graph.values()), "no import was found: the test looks in the wrong place"
    assert not circle(graph), {name: graph[name] for name in circle(graph)}


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]
