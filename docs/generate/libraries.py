"""Tables of what other libraries compute and prefer, from the package's own data behind compat=."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onepass import optim
from onepass.ops._compat import COMPAT, WORDS, libraries

from generate import names

PROPER = {
    "torch": "PyTorch", "keras": "Keras", "optax": "optax", "chainer": "Chainer",
    "thinc": "thinc", "apex": "apex",
}  # fmt: skip


def classes() -> dict[str, Any]:
    """Kernel → class of onepass.optim, of those that another library has."""
    found = {name.lower(): getattr(optim, name) for name in optim.__all__}
    return {kernel: found[kernel] for kernel in COMPAT}


def rows_of(kernel: str) -> list[tuple[str, str, str]]:
    """(compat=, defaults that differ, formula) of each library that has the optimizer."""
    return [(f"`{library!r}`", *_differs(kernel, library)) for library in libraries(kernel)]


def _differs(kernel: str, library: str) -> tuple[str, str]:
    of, torch = libraries(kernel)[library], libraries(kernel)["torch"]
    defaults = ", ".join(f"`{option}={value!r}`" for option, value in of.defaults.items())
    formula = [WORDS[o] for o, value in of.formula.items() if value != torch.formula[o]]
    return defaults or "–", "; ".join(formula).replace("\\|", "|") or "–"


def of_library(library: str) -> str:
    """The table of one library: each optimizer of it that onepass has."""
    rows = []
    for kernel, cls in classes().items():
        if library not in COMPAT[kernel]:
            continue
        label = next(n.label for n in names.names() if n.value is cls)
        rows.append((f"[`{cls.__name__}`](#{label})", *_differs(kernel, library)))
    head = ("optimizer", "defaults that differ from PyTorch's", "formula, where it differs")
    return table(head, rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(c.replace('|', chr(92) + '|') for c in r)} |" for r in lines)
