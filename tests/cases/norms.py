"""The norms, one record each: statistics, scale and shift, and what is fused behind them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from onepass import ops

from ._case import (
    Case,
    Steps,
    Tolerance,
    cancelling,
    functional,
    fused,
    gradients,
    normal,
    quiet,
    summed,
    tensor_of,
    torch,
    total,
    vector,
    widest,
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


class BatchNorm:
    """y = dropout(act(xh·w + b + r)): Ioffe & Szegedy, Batch Normalization, 2015, as in PyTorch.

    Computed once for forward and backward; see `y`, `running_mean`, `running_var`, `backward(dy)`.
    """

    @quiet
    def __init__(
        self,
        x,
        weight,
        bias,
        running_mean,
        running_var,
        *,
        training,
        momentum=0.1,
        eps=1e-5,
        residual=None,
        activation=None,
        dropout_p=0.0,
        seed=0,
        offset=0,
        first=0,
        channels_last=False,
    ):
        self.axis = x.ndim - 1 if channels_last else 1
        self.others = tuple(i for i in range(x.ndim) if i != self.axis)
        self.batch_statistics = training
        self.n = n = x.size // x.shape[self.axis] if x.size else 0
        self.running_mean, self.running_var = running_mean, running_var
        if training and n:
            # Shifted by one sample of the channel: a constant channel has variance 0 exactly.
            shift = np.moveaxis(x, self.axis, 0).reshape(x.shape[self.axis], -1)[:, 0]
            d = x - self._wide(x, shift)
            moved = d.mean(axis=self.others)
            centred = d - self._wide(x, moved)
            mean, var = shift + moved, (centred**2).mean(axis=self.others)
            if running_mean is not None:
                self.running_mean = (1 - momentum) * running_mean + momentum * mean
            if running_var is not None:
                self.running_var = (1 - momentum) * running_var + momentum * var * n / (n - 1)
        elif training:  # an empty batch changes nothing
            mean, var, centred = np.zeros(x.shape[self.axis]), np.ones(x.shape[self.axis]), x
        else:
            mean, var = running_mean, running_var
            centred = x - self._wide(x, mean)
        self.mean, self.var = mean, var
        self.invstd = 1 / np.sqrt(var + eps)
        self.xh = centred * self._wide(x, self.invstd)
        self.weight, self.bias, self.residual = weight, bias, residual
        z = self.xh
        if weight is not None:
            z = z * self._wide(x, weight)
        if bias is not None:
            z = z + self._wide(x, bias)
        if residual is not None:
            z = z + residual
        self.z = z
        self.tail = (activation, dropout_p if training else 0.0, seed, offset, first)
        self.y = epilogue(z, *self.tail)

    def _wide(self, x, v):
        return per_channel(v, x.ndim, self.axis)

    @quiet
    def backward(self, dy):
        """(dx, dweight, dbias, dresidual), None where the input was None."""
        g = epilogue_backward(dy, self.z, *self.tail)
        dbias = total(g, self.others)
        dweight = total(g * self.xh, self.others)
        w = 1.0 if self.weight is None else self._wide(dy, self.weight)
        if self.batch_statistics and self.n:
            inner = self.n * g - self._wide(dy, dbias) - self.xh * self._wide(dy, dweight)
            dx = w * self._wide(dy, self.invstd) / self.n * inner
        else:
            dx = g * w * self._wide(dy, self.invstd)
        return (
            dx,
            None if self.weight is None else dweight,
            None if self.bias is None else dbias,
            None if self.residual is None else g,
        )


class BatchRenorm(BatchNorm):
    """y = dropout(act((xh·r + d)·w + b + residual)): Ioffe, Batch Renormalization, 2017.

    Batch norm by the weight w·r and the bias b + w·d, r and d being constants backward.
    """

    @quiet
    def __init__(
        self, x, weight, bias, running_mean, running_var, *, training, rmax=3.0, dmax=5.0, eps=1e-5,
        channels_last=False, **options,
    ):  # fmt: skip
        options |= {"training": training, "eps": eps, "channels_last": channels_last}
        w = np.ones_like(running_mean) if weight is None else weight
        b = np.zeros_like(running_mean) if bias is None else bias
        self.r, self.d = np.ones_like(running_mean), np.zeros_like(running_mean)
        if training and x.size:
            plain = BatchNorm(x, None, None, None, None, training=True, eps=eps,
                              channels_last=channels_last)  # fmt: skip
            std = np.sqrt(running_var + eps)
            self.r = np.clip(np.sqrt(plain.var + eps) / std, 1 / rmax, rmax)
            self.d = np.clip((plain.mean - running_mean) / std, -dmax, dmax)
        super().__init__(x, w * self.r, b + w * self.d, running_mean, running_var, **options)
        self.given = weight is not None, bias is not None

    @quiet
    def backward(self, dy):
        dx, product, dbias, dresidual = super().backward(dy)
        dweight = self.r * product + self.d * dbias
        with_weight, with_bias = self.given
        return dx, dweight if with_weight else None, dbias if with_bias else None, dresidual


@dataclasses.dataclass(frozen=True)
class Norm(NormRivals):
    """One norm. No field has a default: an incomplete record cannot be made.

    name        of the function in onepass.ops, with its <name>_backward
    tracks      training reads the running statistics: no call goes without, and so a backward row
                moves them, forward being a part of it
    reference   reference(x, weight, bias, running_mean, running_var, residual=…, **options) in
                float64, with `y`, `running_mean`, `running_var` and `backward(dy)`
    options     to sweep; "with_affine", "with_running" and "with_residual" choose inputs
    bench       options of the benchmark
    forward, backward   how exact they are: `fused` adds up the roundings of what stands before the
                        activation, of the activation and of what follows; `cancelling` and
                        `summed` allow for differences and for sums over a channel; `widest` takes
                        the larger. `sums` is 8 in float64, where the formula rounds as often
                        and NumPy adds in another order
    torch       torch(x, weight, bias, running_mean, running_var, **options) -> y before residual
                and epilogue; running statistics are updated in place
    """

    name: str
    tracks: bool
    reference: Callable[..., Any]
    options: list[dict[str, Any]]
    bench: dict[str, Any]
    forward: Tolerance
    backward: Tolerance
    torch: Callable[..., Any]

    def call(self, op, *inputs, **options):
        return op(*inputs, **options)

    def _torch(self, x, w, b, mean, var, residual, *, training, channels_last=False,
               activation=None, dropout_p=0.0, seed=0, offset=0, first=0,
               **options):  # fmt: skip
        mean, var = (None if a is None else a.detach().clone() for a in (mean, var))
        z = x.movedim(-1, 1) if channels_last else x
        z = self.torch(z, w, b, mean, var, training, **options) if x.numel() else z * 1
        z = z.movedim(1, -1) if channels_last else z
        z = z if residual is None else z + residual
        return (
            torch_epilogue(z, activation, dropout_p if training else 0.0, seed, offset, first),
            mean,
            var,
        )

    def _torch_backward(self, dy, x, w, b, mean, var, residual, **options):
        y, *moved = self._torch(x, w, b, mean, var, residual, **options)
        found = gradients(y, dy, [x, w, b, residual])
        return (*(found if residual is not None else found[:3]), *(moved if self.tracks else ()))

    def _rival(self, inputs, *, training, channels_last=False, activation=None, dropout_p=0.0,
               seed=0, **options):  # fmt: skip
        """PyTorch's forward as a function of x, and the leaves that it reads besides."""
        w, b, mean, var, residual = (tensor_of(a) for a in inputs[1:])
        w, b = (None if a is None else a.requires_grad_() for a in (w, b))

        def forward(x):
            z = x.movedim(-1, 1) if channels_last else x
            z = self.torch(z, w, b, mean, var, training, **options)
            z = z.movedim(1, -1) if channels_last else z
            z = z if residual is None else z + residual
            return rival_epilogue(z, activation, dropout_p)

        return forward, [w, b]

    def rows(self) -> Iterator[Case]:
        op, op_backward = getattr(ops, self.name), getattr(ops, f"{self.name}_backward")

        def run(x, w, b, mean, var, residual, **options):
            return op(x, w, b, mean, var, residual=residual, **options)[0]

        def forward(dy, x, w, b, mean, var, residual, **options):
            if options["training"] and not self.tracks:  # outputs, which are not this row's
                mean = var = None
            return dy, op(x, w, b, mean, var, residual=residual, **options)[1]

        def expect(x, w, b, mean, var, residual, **options):
            norm = self.reference(x, w, b, mean, var, residual=residual, **options)
            return norm.y, norm.running_mean, norm.running_var

        def expect_backward(dy, x, w, b, mean, var, residual, **options):
            norm = self.reference(x, w, b, mean, var, residual=residual, **options)
            moved = (norm.running_mean, norm.running_var) if self.tracks else ()
            return (*norm.backward(dy)[: 3 if residual is None else 4], *moved)

        yield Case(
            self.name,
            "norm",
            run,
            _make,
            expect,
            self._torch,
            self.forward,
            lambda s: 2 * s,
            NORM_SHAPES,
            NORM_BENCH,
            self._rivals,
            self.options,
            self.bench,
            written=(3, 4),
            out=True,
        )
        yield Case(
            f"{self.name}_backward",
            "norm",
            lambda dy, saved, out=None, **_: op_backward(dy, saved, out=out),
            _make_backward,
            expect_backward,
            self._torch_backward,
            self.backward,
            lambda s: 3 * s,
            # Of two values in a channel nothing is left of dx: test_batch_norm has them alone.
            [s for s in NORM_SHAPES if math.prod(s) != 2 * s[1]] + [(4, 1), (3, 1025)],
            NORM_BENCH,
            self._rivals_backward,
            self.options,
            self.bench,
            written=(4, 5) if self.tracks else (),
            prepare=forward,
            out=True,
            alias=(0,),
            both=self._both,
        )


