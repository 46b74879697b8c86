"""The record of an activation, and the rows that follow."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from onepass import ops

from ._case import (
    BENCH,
    SHAPES,
    Case,
    Tolerance,
    backward_only,
    gradients,
    has_torch,
    normal,
    quiet,
    tensor_of,
    torch,
    without_grad,
)


@dataclasses.dataclass(frozen=True)
class Form:
    """Options to test an activation with, and its limits there.

    below, above               f(-Inf) and f(Inf)
    slope_below, slope_above   f'(-Inf) and f'(Inf)
    """

    options: dict[str, Any]
    below: float
    above: float
    slope_below: float
    slope_above: float


@dataclasses.dataclass(frozen=True)
class Torch:
    """PyTorch's counterpart on tensors.

    call       call(x, **options), differentiable: judges the formulas
    out        out(x, out, **options), into memory that is there: the rival in the benchmark
    gradient   gradient(dy, x, out, **options) -> a function of no arguments that writes to out

    None for out and gradient: the benchmark times `call` and its autograd.
    """

    call: Callable[..., Any]
    out: Callable[..., Any] | None
    gradient: Callable[..., Any] | None


@dataclasses.dataclass(frozen=True)
class Activation:
    """One activation. No field has a default: an incomplete record cannot be made.

    name        of the function in onepass.ops, with its <name>_backward
    f, slope    f(x, **options) and f'(x, **options) in float64 NumPy, as the paper writes them,
                without what the kernel does to get there, and without cancellation of their own
    forms       options to sweep, the defaults first, each with its limits at ±Inf; at least one
                form for each kernel
    kinks       where the slope jumps: finite differences stay away from there
    odd_at_0    f(-0) is -0
    forward     how exact f is: `roundings` says how to derive it from core/math.h
    backward    how exact dy·f'(x) is: one rounding more than the slope
    module      the class of onepass.nn, None if there is none
    torch       PyTorch's counterpart
    numpy       numpy(x, out): what a NumPy user writes, the benchmark's other rival, or None
    """

    name: str
    f: Callable[..., np.ndarray]
    slope: Callable[..., np.ndarray]
    forms: Sequence[Form]
    kinks: Sequence[float]
    odd_at_0: bool
    forward: Tolerance
    backward: Tolerance
    module: type | None
    torch: Torch
    numpy: Callable[[np.ndarray, np.ndarray], object] | None

    @quiet
    def reference(self, x, **options):
        return self.f(x, **options)

    @quiet
    def reference_backward(self, dy, x, **options):
        return dy * self.slope(x, **options)

    @property
    def op(self) -> Callable[..., Any]:
        return getattr(ops, self.name)

    @property
    def op_backward(self) -> Callable[..., Any]:
        return getattr(ops, f"{self.name}_backward")

    @property
    def reads_x(self) -> bool:
        """Whether the gradient depends on x at all."""
        slopes = np.asarray(self.slope(np.linspace(-4, 4, 9), **self.forms[0].options))
        return bool(np.ptp(slopes) > 0)

    def kernel(self, form: Form, known: Sequence[str]) -> str:
        """The name in _C.kernels() of what computes a form: an option may choose, as gelu's."""
        chosen = [f"{self.name}_{value}" for value in form.options.values()]
        return next((name for name in chosen if name in known), self.name)

    def rows(self) -> Iterator[Case]:
        options = [form.options for form in self.forms]
        yield Case(
            self.name,
            "activation",
            self.op,
            lambda rng, shape, dtype, **_: (normal(rng, shape, dtype, 3),),
            self.reference,
            self.torch.call,
            self.forward,
            lambda s: 2 * s,
            SHAPES,
            BENCH,
            self._rivals,
            options,
            out=True,
            alias=(0,),
        )
        yield Case(
            f"{self.name}_backward",
            "activation",
            self.op_backward,
            lambda rng, shape, dtype, **_: (
                normal(rng, shape, dtype),
                normal(rng, shape, dtype, 3),
            ),
            self.reference_backward,
            lambda dy, x, **o: gradients(self.torch.call(x, **o), dy, [x])[0],
            self.backward,
            lambda s: (3 if self.reads_x else 2) * s,
            SHAPES,
            BENCH,
            self._rivals_backward,
            options,
            out=True,
            alias=(0, 1),
        )

    def _rivals(self, inputs, keywords):
        if not has_torch():
            return {}
        x = tensor_of(inputs[0])
        if self.torch.out is None:
            return {"torch": without_grad(functools.partial(self.torch.call, **keywords), x)}
        out = torch.empty_like(x)
        return {"torch out=": functools.partial(self.torch.out, x, out, **keywords)}

    def _rivals_backward(self, inputs, keywords):
        if not has_torch():
            return {}
        dy, x = map(tensor_of, inputs)
        if self.torch.gradient is None:
            whole = functools.partial(self.torch.call, **keywords)
            return {"torch": backward_only(whole, [], inputs[1], inputs[0])}
        return {"torch out=": self.torch.gradient(dy, x, torch.empty_like(x), **keywords)}
