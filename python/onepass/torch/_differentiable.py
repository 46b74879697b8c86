"""A kernel with its gradient: straight to the extension, or an operator where that is recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import torch

from onepass.torch._operators import (
    LIBRARY,
    batched,
    define,
    is_batched,
    is_compiling,
    is_plain,
    is_transformed,
)

Tensors = Sequence["torch.Tensor | None"]

is_grad_enabled = torch.is_grad_enabled


class _Kernel(NamedTuple):
    """What the functions of autograd are made of; see `Differentiable`."""

    name: str
    inputs: int  # how many come before the options
    results: int
    differentiable: tuple[int, ...]
    run: Callable[..., tuple[torch.Tensor, ...]]
    save: Callable[[Tensors, Sequence[torch.Tensor], Sequence[Any]], Tensors]
    gradient: Callable[..., list[torch.Tensor]]
    operator: Callable[..., Any]
    operator_backward: Callable[..., Any]

    def keep(self, ctx: Any, arguments: Sequence[Any], results: Sequence[torch.Tensor]) -> None:
        ctx.options = arguments[self.inputs :]
        ctx.save_for_backward(*self.save(arguments, results, ctx.options))
        ctx.set_materialize_grads(False)

    def keep_traced(self, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        self.keep(ctx, inputs, output if self.results > 1 else (output,))

    def back_traced(self, ctx: Any, call: Callable[..., Any], dy: Any) -> tuple[Any, ...]:
        """The gradients of all arguments, of the results of `keep_traced`."""
        grads: list[Any] = [None] * (self.inputs + len(ctx.options))
        if dy is not None:
            wanted = [ctx.needs_input_grad[i] for i in self.differentiable]
            places = [i for i in self.differentiable if ctx.needs_input_grad[i]]
            found = call(dy, wanted, *ctx.saved_tensors, *ctx.options)
            for place, grad in zip(places, found, strict=True):
                grads[place] = grad
        return tuple(grads)


class Differentiable:
    """A kernel with its gradient: straight to the extension, or an operator where that is recorded.

    Calling it with ``(*inputs, *options)`` gives the first result. The dispatcher costs more than a
    small kernel, so that plain tensors do without operators.

    Args:
        name: the operator, and ``<name>_backward``.
        inputs: the schema of the tensors that may have a gradient or are saved.
        options: the schema of what follows them.
        results: how many tensors ``run`` gives; those after the first have no gradient.
        run: ``run(*inputs, *options)``: a tuple.
        fake: shapes and dtypes of the same.
        saved: the schema of what is kept.
        save: ``save(inputs, results, options)``: the tensors to keep.
        gradient: ``gradient(dy, wanted, *saved, *options)``: a list, a tensor for each of
            ``differentiable`` that is wanted.
        fake_gradient: shapes and dtypes of the same.
        differentiable: the places of the inputs that may have a gradient.
        pure: ``run`` for the operator, where ``run`` writes to its inputs.
        pure_gradient: ``gradient`` for the operator, where ``gradient`` returns one of its inputs.
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
        save: Callable[[Tensors, Sequence[torch.Tensor], Sequence[Any]], Tensors],
        gradient: Callable[..., list[torch.Tensor]],
        fake_gradient: Callable[..., list[torch.Tensor]],
        differentiable: tuple[int, ...] = (0,),
        pure: Callable[..., tuple[torch.Tensor, ...]] | None = None,
        pure_gradient: Callable[..., list[torch.Tensor]] | None = None,
    ) -> None:
        tail = f", {options}" if options else ""
        made = ", ".join(["Tensor"] * results)
        operator = define(
            name,
            f"({inputs}{tail}) -> {f'({made})' if results > 1 else made}",
            *(_single(function, results) for function in (pure or run, fake)),
        )
        operator_backward = define(
            f"{name}_backward",
            f"(Tensor dy, bool[] wanted, {saved}{tail}) -> Tensor[]",
            pure_gradient or gradient,
            fake_gradient,
        )
        kernel = _Kernel(
            name, inputs.count("Tensor"), results, differentiable, run, save, gradient, operator,
            operator_backward,
        )  # fmt: skip
        torch.library.register_autograd(
            f"onepass::{name}",
            lambda ctx, dy, *_: kernel.back_traced(ctx, operator_backward, dy),
            setup_context=kernel.keep_traced,
            lib=LIBRARY,
        )
        self.results, self.run, self.operator = results, run, operator
        gradient_once = _gradient_function(kernel)
        self.recorded = _recorded_function(kernel, gradient_once)
        self.transformed = _transformed_function(kernel, gradient_once)
        # Of all arguments those with a gradient, as a tuple: a slice of one, or places.
        first = differentiable[0]
        one = slice(first, first + 1) if len(differentiable) == 1 else None
        self.taken = itemgetter(one) if one is not None else itemgetter(*differentiable)

    def __call__(self, *arguments: Any) -> torch.Tensor:
        return self.plain(arguments) if is_plain(arguments[0]) else self.traced(*arguments)[0]

    def plain(self, arguments: tuple[Any, ...]) -> torch.Tensor:
        """The first result, of the extension."""
        if not is_grad_enabled():
            return self.run(*arguments)[0]
        return self.recorded(arguments, *self.taken(arguments))  # type: ignore[no-any-return]

    def traced(self, *arguments: Any) -> tuple[torch.Tensor, ...]:
        """All results, of the operator."""
        transformed = not is_compiling() and is_transformed()
        results = (self.transformed if transformed else self.operator)(*arguments)
        return results if self.results > 1 else (results,)


