"""Operators of ``torch.ops.onepass``, which graphs and transforms hold in the place of kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

# Operators live as long as this.
LIBRARY = torch.library.Library("onepass", "DEF")  # type: ignore[no-untyped-call]

# A name of a module is looked up in half the time of one through two others.
is_compiling = torch.compiler.is_compiling
is_transformed = torch._C._are_functorch_transforms_active
is_batched = torch._C._functorch.is_legacy_batchedtensor
_PLAIN = (torch.Tensor, torch.nn.Parameter)
_modes = torch._C._len_torch_dispatch_stack
_trace = torch._C._get_tracing_state
_has_storage = torch._C._has_storage


def is_plain(x: torch.Tensor) -> bool:
    """Whether ``x`` is memory that a kernel may read now, with nobody recording what happens.

    Not so: in a graph of `torch.compile`, `torch.export`, `make_fx` or `torch.jit.trace`, under
    transforms of `torch.func` and what is left of them, in batches of gradients, for fake and meta
    tensors and other subclasses.
    """
    if is_compiling():
        return False
    plain = type(x) in _PLAIN and (x.is_cpu or x.is_cuda) and _has_storage(x)
    return plain and not _modes() and not is_transformed() and _trace() is None


def define(
    name: str, schema: str, run: Callable[..., Any], fake: Callable[..., Any]
) -> Callable[..., Any]:
    """``torch.ops.onepass.<name>``, which does ``run`` on every device that has kernels."""
    LIBRARY.define(name + schema)  # type: ignore[no-untyped-call]

    def unrecorded(*arguments: Any) -> Any:
        with torch.no_grad():
            return run(*arguments)

    for device in ("CPU", "CUDA"):
        LIBRARY.impl(name, unrecorded, device)  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"onepass::{name}", fake, lib=LIBRARY)
    operator = getattr(torch.ops.onepass, name)
    torch.library.register_vmap(operator.default, _one_by_one(operator), lib=LIBRARY)
    return operator  # type: ignore[no-any-return]


def _one_by_one(operation: Callable[..., Any]) -> Callable[..., Any]:
    """The rule of `torch.vmap`: a call for each, whose results are stacked."""

    def rule(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        given = list(zip(arguments, in_dims, strict=True))
        if info.batch_size == 0:
            return _of_none(operation, given)

        def call(i: int) -> Any:
            return operation(*(a.select(d, i) if isinstance(d, int) else a for a, d in given))

        return _over_first(torch.stack, [call(i) for i in range(info.batch_size)])

    return rule


def _of_none(operation: Callable[..., Any], given: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    """The results of no calls, whose shapes one without memory has."""

    def one(a: Any, d: Any) -> Any:
        if not isinstance(a, torch.Tensor):
            return a
        shape = [n for axis, n in enumerate(a.shape) if axis != d]
        return torch.empty(shape, dtype=a.dtype, device="meta")

    (device, *_) = [a.device for a, _ in given if isinstance(a, torch.Tensor)]

    def none_like(results: Any) -> torch.Tensor:
        (t,) = results
        return torch.empty((0, *t.shape), dtype=t.dtype, device=device)

    return _over_first(none_like, [operation(*(one(a, d) for a, d in given))])


def _over_first(join: Callable[[Any], torch.Tensor], found: list[Any]) -> tuple[Any, Any]:
    """(the results of all calls joined along a new first axis, the number of that axis)."""
    if isinstance(found[0], torch.Tensor):
        return join(found), 0
    made = type(found[0])(map(join, zip(*found, strict=True)))
    return made, type(made)([0] * len(made))


def batched(operation: Callable[..., list[torch.Tensor]]) -> Callable[..., list[torch.Tensor]]:
    """``operation`` of a batch of gradients: of ``is_grads_batched=True`` of `torch.autograd.grad`,
    ``vectorize=True`` of `torch.autograd.functional.jacobian`.

    It is older than `torch.func`, and knows no operators that give lists.
    """

    def each(dy: torch.Tensor, *rest: Any) -> list[torch.Tensor]:
        level = torch._C._vmapmode_increment_nesting() - 1
        torch._C._vmapmode_decrement_nesting()
        alone = torch._remove_batch_dim(dy, level, 1, 0)
        found = [operation(one, *rest) for one in alone.unbind(0)]
        return [torch._add_batch_dim(torch.stack(g), 0, level) for g in zip(*found, strict=True)]

    return each
