"""Operators of ``torch.ops.onepass``, and functions with a gradient made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable

# Operators live as long as this.
LIBRARY = torch.library.Library("onepass", "DEF")  # type: ignore[no-untyped-call]

Tensors = Sequence["torch.Tensor | None"]


def define(name: str, schema: str, run: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """``torch.ops.onepass.<name>``, which does ``run`` on every device that has kernels."""
    LIBRARY.define(name + schema)  # type: ignore[no-untyped-call]

    def unrecorded(*arguments: Any) -> Any:
        with torch.no_grad():
            return run(*arguments)

    for device in ("CPU", "CUDA"):
        LIBRARY.impl(name, unrecorded, device)  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"onepass::{name}", fake, lib=LIBRARY)


class Differentiable:
    """A kernel with its gradient: straight to the extension, or an operator in a graph.

    Calling it with ``(*inputs, *options)`` gives the first result. The dispatcher costs more than a
    small kernel, so that only a compiler's graph has operators.

    Args:
        name: the operator, and ``<name>_backward``.
        inputs: the schema of the tensors that may have a gradient or are saved.
        options: the schema of what follows them.
        results: how many tensors ``run`` gives; those after the first have no gradient.
        run: ``run(*inputs, *options)``: a tuple.
        fake: shapes and dtypes of the same.
        save: ``save(inputs, results)``: the tensors to keep.
        gradient: ``gradient(dy, wanted, *saved, *options)``: a list, a tensor for each input in
            ``gradients`` that is wanted and has one.
        fake_gradient: shapes and dtypes of the same.
        gradients: ``gradients(wanted, given)``: the places of the inputs that the list is for.
        saved: the schema of what is kept.
        pure: ``run`` for the operator, where ``run`` writes to its inputs.
    """

    def __init__(
        self,
        name: str,
        *,
        inputs: str,
        options: str,
        results: int,
        saved: str,
        run: Callable[..., tuple[torch.Tensor, ...]],
        fake: Callable[..., tuple[torch.Tensor, ...]],
        save: Callable[[Tensors, Sequence[torch.Tensor]], Tensors],
        gradient: Callable[..., list[torch.Tensor]],
        fake_gradient: Callable[..., list[torch.Tensor]],
        gradients: Callable[..., list[int]],
        pure: Callable[..., tuple[torch.Tensor, ...]] | None = None,
    ) -> None:
        count = inputs.count("Tensor")
        tail = f", {options}" if options else ""
        given = ", ".join(["Tensor"] * results)
        made = f"({given})" if results > 1 else given
        functions = [_single(function, results) for function in (pure or run, fake)]
        define(name, f"({inputs}{tail}) -> {made}", *functions)
        schema = f"(Tensor dy, bool[] wanted, {saved}{tail}) -> Tensor[]"
        define(f"{name}_backward", schema, gradient, fake_gradient)
        operator = getattr(torch.ops.onepass, name)
        operator_backward = getattr(torch.ops.onepass, f"{name}_backward")

        def keep(ctx: Any, arguments: Sequence[Any], results: Sequence[torch.Tensor]) -> None:
            tensors = arguments[:count]
            ctx.save_for_backward(*save(tensors, results))
            ctx.rest = (count, arguments[count:])
            ctx.present = tuple(t is not None for t in tensors)
            ctx.set_materialize_grads(False)

        def back(ctx: Any, call: Callable[..., list[torch.Tensor]], dy: Any) -> tuple[Any, ...]:
            size, rest = ctx.rest
            grads: list[Any] = [None] * (size + len(rest))
            if dy is None:
                return tuple(grads)
            wanted = list(ctx.needs_input_grad[:size])
            places = gradients(wanted, ctx.present)
            found = call(dy, wanted, *ctx.saved_tensors, *rest)
            for place, grad in zip(places, found, strict=True):
                grads[place] = grad
            return tuple(grads)

        def keep_traced(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            keep(ctx, inputs, output if results > 1 else (output,))

        torch.library.register_autograd(
            f"onepass::{name}",
            lambda ctx, dy, *_: back(ctx, operator_backward, dy),
            setup_context=keep_traced,
            lib=LIBRARY,
        )

        class Recorded(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *arguments: Any) -> torch.Tensor:
                outputs = run(*arguments)
                keep(ctx, arguments, outputs)
                return outputs[0]

            @staticmethod
            @once_differentiable  # type: ignore[untyped-decorator]
            def backward(ctx: Any, dy: torch.Tensor | None) -> tuple[Any, ...]:
                return back(ctx, gradient, dy)

        Recorded.__name__ = Recorded.__qualname__ = f"onepass.{name}"
        self.results = results
        self.run, self.operator, self.apply = run, operator, Recorded.apply

    def __call__(self, *arguments: Any) -> torch.Tensor:
        if torch.compiler.is_compiling():
            return self.traced(*arguments)[0]
        if torch.is_grad_enabled():
            return self.apply(*arguments)  # type: ignore[no-any-return,no-untyped-call]
        return self.run(*arguments)[0]

    def traced(self, *arguments: Any) -> tuple[torch.Tensor, ...]:
        """All results, of the operator."""
        results = self.operator(*arguments)
        return results if self.results > 1 else (results,)


def _single(function: Callable[..., Any], results: int) -> Callable[..., Any]:
    return function if results > 1 else lambda *arguments: function(*arguments)[0]
