"""A step under torch.compile: one operator in the graph, which takes the eager step when it runs.

Options of groups are read then. Dynamo still watches them: a second value of a learning rate that
is a number compiles once more, a third does not.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from typing import Any

import torch

from onepass.torch._operators import LIBRARY

LIBRARY.define(  # type: ignore[no-untyped-call]
    "optimizer_step(int handle, Tensor(a!)[] params, Tensor[] grads, int[] places, "
    "float? max_norm, float? max_value, Tensor? norm, Tensor? grad_scale, str nonfinite) -> ()"
)
_numbers = itertools.count()
_optimizers: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def handle_of(optimizer: Any) -> int:
    """A number by which a graph finds ``optimizer``."""
    number = next(_numbers)
    _optimizers[number] = optimizer
    return number


def traced_step(
    optimizer: Any,
    closure: Callable[[], Any] | None = None,
    *,
    max_norm: float | None = None,
    max_value: float | None = None,
    norm: Any = None,
    grad_scale: Any = None,
    zero_grad: bool = False,
    nonfinite: str = "propagate",
) -> Any:
    """``optimizer.step`` as Dynamo traces it."""
    loss = None
    if closure is not None:
        with torch.enable_grad():
            loss = closure()
    if zero_grad:
        raise ValueError(
            "step: 'zero_grad' is True under torch.compile, expected False; call zero_grad() "
            "outside of the compiled function"
        )
    params, grads, places = [], [], []
    at = 0
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p.grad is not None:
                params.append(p)
                grads.append(p.grad)
                places.append(at)
            at += 1
    if params:
        with torch.no_grad():
            torch.ops.onepass.optimizer_step(
                optimizer._handle,
                params,
                grads,
                places,
                max_norm,
                max_value,
                None if norm is None else torch.as_tensor(norm),
                None if grad_scale is None else torch.as_tensor(grad_scale),
                nonfinite,
            )
    return loss


def _run(
    handle: int,
    params: list[torch.Tensor],
    grads: list[torch.Tensor],
    places: list[int],
    max_norm: float | None,
    max_value: float | None,
    norm: torch.Tensor | None,
    grad_scale: torch.Tensor | None,
    nonfinite: str,
) -> None:
    """The operator. A compiler may give it copies of the parameters, to write back itself."""
    optimizer = _optimizers.get(handle)
    if optimizer is None:
        raise RuntimeError(
            "onepass::optimizer_step: the optimizer that was compiled is gone; keep it alive, and "
            "compile the function again for another one"
        )
    own = [p for group in optimizer.param_groups for p in group["params"]]
    given: list[torch.Tensor | None] = [None] * len(own)
    for place, grad in zip(places, grads, strict=True):
        given[place] = grad
    pairs = [(own[place], p) for place, p in zip(places, params, strict=True)]
    copies = [(mine, p) for mine, p in pairs if mine.data_ptr() != p.data_ptr()]
    if len({p.data_ptr() for _, p in pairs if p.numel()}) < sum(p.numel() > 0 for _, p in pairs):
        raise RuntimeError(
            "onepass::optimizer_step: the compiler passes one tensor for two parameters; nothing "
            "was changed"
        )
    with torch.no_grad():
        before = [mine.detach().clone() for mine, _ in copies]
        for mine, p in copies:
            mine.copy_(p)
        try:
            optimizer._given = given
            optimizer.step(
                max_norm=max_norm,
                max_value=max_value,
                norm=norm,
                grad_scale=grad_scale,
                nonfinite=nonfinite,
            )
            for mine, p in copies:
                p.copy_(mine)
        finally:
            vars(optimizer).pop("_given", None)
            for (mine, _), old in zip(copies, before, strict=True):
                mine.copy_(old)


for _device in ("CPU", "CUDA"):
    LIBRARY.impl("optimizer_step", _run, _device)  # type: ignore[no-untyped-call]
torch.library.register_fake("onepass::optimizer_step", lambda *_: None, lib=LIBRARY)
