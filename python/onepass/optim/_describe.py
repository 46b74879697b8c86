"""Generates an optimizer's repr and the parts of its docstring that follow from its rule."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from onepass.ops._compat import WORDS, Library, libraries
from onepass.ops._rule import OptionRule

_NARROW = (
    "States of 16-bit parameters are float32, where PyTorch's are of 16 bits; in a step subnormal "
    "numbers count as zero."
)
_BYTES = 4  # of an element of a state; those of float64 parameters have 8


def kept(rule: OptionRule) -> str:
    """The states and their bytes for each element of a parameter."""
    factors = [state.key for state in rule.states if state.extent != "element"]
    if factors:
        row, column, vector = factors
        return _wrapped(
            f"Keeps {vector}: {_BYTES} bytes for each element of a parameter with fewer than two "
            f"axes; of any other {row} and {column} instead: {_BYTES} bytes for each row and each "
            "column of its matrices, the last two axes; twice that for float64. " + _NARROW
        )
    always = [state.key for state in rule.states if state.when is None]
    text = f"Keeps {listed(always)}: " if always else "Keeps nothing: "
    text += f"{_BYTES * len(always)} bytes for each element of a parameter"
    for state in rule.states:
        if state.when is not None:
            text += f", {_BYTES} more with {state.when} ({state.key})"
    return _wrapped(f"{text}; twice that for float64. {_NARROW}")


def compat(kernel: str = "") -> str:
    """The description of the argument ``compat``; without a kernel there is PyTorch's alone."""
    known = libraries(kernel)
    if len(known) == 1:
        return "the library whose formula and defaults to follow: 'torch', the only one here."
    torch = known["torch"]
    texts = [
        f"{name!r} ({_differences(library, torch)})"
        for name, library in known.items()
        if library is not torch
    ]
    text = f"the library whose formula and defaults to follow: 'torch', {listed(texts, 'or')}."
    return textwrap.indent(_wrapped(text, 92), " " * 8).lstrip()


def _differences(library: Library, torch: Library) -> str:
    parts = [f"{option}={value!r}" for option, value in library.defaults.items()]
    for option, value in library.formula.items():
        if value != torch.formula[option]:
            if option not in WORDS:
                raise ValueError(
                    f"no words for {option!r} of compat: add it to WORDS in "
                    "python/onepass/ops/_compat.py"
                )
            parts.append(WORDS[option])
    return "; ".join(parts) or "nothing differs"


def listed(words: Sequence[str], joint: str = "and") -> str:
    """Words as in a sentence: a, b and c."""
    *most, last = words
    return f"{', '.join(most)} {joint} {last}" if most else last


def _wrapped(text: str, width: int = 100) -> str:
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def shown(name: str, groups: Sequence[Mapping[str, Any]]) -> str:
    """The repr of an optimizer, PyTorch's: the options of each group."""
    lines = []
    for number, group in enumerate(groups):
        lines += ["", f"Parameter Group {number}"]
        lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
    return "\n".join([f"{name} (", *lines[1:], ")"])
