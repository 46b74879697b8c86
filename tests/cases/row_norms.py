"""The norms over rows, one record each: what a row is, and what is fused behind it."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from onepass import ops

from ._case import (
    Case,
    Steps,
    backward_only,
    cancelling,
    functional,
    fused,
    gradients,
    has_torch,
    normal,
    quiet,
    summed,
    tensor_of,
    torch,
    total,
    vector,
    widest,
    without_grad,
)
from ._norm import NormRivals
from .channels import (
    BACKWARD,
    DROPPED,
    EPILOGUES,
    FORWARD,
    epilogue,
    epilogue_backward,
    per_channel,
    rival_epilogue,
    torch_epilogue,
)


class Rows:
    """y = dropout(act(xh·w + b + r)), xh = (x - mean)/√(mean of squares of that + eps), per row.

    `rows` of x are the last axes of x.reshape(rows, -1). `wide` shapes a weight to x. A norm with
    another formula is a subclass.
    """

    centres = True  # False leaves the mean out, and there is no bias

    def factor(self, flat, eps):
        """Of each row, by which x - mean becomes xh."""
        return 1 / np.sqrt((flat**2).mean(axis=1, keepdims=True) + eps)

    def slope(self, gw, xh):
        """Of each row, how much of xh the gradient of xh loses."""
        return (gw * xh).mean(axis=1, keepdims=True)

    @quiet
    def __init__(self, x, weight, bias, residual, rows, wide, eps, activation=None,
                 dropout_p=0.0, seed=0, offset=0, first=0):  # fmt: skip
        self.shape, self.rows = x.shape, rows
        self.n = x.size // rows if rows else 0
        flat = x.reshape(rows, self.n)
        if self.centres and x.size:
            d = flat - flat[:, :1]  # a constant row has variance 0 exactly
            flat = d - d.mean(axis=1, keepdims=True)
            self.mean = (x.reshape(rows, self.n)[:, :1] + d.mean(axis=1, keepdims=True))[:, 0]
        self.invstd = self.factor(flat, eps) if x.size else np.ones((rows, 1))
        self.xh = (flat * self.invstd).reshape(x.shape)
        self.weight, self.bias, self.residual = weight, bias, residual
        self.wide = wide
        z = self.xh
        if weight is not None:
            z = z * wide(weight)
        if bias is not None:
            z = z + wide(bias)
        if residual is not None:
            z = z + residual
        self.z = z
        self.tail = (activation, dropout_p, seed, offset, first)
        self.y = epilogue(z, *self.tail)

    @quiet
    def backward(self, dy):
        """(dx, dweight, dbias, dresidual), None where the input was None."""
        g = epilogue_backward(dy, self.z, *self.tail)
        gw = (g if self.weight is None else g * self.wide(self.weight)).reshape(self.rows, self.n)
        xh = self.xh.reshape(self.rows, self.n)
        inner = gw - xh * self.slope(gw, xh) if self.n else gw
        if self.centres and self.n:
            inner = inner - gw.mean(axis=1, keepdims=True)
        dx = (inner * self.invstd).reshape(self.shape)

        def shared(terms, like):
            return None if like is None else _shared(terms, self.wide, like)

        residual = None if self.residual is None else g
        return dx, shared(g * self.xh, self.weight), shared(g, self.bias), residual


class RmsRows(Rows):
    centres = False


def _shared(terms, wide, like):
    """The sums of terms over the elements that share an element of a weight."""
    shape = wide(like).shape
    shape = (1,) * (terms.ndim - len(shape)) + shape
    axes = tuple(i for i in range(terms.ndim) if shape[i] == 1 and terms.shape[i] != 1)
    return total(terms, axes).reshape(like.shape)


# ------------------------------------------------------------------------------- what a row is


def _last(x, axes=1, **_):
    """Rows along the last axes: (rows, shape of a weight, wide)."""
    return math.prod(x.shape[: x.ndim - axes]), x.shape[x.ndim - axes :], lambda v: v


def _groups(x, num_groups=None, **_):
    groups = num_groups or math.gcd(x.shape[1], 4)
    return x.shape[0] * groups, x.shape[1:2], lambda v: per_channel(v, x.ndim, 1)


def _maps(x, **_):
    return x.shape[0] * x.shape[1], x.shape[1:2], lambda v: per_channel(v, x.ndim, 1)


@dataclasses.dataclass(frozen=True)
class RowNorm(NormRivals):
    """One norm over rows. No field has a default: an incomplete record cannot be made.

    name        of the function in onepass.ops, with its <name>_backward
    rows        rows(x, **options) -> (number of rows, shape of a weight, its shape beside x)
    call        call(op, x, weight, bias, **options): op with what the function takes
    torch       torch(x, weight, bias, **options) -> y before residual and epilogue
    reference   Rows, or a subclass with the formula of x̂
    options     to sweep; "with_affine" and "with_residual" choose inputs
    shapes      for the tests; the first dozen around the vector width
    bench_shapes
    """

    name: str
    rows: Callable[..., Any]
    call: Callable[..., Any]
    torch: Callable[..., Any]
    reference: type[Rows]
    options: list[dict[str, Any]]
    shapes: list[tuple[int, ...]]
    bench_shapes: list[tuple[int, ...]]

    def _reference(self, x, w, b, residual, *, eps=None, axes=1, num_groups=None, **tail):
        rows, _, wide = self.rows(x, axes=axes, num_groups=num_groups)
        if eps is None:
            eps = inspect.signature(getattr(ops, self.name)).parameters["eps"].default
        return self.reference(x, w, b, residual, rows, wide, eps, **tail)

    def _make(self, rng, shape, dtype, with_residual=False, with_affine=True, axes=1,
              num_groups=None, **_):  # fmt: skip
        x = normal(rng, shape, dtype) * np.asarray(1.5, dtype) + np.asarray(0.75, dtype)
        of_weight = self.rows(x, axes=axes, num_groups=num_groups)[1]
        n = math.prod(of_weight)
        w = vector(rng, n, dtype).reshape(of_weight) if with_affine else None
        b = (
            vector(rng, n, dtype, -1, 1).reshape(of_weight)
            if with_affine and self.reference.centres
            else None
        )
        return x, w, b, normal(rng, shape, dtype) if with_residual else None

    def _torch(self, x, w, b, residual, *, activation=None, dropout_p=0.0, seed=0, offset=0,
               first=0, **options):  # fmt: skip
        z = self.torch(x, w, b, **options) if x.numel() else x * 1
        z = z if residual is None else z + residual
        return torch_epilogue(z, activation, dropout_p, seed, offset, first)

    def _shown(self, found, residual):
        """Of (dx, dweight, dbias, dresidual) what the function returns."""
        dx, dweight, dbias, dresidual = found
        shown = (dx, dweight, dbias) if self.reference.centres else (dx, dweight)
        return shown if residual is None else (*shown, dresidual)

    def _rival(self, inputs, *, activation=None, dropout_p=0.0, seed=0, **options):
        w, b, residual = (tensor_of(a) for a in inputs[1:])
        w, b = (None if a is None else a.requires_grad_() for a in (w, b))

        def forward(x):
            z = self.torch(x, w, b, **options)
            z = z if residual is None else z + residual
            return rival_epilogue(z, activation, dropout_p)

        return forward, [w, b]

    def cases(self) -> Iterator[Case]:
        op, op_backward = getattr(ops, self.name), getattr(ops, f"{self.name}_backward")

        def make_backward(rng, shape, dtype, **options):
            return normal(rng, shape, dtype), *self._make(rng, shape, dtype, **options)

        def expect_backward(dy, x, w, b, residual, **options):
            return self._shown(self._reference(x, w, b, residual, **options).backward(dy), residual)

        def torch_backward(dy, x, w, b, residual, **options):
            y = self._torch(x, w, b, residual, **options)
            return self._shown(gradients(y, dy, [x, w, b, residual]), residual)

        yield Case(
            self.name,
            "row_norm",
            lambda x, w, b, residual, **more: self.call(op, x, w, b, residual=residual, **more)[0],
            self._make,
            lambda x, w, b, residual, **options: self._reference(x, w, b, residual, **options).y,
            self._torch,
            fused(NORMALISED, FORWARD, DROPPED, sums=8),
            lambda s: 2 * s,
            self.shapes,
            self.bench_shapes,
            self._rivals,
            self.options,
            out=True,
        )
        yield Case(
            f"{self.name}_backward",
            "row_norm",
            lambda dy, saved, out=None, **_: op_backward(dy, saved, out=out),
            make_backward,
            expect_backward,
            torch_backward,
            widest(
                dx=cancelling(fused(NORMALISED, BACKWARD, DROPPED + CORRECTED, sums=8)),
                dweight=summed(fused(NORMALISED, BACKWARD, DROPPED + TERM, sums=8)),
            ),
            lambda s: 3 * s,
            # Of one or two values in a row nothing is left of dx: test_row_norms.py has them alone.
            [s for s in self.shapes if self._length(s) > 2 or not math.prod(s)],
            self.bench_shapes,
            self._rivals_backward,
            self.options,
            prepare=lambda dy, x, w, b, residual, **more: (
                dy,
                self.call(op, x, w, b, residual=residual, **more)[1],
            ),
            out=True,
            alias=(0,),
            both=self._both,
            sums=True,
        )

    def _length(self, shape):
        """The shortest row of a shape, whatever the options."""
        return min(
            math.prod(shape) / max(1, self.rows(np.empty(shape), **options)[0])
            for options in self.options
        )


# ((x - mean)·rstd + offset)·weight + bias as kernels/layer_norm.h computes it. Eight squares are
# added in the computing type: eight roundings on the way of one, one of its difference and one of
# the square; a root keeps half of that.
RSTD = ("rstd: its sum of squares, halved by the root, and its rounding", 6)
HAT = [("x - mean", 1), RSTD, ("product", 1), ("offset and its sum", 2)]
NORMALISED = Steps([*HAT, ("weight", 1), ("bias", 1), ("residual", 1)])
# One term of Σ g·x̂.
TERM = Steps([*HAT, ("product", 1)])
# dx = rstd·(g·w - level - x̂·slope).
CORRECTED = Steps(
    [("g·w", 1), ("level and its difference", 2), *HAT, ("slope", 1), ("their product", 1),
     ("the difference", 1), RSTD, ("product", 1)]
)  # fmt: skip

SHAPES = [(2, 3), (4, 7), (3, 8), (9, 9), (5, 31), (2, 33), (33, 17), (65, 129), (2, 1025)]
SHAPES += [(1031, 67), (0, 3), (3, 5, 4), (2, 3, 7, 7), (2, 16400), (3, 2, 70)]
IMAGES = [(2, 4, 3), (3, 8, 5), (2, 6, 7, 7), (4, 7, 5, 3), (3, 16, 9), (2, 67, 33), (0, 3, 2, 2)]
IMAGES += [(2, 3, 2, 3, 2), (2, 2, 149, 151), (5, 129, 7, 7), (1, 4, 8, 8), (40, 5, 9)]
IMAGES += [(70, 12, 3), (2, 1030, 3)]  # several blocks of outer; more channels than a chunk
BENCH = [(8192, 1024), (512, 4096), (4096, 64), (256, 768)]
BENCH_IMAGES = [(32, 64, 56, 56), (64, 256, 14, 14), (8, 512, 7, 7)]
MORE = [
    {"activation": "relu", "with_residual": True},
    {"with_affine": False, "activation": "gelu", "dropout_p": 0.5, "seed": 4, "offset": 11,
     "with_residual": True},
    {"with_residual": True, "eps": 1e-2, "dropout_p": 0.2},
    {"with_affine": False, "activation": "leaky_relu"},
]  # fmt: skip


def _shaped(op, x, weight, bias, *, axes=1, **more):
    shape = tuple(x.shape[len(x.shape) - axes :])
    return op(x, shape, weight, bias, **more)


def _shaped_without_bias(op, x, weight, _, *, axes=1, **more):
    return op(x, tuple(x.shape[len(x.shape) - axes :]), weight, **more)


def _grouped(op, x, weight, bias, *, num_groups=None, **more):
    return op(x, num_groups or math.gcd(x.shape[1], 4), weight, bias, **more)


NORMS = [
    RowNorm(
        "layer_norm",
        rows=_last,
        call=_shaped,
        torch=lambda x, w, b, axes=1, eps=1e-5: functional.layer_norm(
            x, x.shape[x.ndim - axes :], w, b, eps
        ),
        reference=Rows,
        options=[*EPILOGUES, *MORE, {"axes": 2, "activation": "tanh"}],
        shapes=SHAPES,
        bench_shapes=BENCH,
    ),
    RowNorm(
        "rms_norm",
        rows=_last,
        call=_shaped_without_bias,
        torch=lambda x, w, b, axes=1, eps=1e-5: functional.rms_norm(
            x, x.shape[x.ndim - axes :], w, eps
        ),
        reference=RmsRows,
        # eps=None is machine epsilon: test_row_norms.py.
        options=[{"eps": 1e-5}, *({"eps": 1e-5} | more for more in MORE), {"axes": 2, "eps": 1e-5}],
        shapes=SHAPES,
        bench_shapes=BENCH,
    ),
    RowNorm(
        "group_norm",
        rows=_groups,
        call=_grouped,
        torch=lambda x, w, b, num_groups=None, eps=1e-5: functional.group_norm(
            x, num_groups or math.gcd(x.shape[1], 4), w, b, eps
        ),
        reference=Rows,
        options=[{}, *MORE, {"num_groups": 1, "activation": "silu"}],
        # The last: a row of two tiles of channels.
        shapes=[*IMAGES, (3, 12), (33, 64), (2, 16, 20, 20)],
        bench_shapes=BENCH_IMAGES,
    ),
    RowNorm(
        "instance_norm",
        rows=_maps,
        call=lambda op, x, weight, bias, **more: op(x, None, None, weight, bias, **more),
        torch=lambda x, w, b, eps=1e-5: functional.instance_norm(
            x, None, None, w, b, True, 0.1, eps
        ),
        reference=Rows,
        options=[{}, *MORE],
        shapes=IMAGES,
        bench_shapes=BENCH_IMAGES,
    ),
]  # fmt: skip


# ------------------------------------------------------------------------------------ weight_norm


@quiet
def weight_norm(v, g, dim=0):
    others = tuple(i for i in range(v.ndim) if i != dim % v.ndim)
    norm = np.sqrt((v**2).sum(axis=others, keepdims=True))
    return per_channel(g, v.ndim, dim) * (v / norm)


@quiet
def weight_norm_backward(dw, v, g, dim=0):
    others = tuple(i for i in range(v.ndim) if i != dim % v.ndim)
    norm = np.sqrt((v**2).sum(axis=others, keepdims=True))
    unit = v / norm
    along = (dw * unit).sum(axis=others, keepdims=True)
    return per_channel(g, v.ndim, dim) / norm * (dw - unit * along), along.reshape(-1)


def _torch_weight_norm(v, g, dim=0):
    shape = [1] * v.ndim
    shape[dim] = -1
    return torch._weight_norm(v, g.reshape(shape), dim)


def _weight_rows() -> Iterator[Case]:
    def make(rng, shape, dtype, dim=0, **_):
        return normal(rng, shape, dtype), vector(rng, shape[dim], dtype)

    def make_backward(rng, shape, dtype, dim=0, **_):
        return normal(rng, shape, dtype), *make(rng, shape, dtype, dim)

    shapes = [(4, 3), (7, 31), (3, 33), (65, 129), (1, 1025), (1031, 8), (5, 3, 3, 3), (2, 9001)]
    options = [{}, {"dim": 1}]
    bench = [(1024, 1024), (256, 128, 3, 3)]

    def rivals(inputs, keywords):
        if not has_torch():
            return {}
        tensors = [tensor_of(a) for a in inputs]
        return {"torch": without_grad(lambda v, g: _torch_weight_norm(v, g, **keywords), *tensors)}

    def rivals_backward(inputs, keywords):
        if not has_torch():
            return {}
        dw, v, g = inputs
        g = tensor_of(g).requires_grad_()
        return {"torch": backward_only(lambda v: _torch_weight_norm(v, g, **keywords), [g], v, dw)}

    forward = Steps([RSTD, ("product", 1), ("g", 1)])
    backward = Steps([RSTD, ("g·dw", 1), ("v̂, the sum and their product", 6), ("difference", 1),
                      RSTD, ("product", 1)])  # fmt: skip
    yield Case(
        "weight_norm", "row_norm", ops.weight_norm, make, weight_norm, _torch_weight_norm,
        fused(forward, FORWARD[:1], Steps([]), sums=8), lambda s: 2 * s, shapes, bench, rivals,
        options, sums=True,
    )  # fmt: skip
    yield Case(
        "weight_norm_backward",
        "row_norm",
        ops.weight_norm_backward,
        make_backward,
        weight_norm_backward,
        lambda dw, v, g, dim=0: gradients(_torch_weight_norm(v, g, dim), dw, [v, g]),
        widest(
            dv=cancelling(fused(backward, FORWARD[:1], Steps([]), sums=8)),
            dg=summed(
                fused(Steps([*forward.steps, ("product", 1)]), FORWARD[:1], Steps([]), sums=8)
            ),
        ),
        lambda s: 3 * s,
        [s for s in shapes if s[0] > 1],  # of one value in a slice nothing is left of dv
        bench,
        rivals_backward,
        options,
        sums=True,
    )


def rows() -> Iterator[Case]:
    for record in NORMS:
        yield from record.cases()
    yield from _weight_rows()
