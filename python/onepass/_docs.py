"""Parts of docstrings that many functions share: each is written once and added here."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T", bound=Callable[..., Any])

# Options of many optimizers. A docstring that describes one in its own words keeps them.
OPTIONS = {
    "lr": "learning rate.",
    "betas": "(β₁, β₂).",
    "eps": "added to the denominator.",
    "weight_decay": "L2 penalty: added to the gradient as weight_decay·p.",
    "momentum": "μ; 0 keeps no buffer.",
    "bias_correction": "False leaves out the divisions by 1 - βᵗ.",
}
_IMPORTS = """
    >>> import numpy as np
    >>> import onepass"""
_HEADS = ("Args", "Returns", "Raises", "Source", "Example")


def shares(
    args: Mapping[str, str], needs: tuple[str, ...] = ("Source", "Example"), **sections: str
) -> Callable[[T], T]:
    """A decorator that completes the docstring of a function or class.

    Args:
        args: descriptions of arguments, by name; added where the docstring has none, in the order
            of the signature.
        needs: sections that the docstring must have.
        **sections: text of "Returns" or "Raises".
    """

    def complete(documented: T) -> T:
        if documented.__doc__ is not None:  # python -OO has none
            documented.__doc__ = _completed(documented, args, sections, needs)
        return documented

    return complete


C = TypeVar("C", bound=type)


def continues(cls: C) -> C:
    """Completes a class whose docstring says only what it is of: the rest is its base's."""
    base = cls.__mro__[1]
    if cls.__doc__ is not None and base.__doc__ is not None:  # python -OO has none
        text, own, _ = parts(cls.__doc__)
        general, sections, _ = parts(base.__doc__)
        found = {**sections, **own}
        whole = [text, general, *(f"{h}:{found[h].rstrip()}" for h in _HEADS if h in found)]
        cls.__doc__ = "\n\n".join(whole) + "\n"
    return cls


def with_imports(example: str) -> str:
    """An example of a function of `onepass.ops`, behind the imports if it has none itself."""
    return example if ">>> import" in example else f"{_IMPORTS}{example}"


def parts(doc: str) -> tuple[str, dict[str, str], dict[str, str]]:
    """A docstring's text before its sections, the sections, and what describes each argument."""
    split = re.split(rf"^({'|'.join(_HEADS)}):", inspect.cleandoc(doc), flags=re.M)
    found = dict(zip(split[1::2], split[2::2], strict=True))
    args = re.findall(r"^    (\*{0,2}\w+): (.*(?:\n {5,}.*)*)", found.get("Args", ""), re.M)
    return split[0].rstrip(), found, dict(args)


def _completed(
    documented: Any, args: Mapping[str, str], sections: Mapping[str, str], needs: tuple[str, ...]
) -> str:
    text, found, own = parts(documented.__doc__)
    described = {}
    for parameter in inspect.signature(documented).parameters.values():
        stars: dict[Any, str] = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}
        name = stars.get(parameter.kind, "") + parameter.name
        says = own.pop(name, args.get(name, OPTIONS.get(name)))
        if says is None:
            raise ValueError(
                f"{documented.__qualname__}: the docstring lacks {name!r}, expected a line "
                f"`{name}: …` below 'Args:'"
            )
        described[name] = says
    for head in needs:
        if not found.get(head, "").strip():
            raise ValueError(
                f"{documented.__module__}: {documented.__qualname__}: the docstring lacks '{head}:'"
            )
    if own:
        raise ValueError(f"{documented.__qualname__}: no arguments {sorted(own)}")
    if documented.__module__.startswith("onepass.ops."):
        found["Example"] = with_imports(found["Example"])
    found["Args"] = "".join(f"\n    {name}: {says}" for name, says in described.items())
    found |= {head: f"\n    {body}" for head, body in sections.items() if head not in found}
    return "\n\n".join([text, *(f"{h}:{found[h].rstrip()}" for h in _HEADS if h in found)]) + "\n"
