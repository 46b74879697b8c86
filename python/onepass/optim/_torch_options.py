"""Keywords of PyTorch's optimizers that affect only how a step runs (``foreach``, ``fused``, …)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any, TypedDict

from onepass import _numbers as numbers
from onepass._nearest import did_you_mean


class TorchOptions(TypedDict, total=False):
    """Keywords that code written for PyTorch passes."""

    foreach: bool | None
    fused: bool | None
    capturable: bool
    differentiable: bool


DOC = """``foreach``, ``fused`` and ``capturable`` are ignored: a step is one call in any case, and
        a CUDA graph can hold it. ``differentiable`` must be False."""
_NAMES = ("foreach", "fused", "capturable", "differentiable")
# One that would change what a step may be used for.
_UNMET = {
    "differentiable": "a step is not part of autograd's graph; use torch.optim for that",
}


def refuse_unmet(owner: str, given: Mapping[str, Any]) -> None:
    """Refuses ``differentiable`` that is on, in a group or a constructor."""
    for name, why in _UNMET.items():
        # Groups of PyTorch's optimizers hold None for False.
        if name in given and numbers.flag(owner, name, given[name] or False):
            raise ValueError(f"{owner}: {name!r} is {given[name]!r}, expected False: {why}")


def check(
    cls: type, given: Mapping[str, Any], options: Mapping[str, Any], shared: Sequence[str]
) -> None:
    """The keywords of an optimizer's constructor beyond its own.

    Args:
        cls: the optimizer.
        given: the keywords.
        options: those of its groups, with their values.
        shared: further ones that it knows.

    Raises:
        TypeError: an unknown one. ValueError: one that asks for what a step cannot do.
    """
    owner = cls.__name__
    for name in given:
        if name in options:  # one that the class has settled
            choosers = [c.__name__ for c in cls.__mro__[1:] if name in signature(c).parameters]
            cure = f"; use {choosers[0]} to choose" if choosers else ""
            raise TypeError(
                f"{owner}: {name!r} is {given[name]!r}, expected no such keyword: {owner} always "
                f"has {name}={options[name]!r}{cure}"
            )
        if name not in _NAMES:
            known = [*options, *shared, "compat", "diagnostics", *_NAMES]
            hint = did_you_mean(name, known) or f", expected {', '.join(known)}"
            raise TypeError(f"{owner}: unknown keyword {name!r}{hint}")
    for name in ("foreach", "fused", "capturable"):
        numbers.flag(owner, name, given.get(name) or False)
    refuse_unmet(owner, given)