# One value a channel is an error in training, hence no (1, C).
NORM_SHAPES = [(2, 1), (4, 3), (33, 17), (2, 1025), (65, 129), (1031, 67), (0, 3), (0, 3, 2, 2)]
NORM_SHAPES += [(3, 5, 1, 1), (1, 2, 2), (2, 3, 7, 7), (4, 7, 5, 3), (3, 16, 9), (2, 67, 33)]
NORM_SHAPES += [(2, 3, 2, 3, 2), (2, 2, 149, 151), (5, 513, 7, 7)]
NORM_BENCH = [(256, 1024), (64, 128), (32, 64, 56, 56), (64, 256, 14, 14), (8, 512, 7, 7)]


def _make(
    rng,
    shape,
    dtype,
    channels_last=False,
    with_residual=False,
    with_affine=True,
    with_running=True,
    **_,
):
    c = shape[1]
    x = normal(rng, shape, dtype) * np.asarray(1.5, dtype) + np.asarray(0.75, dtype)
    r = normal(rng, shape, dtype) if with_residual else None
    if channels_last:
        x, r = (None if a is None else np.moveaxis(a, 1, -1).copy() for a in (x, r))
    w = vector(rng, c, dtype) if with_affine else None
    b = vector(rng, c, dtype, -1, 1) if with_affine else None
    mean = vector(rng, c, dtype) if with_running else None
    var = vector(rng, c, dtype) if with_running else None
    return x, w, b, mean, var, r


