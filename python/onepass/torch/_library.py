"""Operators of ``torch.ops.onepass``, and functions with a gradient made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable

# Operators live as long as this.
LIBRARY = torch.library.Library("onepass", "DEF")  # type: ignore[no-untyped-call]

Tensors = Sequence["torch.Tensor | None"]

# A name of a module is looked up in half the time of one through two others.
is_grad_enabled, is_compiling = torch.is_grad_enabled, torch.compiler.is_compiling
_PLAIN = (torch.Tensor, torch.nn.Parameter)
_modes = torch._C._len_torch_dispatch_stack
_transforms = torch._C._are_functorch_transforms_active
_trace = torch._C._get_tracing_state


def is_plain(x: torch.Tensor) -> bool:
    """Whether ``x`` is memory that a kernel may read now, with nobody recording what happens.

    Not so: in a graph of `torch.compile`, `torch.export`, `make_fx` or `torch.jit.trace`, under
    transforms of `torch.func`, for fake and meta tensors and other subclasses.
    """
    if is_compiling():
        return False
    plain = type(x) in _PLAIN and (x.is_cpu or x.is_cuda)
    return plain and not _modes() and not _transforms() and _trace() is None


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
        count = inputs.count("Tensor")
        tail = f", {options}" if options else ""
        given = ", ".join(["Tensor"] * results)
        made = f"({given})" if results > 1 else given
        functions = [_single(function, results) for function in (pure or run, fake)]
        define(name, f"({inputs}{tail}) -> {made}", *functions)
        schema = f"(Tensor dy, bool[] wanted, {saved}{tail}) -> Tensor[]"
        define(f"{name}_backward", schema, pure_gradient or gradient, fake_gradient)
        operator = getattr(torch.ops.onepass, name)
        operator_backward = getattr(torch.ops.onepass, f"{name}_backward")

        def keep(ctx: Any, arguments: Sequence[Any], results: Sequence[torch.Tensor]) -> None:
            ctx.options = arguments[count:]
            ctx.save_for_backward(*save(arguments, results, ctx.options))
            ctx.set_materialize_grads(False)

        def keep_traced(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            keep(ctx, inputs, output if results > 1 else (output,))

        def back_traced(ctx: Any, call: Callable[..., Any], dy: Any) -> tuple[Any, ...]:
            grads: list[Any] = [None] * (count + len(ctx.options))
            if dy is not None:
                wanted = [ctx.needs_input_grad[i] for i in differentiable]
                places = [i for i in differentiable if ctx.needs_input_grad[i]]
                found = call(dy, wanted, *ctx.saved_tensors, *ctx.options)
                for place, grad in zip(places, found, strict=True):
                    grads[place] = grad
            return tuple(grads)

        torch.library.register_autograd(
            f"onepass::{name}",
            lambda ctx, dy, *_: back_traced(ctx, operator_backward, dy),
            setup_context=keep_traced,
            lib=LIBRARY,
        )

        def back(ctx: Any, dy: torch.Tensor | None) -> tuple[Any, ...]:
            wanted = ctx.needs_input_grad[1:]
            if dy is None:
                return (None,) * (1 + len(wanted))
            call = gradient if is_plain(dy) else operator_backward
            return spread(wanted, call(dy, wanted, *ctx.saved_tensors, *ctx.options))

        def spread(wanted: Sequence[bool], found: list[torch.Tensor]) -> tuple[Any, ...]:
            each = iter(found)
            return (None, *(next(each) if want else None for want in wanted))

        back_once = once_differentiable(back)  # type: ignore[no-untyped-call]

        class Recorded(torch.autograd.Function):
            """Of (all arguments, *those with a gradient): each of its own costs half a µs."""

            @staticmethod
            def forward(ctx: Any, arguments: tuple[Any, ...], *_: Any) -> torch.Tensor:
                outputs = run(*arguments)
                keep(ctx, arguments, outputs)
                return outputs[0]

            @staticmethod
            def backward(ctx: Any, dy: torch.Tensor | None) -> Any:
                # `once_differentiable` costs two microseconds, and matters with create_graph=True.
                if is_grad_enabled():
                    return back_once(ctx, dy)
                if dy is None or not is_plain(dy):
                    return back(ctx, dy)
                wanted = ctx.needs_input_grad[1:]
                found = gradient(dy, wanted, *ctx.saved_tensors, *ctx.options)
                return (None, *found) if len(found) == len(wanted) else spread(wanted, found)

        class Gradient(torch.autograd.Function):
            generate_vmap_rule = True

            @staticmethod
            def forward(*arguments: Any) -> tuple[torch.Tensor, ...]:
                return tuple(operator_backward(*arguments))

            @staticmethod
            def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
                pass

            @staticmethod
            def backward(ctx: Any, *_: Any) -> Any:
                raise RuntimeError(f"the gradient of onepass's {name} is differentiable once")

        class Transformed(torch.autograd.Function):
            """For `torch.func`: the operators of what a transform has unwrapped."""

            generate_vmap_rule = True

            @staticmethod
            def forward(*arguments: Any) -> Any:
                return operator(*arguments)

            @staticmethod
            def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
                keep_traced(ctx, inputs, output)
                if results > 1:
                    ctx.mark_non_differentiable(*output[1:])

            @staticmethod
            def backward(ctx: Any, dy: torch.Tensor | None, *_: Any) -> tuple[Any, ...]:
                return back_traced(ctx, Gradient.apply, dy)

        for function in (Recorded, Gradient, Transformed):
            function.__name__ = function.__qualname__ = f"onepass.{name}"
        for operation in (operator, operator_backward):
            torch.library.register_vmap(operation.default, _one_by_one(operation), lib=LIBRARY)
        self.results, self.differentiable = results, differentiable
        self.run, self.operator = run, operator
        self.recorded, self.transformed = Recorded.apply, Transformed.apply

    def __call__(self, *arguments: Any) -> torch.Tensor:
        return self.plain(*arguments) if is_plain(arguments[0]) else self.traced(*arguments)[0]

    def plain(self, *arguments: Any) -> torch.Tensor:
        """The first result, of the extension."""
        if not is_grad_enabled():
            return self.run(*arguments)[0]
        inputs = [arguments[i] for i in self.differentiable]
        return self.recorded(arguments, *inputs)  # type: ignore[no-any-return,no-untyped-call]

    def traced(self, *arguments: Any) -> tuple[torch.Tensor, ...]:
        """All results, of the operator."""
        compiling = torch.compiler.is_compiling()
        transformed = not compiling and _transforms()
        results = (self.transformed if transformed else self.operator)(*arguments)
        return results if self.results > 1 else (results,)


def _single(function: Callable[..., Any], results: int) -> Callable[..., Any]:
    return function if results > 1 else lambda *arguments: function(*arguments)[0]


def _one_by_one(operation: Callable[..., Any]) -> Callable[..., Any]:
    """The rule of `torch.vmap`: a call for each, whose results are stacked."""

    def rule(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        def call(i: int) -> Any:
            given = zip(arguments, in_dims, strict=True)
            return operation(*(a.select(d, i) if isinstance(d, int) else a for a, d in given))

        found = [call(i) for i in range(info.batch_size)]
        if isinstance(found[0], torch.Tensor):
            return torch.stack(found), 0
        made = type(found[0])(map(torch.stack, zip(*found, strict=True)))
        return made, type(made)([0] * len(made))

    return rule
