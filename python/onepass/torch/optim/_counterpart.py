"""PyTorch's own optimizer of the same name, asked what it makes of the arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from onepass._quiet import ignored


def counterpart(name: str) -> type[torch.optim.Optimizer] | None:
    """The class of ``torch.optim``, None where PyTorch has no such optimizer."""
    cls = getattr(torch.optim, name, None)
    return cls if inspect.isclass(cls) and issubclass(cls, torch.optim.Optimizer) else None


def dummy() -> list[torch.nn.Parameter]:
    """Parameters to make an optimizer with that is thrown away; PyTorch's Muon wants two axes."""
    return [torch.nn.Parameter(torch.empty(0, 0, device="cpu"))]


def made(name: str, params: Any, given: Mapping[str, Any]) -> torch.optim.Optimizer | None:
    """PyTorch's optimizer, None where it has none; of ``given`` it takes what it knows."""
    cls = counterpart(name)
    if cls is None:
        return None
    known = inspect.signature(cls).parameters
    return cls(params, **{key: value for key, value in given.items() if key in known})


def checked(name: str, make: Callable[[], Any], given: Mapping[str, Any]) -> tuple[Any, Any]:
    """What ``make`` makes, and PyTorch's optimizer over no elements, None where there is none.

    Args:
        name: of the optimizer.
        make: makes ours, or refuses in words of its own.
        given: arguments of the constructor.

    Raises:
        ValueError, TypeError, RuntimeError: either refuses the arguments. The error is of
            PyTorch's type and has its words too, which programs look for.
    """
    theirs, refusal = _tried(name, dummy(), given)
    try:
        ours = make()
    except (ValueError, TypeError) as error:
        raise _joined(name, error, refusal) from None
    if refusal is not None and not isinstance(refusal, LookupError):
        raise type(refusal)(f"{name}: {refusal}") from None
    return ours, theirs


def in_both_words(name: str, error: Exception, params: Any, given: Mapping[str, Any]) -> Exception:
    """``error``, which our optimizer raised about its parameters, of PyTorch's type and with its
    words too if PyTorch's refuses them as well."""
    own = params
    if isinstance(params, list):
        own = [dict(group) if isinstance(group, dict) else group for group in params]
    with ignored():
        return _joined(name, error, _tried(name, own, given)[1])


def _tried(name: str, params: Any, given: Mapping[str, Any]) -> tuple[Any, Exception | None]:
    try:
        return made(name, params, given), None
    except (ValueError, TypeError, RuntimeError, LookupError) as refusal:
        return None, refusal


_TAKEN_HERE = "Muon only supports 2D parameters"  # ours takes others


def _joined(name: str, error: Exception, refusal: Exception | None) -> Exception:
    if refusal is None or str(refusal) in str(error) or _TAKEN_HERE in str(refusal):
        return error
    if isinstance(refusal, LookupError):  # says nothing: "tuple index out of range"
        return error
    return type(refusal)(f"{error} (torch.optim.{name}: {refusal})")