def _make_backward(rng, shape, dtype, **options):
    inputs = _make(rng, shape, dtype, **options)
    return (normal(rng, inputs[0].shape, dtype), *inputs)


# (x - mean)·scale + shift as kernels/batch_norm.h computes it. Blocks of sixteen squares are added
# in the computing type: seven roundings on the way of one through the lanes of a half and the other
# half, one of its difference and one of the square; a root keeps half of that.
RSTD = ("rstd: its sum of squares, halved by the root, and its rounding", 6)
NORMALISED = Steps(
    [("x - mean", 1), RSTD, ("scale", 1), ("product", 1), ("shift and its sum", 2), ("residual", 1)]
)
# One term of Σ g·x̂.
TERM = Steps([("x - mean", 1), RSTD, ("two products", 2)])
# dx = scale·(g - level - (x - mean)·slope).
CORRECTED = Steps(
    [("level and its difference", 2), ("x - mean", 1), ("slope", 1), ("their product", 1),
     ("the difference", 1), RSTD, ("scale", 1), ("product", 1)]
)  # fmt: skip

# The scale by r, the shift by d.
R, D = Steps([("r", 1)]), Steps([("d", 1)])
RENORMALISED = NORMALISED + R + D
WIDE = {"rmax": 3.0, "dmax": 5.0}


