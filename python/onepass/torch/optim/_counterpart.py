"""PyTorch's own optimizer of the same name, asked what it makes of the arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch


def counterpart(name: str) -> type[torch.optim.Optimizer] | None:
    """The class of ``torch.optim``, None where PyTorch has no such optimizer."""
    cls = getattr(torch.optim, name, None)
    return cls if inspect.isclass(cls) and issubclass(cls, torch.optim.Optimizer) else None


def dummy() -> list[torch.nn.Parameter]:
    """Parameters to make an optimizer with that is thrown away."""
    return [torch.nn.Parameter(torch.empty(0))]


def checked(name: str, make: Callable[[], Any], given: Mapping[str, Any]) -> tuple[Any, Any]:
    """What ``make`` makes, and PyTorch's optimizer over no elements, None where there is none.

    Args:
        name: of the optimizer.
        make: makes ours, or refuses in words of its own.
        given: arguments of the constructor; PyTorch's takes those that it knows.

    Raises:
        ValueError, TypeError, RuntimeError: either refuses the arguments. The error is of
            PyTorch's type and has its words too, which programs look for.
    """
    cls, theirs = counterpart(name), None
    refusal: Exception | None = None
    if cls is not None:
        known = inspect.signature(cls).parameters
        try:
            theirs = cls(dummy(), **{k: v for k, v in given.items() if k in known})
        except (ValueError, TypeError, RuntimeError) as error:
            refusal = error
    try:
        ours = make()
    except (ValueError, TypeError) as error:
        if refusal is None:
            raise
        raise type(refusal)(f"{error} (torch.optim.{name}: {refusal})") from None
    if refusal is not None:
        raise type(refusal)(f"{name}: {refusal}") from None
    return ours, theirs