def _single(function: Callable[..., Any], results: int) -> Callable[..., Any]:
    return function if results > 1 else lambda *arguments: function(*arguments)[0]


def _named(function: type[torch.autograd.Function], name: str) -> type[torch.autograd.Function]:
    function.__name__ = function.__qualname__ = f"onepass.{name}"
    return function


def _recorded_function(kernel: _Kernel, gradient_once: Callable[..., Any]) -> Callable[..., Any]:
    """For plain tensors: (all arguments, *those with a gradient) → the first result.

    Each argument of a function of autograd costs half a µs, hence one for all; and what
    `torch.autograd.Function.apply` does before the call, for transforms, two.
    """
    inputs, run, save, gradient = kernel.inputs, kernel.run, kernel.save, kernel.gradient

    def spread(wanted: Sequence[bool], found: list[torch.Tensor]) -> tuple[Any, ...]:
        each = iter(found)
        return (None, *(next(each) if want else None for want in wanted))

    def back(ctx: Any, dy: torch.Tensor | None, call: Callable[..., Any]) -> tuple[Any, ...]:
        wanted = ctx.needs_input_grad[1:]
        if dy is None:
            return (None,) * (1 + len(wanted))
        if is_batched(dy):
            call = batched(kernel.operator_backward)
        return spread(wanted, call(dy, wanted, *ctx.saved_tensors, *ctx.options))

    class Recorded(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, arguments: tuple[Any, ...], *_: Any) -> torch.Tensor:
            outputs = run(*arguments)
            options = ctx.options = arguments[inputs:]
            ctx.save_for_backward(*save(arguments, outputs, options))
            ctx.set_materialize_grads(False)
            return outputs[0]

        @staticmethod
        def backward(ctx: Any, dy: torch.Tensor | None) -> Any:
            if is_grad_enabled():  # create_graph=True
                return back(ctx, dy, gradient_once)
            if dy is None or not is_plain(dy):
                return back(ctx, dy, kernel.operator_backward)
            wanted = ctx.needs_input_grad[1:]
            found = gradient(dy, wanted, *ctx.saved_tensors, *ctx.options)
            return (None, *found) if len(found) == len(wanted) else spread(wanted, found)

    function: Any = _named(Recorded, kernel.name)
    return super(torch.autograd.Function, function).apply  # type: ignore[misc, no-any-return]


def _gradient_function(kernel: _Kernel) -> Callable[..., Any]:
    """The operator of the gradient, whose own gradient is refused."""

    class Gradient(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(*arguments: Any) -> tuple[torch.Tensor, ...]:
            return tuple(kernel.operator_backward(*arguments))

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            pass

        @staticmethod
        def backward(ctx: Any, *_: Any) -> Any:
            raise RuntimeError(f"the gradient of onepass's {kernel.name} is differentiable once")

    return _named(Gradient, kernel.name).apply


def _transformed_function(kernel: _Kernel, gradient_once: Callable[..., Any]) -> Callable[..., Any]:
    """For `torch.func`: the operators of what a transform has unwrapped."""

    class Transformed(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(*arguments: Any) -> Any:
            return kernel.operator(*arguments)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            kernel.keep_traced(ctx, inputs, output)
            if kernel.results > 1:
                ctx.mark_non_differentiable(*output[1:])

        @staticmethod
        def backward(ctx: Any, dy: torch.Tensor | None, *_: Any) -> tuple[Any, ...]:
            return kernel.back_traced(ctx, gradient_once, dy)

    return _named(Transformed, kernel.name).apply