def torch_batch_renorm(x, w, b, mean, var, training, momentum=0.1, eps=1e-5, rmax=3.0, dmax=5.0):
    """Batch norm by other weights."""
    if not training:
        return functional.batch_norm(x, mean, var, w, b, False, momentum, eps)
    with torch.no_grad():
        axes = [i for i in range(x.ndim) if i != 1]
        batch_var, batch_mean = torch.var_mean(x.to(var.dtype), axes, correction=0)
        std = torch.sqrt(var + eps)
        r = torch.clamp(torch.sqrt(batch_var + eps) / std, 1 / rmax, rmax)
        d = torch.clamp((batch_mean - mean) / std, -dmax, dmax)
    scale, shift = (r, d) if w is None else (w * r, w * d)
    shift = shift if b is None else shift + b
    return functional.batch_norm(x, mean, var, scale, shift, True, momentum, eps)


NORMS = [
    Norm(
        "batch_norm",
        tracks=False,
        reference=BatchNorm,
        options=[
            *({"training": True, **tail} for tail in EPILOGUES),
            {"training": True, "channels_last": True, "activation": "relu", "with_residual": True},
            {"training": True, "with_residual": True, "momentum": 0.3, "eps": 1e-2,
             "dropout_p": 0.2},
            {"training": True, "with_affine": False, "with_running": False, "channels_last": True,
             "activation": "gelu", "dropout_p": 0.5, "seed": 4, "offset": 11, "first": 77,
             "with_residual": True},
            {"training": True, "with_affine": False, "activation": "leaky_relu"},
            {"training": False, "activation": "relu", "dropout_p": 0.5, "with_residual": True},
            {"training": False, "channels_last": True, "activation": "tanh", "with_affine": False},
        ],
        bench={"training": True, "activation": "relu"},
        forward=fused(NORMALISED, FORWARD, DROPPED, sums=8),
        backward=widest(
            dx=cancelling(fused(NORMALISED, BACKWARD, DROPPED + CORRECTED, sums=8)),
            dweight=summed(fused(NORMALISED, BACKWARD, DROPPED + TERM, sums=8)),
        ),
        torch=lambda x, w, b, mean, var, training, momentum=0.1, eps=1e-5: functional.batch_norm(
            x, mean, var, w, b, training, momentum, eps
        ),
    ),
    Norm(
        "batch_renorm",
        tracks=True,
        reference=BatchRenorm,
        options=[
            # Within the limits, at one of them, and at both.
            *({"training": True, **WIDE, **tail} for tail in EPILOGUES),
            {"training": True, "rmax": 1.1, "dmax": 5.0, "channels_last": True,
             "activation": "relu", "with_residual": True},
            {"training": True, "rmax": 3.0, "dmax": 0.01, "with_residual": True, "momentum": 0.3,
             "eps": 1e-2, "dropout_p": 0.2},
            {"training": True, "rmax": 1.1, "dmax": 0.01, "with_affine": False,
             "channels_last": True, "activation": "gelu", "dropout_p": 0.5, "seed": 4, "offset": 11,
             "with_residual": True},
            {"training": True, "rmax": math.inf, "dmax": math.inf, "activation": "leaky_relu"},
            {"training": False, **WIDE, "activation": "relu", "dropout_p": 0.5,
             "with_residual": True},
        ],
        bench={"training": True, "activation": "relu", **WIDE},
        forward=fused(RENORMALISED, FORWARD, DROPPED, sums=8),
        backward=widest(
            dx=cancelling(fused(RENORMALISED, BACKWARD, DROPPED + CORRECTED + R, sums=8)),
            dweight=summed(fused(RENORMALISED, BACKWARD, DROPPED + TERM + R + D, sums=8)),
        ),
        torch=torch_batch_renorm,
    ),
]  # fmt: skip


def rows():
    for record in NORMS:
        yield from record.rows()
