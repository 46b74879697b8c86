"""Files of one package import one another in one direction only."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[1] / "python"
PACKAGES = sorted(p.parent.relative_to(SOURCES) for p in SOURCES.rglob("onepass/**/__init__.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCES).with_suffix("").parts)


def imports_of(path: Path) -> set[str]:
    """The modules that a file names anywhere: under TYPE_CHECKING and in functions as well."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: a relative import, which this test does not follow"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def check(graph: dict[str, set[str]]) -> None:
    try:
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        raise AssertionError("imports in a circle: " + " → ".join(error.args[1])) from None


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: ".".join(package.parts))
def test_imports_have_no_circle(package: Path) -> None:
    """Between the files of a package; a package's ``__init__`` may import all of them."""
    files = [path for path in (SOURCES / package).glob("*.py") if path.stem != "__init__"]
    names = {module_of(path) for path in files}
    graph = {module_of(path): imports_of(path) & names for path in files}
    named = {name for path in files for name in imports_of(path)}
    assert any(name.startswith("onepass") for name in named) or len(files) < 2, (
        "no import was found: the test looks in the wrong place"
    )
    check(graph)


def test_packages_have_no_circle() -> None:
    """Between packages, through any of their files; a file of the root counts as a package."""
    graph: dict[str, set[str]] = {}
    files = list(SOURCES.rglob("*.py"))
    tops = {top_of(module_of(path)) for path in files}
    for path in files:
        top = top_of(module_of(path))
        graph.setdefault(top, set()).update({top_of(n) for n in imports_of(path)} & tops - {top})
    assert graph["onepass.train"] >= {"onepass.nn", "onepass.optim", "onepass.data"}
    check(graph)


def top_of(module: str) -> str:
    """``onepass.nn._linear`` → ``onepass.nn``."""
    return ".".join(module.split(".")[:2])


def test_a_circle_is_found() -> None:
    check({"a": {"b"}, "b": {"c"}})
    with pytest.raises(AssertionError, match="in a circle"):
        check({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()})
