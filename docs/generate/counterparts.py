"""What PyTorch has beside a class of ours: its options and defaults, read from its signatures."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from generate.names import Name

# Kind of page → the module of PyTorch that has the same things.
MODULES = {
    "optimizers": "torch.optim", "activations": "torch.nn", "norms": "torch.nn",
    "losses": "torch.nn", "dropout": "torch.nn",
}  # fmt: skip
# Options of PyTorch's that say how it computes, or where, and not what; or that are of old.
HOW = {
    *(
        "inplace",
        "min_value",
        "max_value",
        "device",
        "dtype",
        "size_average",
        "reduce",
        "foreach",
        "fused",
    ),
    *("capturable", "differentiable"),
}
EMPTY = inspect.Parameter.empty


# A base, and what a step returns.
NO_THING = ("Activation", "Optimizer", "StepInfo")
NONE = "PyTorch has no counterpart."


def said(kind: str, entries: Sequence[Name]) -> str:
    """A sentence on PyTorch's class of this name; "" where there is nothing to compare."""
    if kind not in MODULES or find_spec("torch") is None:
        return ""
    classes = [name for name in entries if inspect.isclass(name.value) and not name.is_front]
    named = [name for name in classes if name.short.startswith(("nn.", "optim."))]
    if not named:
        return NONE if kind == "losses" else ""  # others are tools
    own = named[0].short.rpartition(".")[2]
    if own in NO_THING:
        return ""
    theirs = getattr(import_module(MODULES[kind]), own, None)
    if theirs is None:
        return NONE
    return _compared(named[0].value, theirs, f"{MODULES[kind]}.{own}")


def _compared(ours: Any, theirs: Any, name: str) -> str:
    mine, other = (_defaults(value) for value in (ours, theirs))
    shared = [option for option in mine if option in other and option not in HOW]
    more = [f"`{option}`" for option in mine if option not in other]
    less = [f"`{option}`" for option in other if option not in mine and option not in HOW]
    differ = [_differs(option, mine[option], other[option]) for option in shared
              if not _same(mine[option], other[option])]  # fmt: skip
    same = ", with the same defaults" if any(other[o] is not EMPTY for o in shared) else ""
    parts = [f"Its counterpart is `{name}`" + (", with other defaults" if differ else same)]
    parts += [", ".join(differ)] if differ else []
    parts += [f"options that it lacks: {', '.join(more)}"] if more else []
    parts += [f"options that are not here: {', '.join(less)}"] if less else []
    return "; ".join(parts) + "."


def _differs(option: str, mine: Any, other: Any) -> str:
    if mine is EMPTY:
        return f"`{option}` has none here"
    return f"`{option}={mine!r}`, there {'none' if other is EMPTY else f'`{other!r}`'}"


def _same(mine: Any, other: Any) -> bool:
    return mine is other if EMPTY in (mine, other) else bool(mine == other)


def _defaults(value: Any) -> dict[str, Any]:
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(value).parameters.values()
    return {p.name: p.default for p in parameters if p.kind not in kinds}
