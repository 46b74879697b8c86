"""Muon: the step of a list of matrices, and the products that make a direction orthogonal.

Two launches do the elementwise work. The first (csrc/kernels/muon.h) computes the directions,
`Directions` orthogonalises them with the matrix products of the arrays' library, and SGD's kernel
adds them to the parameters. The first launch of ``optim.Muon`` also steps the other parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from onepass import _C
from onepass import _numbers as numbers
from onepass._array import Array, copy_into, empty, is_torch, library, parameter_dtype
from onepass.ops._declare_update import Arrays, Grads, shared_docs
from onepass.ops._ranges import RANGES, Limits, Range, several
from onepass.ops._step import controls_of, plain_sgd, row_of, take_step, was_skipped
from onepass.ops._step_info import StepInfo

MOMENTUM = Range(0, 1)  # of an average, as betas
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
Coefficients = tuple[float, float, float]
_ADJUSTMENTS: dict[str | None, Callable[[int, int], float]] = {
    None: lambda rows, columns: _ADJUSTMENTS["original"](rows, columns),
    "original": lambda rows, columns: math.sqrt(max(1.0, rows / max(1, columns))),
    "match_rms_adamw": lambda rows, columns: 0.2 * math.sqrt(max(rows, columns)),
}


class Iteration(NamedTuple):
    """How a direction is orthogonalised: options of a group that matrices of one batch share."""

    coefficients: Coefficients
    eps: float
    steps: int


class Matrices(NamedTuple):
    """The checked options of a group that concern its matrices.

    Attributes:
        hyper: of the kernel "muon", without the step.
    """

    lr: float
    weight_decay: float
    adjust_lr_fn: str | None
    iteration: Iteration
    hyper: tuple[float, ...]

    @classmethod
    def of(cls, owner: str, options: Mapping[str, Any]) -> Matrices:
        """Those of ``options``.

        Raises:
            ValueError, TypeError: naming the option, its value and what was expected.
        """

        def checked(name: str, limits: Limits) -> float:
            assert isinstance(limits, Range)
            return limits.check(owner, name, options[name])

        lr, decay = (checked(name, RANGES[name]) for name in ("lr", "weight_decay"))
        momentum = checked("momentum", MOMENTUM)
        nesterov = numbers.flag(owner, "nesterov", options["nesterov"])
        adjust = options["adjust_lr_fn"]
        if adjust is not None:
            numbers.one_of(owner, "adjust_lr_fn", adjust, [key for key in _ADJUSTMENTS if key])
        given = options["ns_coefficients"]
        a, b, c = several(owner, "ns_coefficients", given, (Range(),) * 3)
        steps = numbers.integer(owner, "ns_steps", options["ns_steps"], 0, 100)
        iteration = Iteration((a, b, c), checked("eps", Range(above=0)), steps)
        look = 1 - momentum if nesterov else 0.0
        hyper = row_of("muon", beta1=momentum, eps=1.0, look=look, matrix=1.0)
        return cls(lr, decay, adjust, iteration, hyper)

    def final(self, rows: int, columns: int) -> tuple[float, ...]:
        """Hyper-parameters of SGD: p = (1 - lr·weight_decay)·p - lr·adjusted·direction."""
        rate = self.lr * _ADJUSTMENTS[self.adjust_lr_fn](rows, columns)
        decay = self.lr * self.weight_decay / rate if rate > 0 else 0.0
        return plain_sgd(rate, decay, decoupled=True)


def matrix_shape(array: Array) -> tuple[int, int]:
    """(rows, columns) of an array of two axes or more, the axes behind the first taken together."""
    rows, *others = map(int, array.shape)
    return rows, math.prod(others)


class Directions:
    """Room for the directions of matrices, where those of equal shape lie in one stack.

    Args:
        params: arrays of two axes or more.

    Attributes:
        arrays: for each of them its direction, of its shape and of the computing type.
    """

    def __init__(self, params: Sequence[Array]) -> None:
        self._params = list(params)
        members: dict[Any, list[int]] = {}
        for index, p in enumerate(self._params):
            where = (library(p), str(getattr(p, "device", "cpu")), str(parameter_dtype(p)))
            members.setdefault((*where, matrix_shape(p)), []).append(index)
        self.arrays: list[Array] = [None] * len(self._params)
        self._stacks: list[tuple[Array, list[int]]] = []
        for (*_, shape), indices in members.items():
            like = self._params[indices[0]]
            stack = empty((len(indices), *shape), parameter_dtype(like), like)
            copy_into(stack, 0.0)
            if math.prod(shape) > 0:
                self._stacks.append((stack, indices))
            for place, index in enumerate(indices):
                self.arrays[index] = stack[place].reshape(tuple(self._params[index].shape))
        self._plan: _C.Plan | None = None

    def apply(self, op: str, active: Sequence[bool], options: Sequence[Matrices]) -> None:
        """Orthogonalises the directions and takes the parameters along them.

        Args:
            op: whom a message names.
            active: whether each parameter takes part.
            options: of each parameter.
        """
        for stack, indices in self._stacks:
            batches: dict[Iteration, list[int]] = {}
            for place, index in enumerate(indices):
                if active[index]:
                    batches.setdefault(options[index].iteration, []).append(place)
            for iteration, places in batches.items():
                if len(places) == len(indices):
                    orthogonalize(stack, iteration, stack)
                else:
                    for place in places:
                        orthogonalize(stack[place : place + 1], iteration, stack[place : place + 1])
        if self._plan is None:  # beside the plan of the first half, which has checked the arrays
            count = len(self._params)
            groups, taken = list(range(count)), [0] * count  # nobody counts these steps
            self._plan = _C.Plan("sgd", self._params, [None], groups, taken, None, op)
        hypers = [own.final(*matrix_shape(p)) for own, p in zip(options, self._params, strict=True)]
        grads = [d if there else None for d, there in zip(self.arrays, active, strict=True)]
        take_step(op, self._plan, grads, hypers)


def orthogonalize(stack: Array, iteration: Iteration, out: Array) -> None:
    """Newton-Schulz: writes U·S'·Vᵀ with S' near 1 for each matrix U·S·Vᵀ of a stack.

    X = G/max(‖G‖, eps), then ``steps`` times X ← a·X + (b·A + c·A²)·X with A = X·Xᵀ, on the side
    that makes A the smaller one. In bfloat16 on tensors, as PyTorch; in float32 on NumPy's and
    CuPy's arrays, in float64 on their float64 ones.
    """
    lib = library(stack)
    if is_torch(lib):
        with lib.no_grad():
            out.copy_(_of_tensors(lib, stack, iteration))
    elif hasattr(stack, "device") and hasattr(stack.device, "__enter__"):  # of CuPy
        with stack.device:
            out[...] = _of_arrays(lib, stack, iteration)
    else:
        out[...] = _of_arrays(lib, stack, iteration)


def _of_arrays(lib: Any, stack: Array, iteration: Iteration) -> Array:
    (a, b, c), eps, steps = iteration
    tall = stack.shape[1] > stack.shape[2]
    x = stack.swapaxes(1, 2) if tall else stack
    # The largest element first: the square of a large one is infinite.
    largest = lib.maximum(abs(x).max(axis=(1, 2), keepdims=True), lib.finfo(x.dtype).tiny)
    x = x / largest
    norm = lib.sqrt((x * x).sum(axis=(1, 2), keepdims=True))
    x = x / lib.maximum(norm, eps / largest)
    for _ in range(steps):
        gram = lib.matmul(x, x.swapaxes(1, 2))
        x = a * x + lib.matmul(b * gram + c * lib.matmul(gram, gram), x)
    return x.swapaxes(1, 2) if tall else x


def _of_tensors(torch: Any, stack: Array, iteration: Iteration) -> Array:
    (a, b, c), eps, steps = iteration
    x = stack.bfloat16()
    tall = stack.shape[1] > stack.shape[2]
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


@shared_docs()
def muon_(
    params: Arrays,
    grads: Grads,
    momentum_buffers: Arrays,
    *,
    lr: float = 1e-3,
    weight_decay: float = 0.1,
    momentum: float = 0.95,
    nesterov: bool = True,
    ns_coefficients: Coefficients = COEFFICIENTS,
    eps: float = 1e-7,
    ns_steps: int = 5,
    adjust_lr_fn: str | None = None,
    **options: Any,
) -> StepInfo:
    """b += (1 - momentum)·(g - b), p -= lr·(weight_decay·p + r·orthogonal(b)): Muon on matrices.

    With ``nesterov`` b + (1 - momentum)·(g - b) stands in the place of b once more. An array of
    more than two axes counts as the matrix of its first axis by all others. orthogonal(b) is
    `ns_steps` iterations of Newton-Schulz from X = b/max(‖b‖, eps),
    X ← a·X + (b·A + c·A²)·X with A = X·Xᵀ, which bring the singular values of X near 1. They run in
    bfloat16 on tensors, as in PyTorch, and in float32 on arrays of NumPy and CuPy (float64 on
    float64 ones), one product for all parameters of a shape.

    Args:
        params: arrays of two axes or more and of floating dtypes.
        momentum_buffers: b, like ``params`` (float32 for 16-bit parameters).
        weight_decay: decoupled, scaled by lr.
        momentum: of the average of gradients.
        nesterov: look ahead by the momentum.
        ns_coefficients: (a, b, c).
        eps: least norm that a direction is divided by.
        ns_steps: iterations, below 100.
        adjust_lr_fn: r for a matrix of m rows and n columns: √max(1, m/n) for None or "original",
            0.2·√max(m, n) for "match_rms_adamw", where the rate and decay of AdamW fit.

    Returns:
        StepInfo; all arrays are updated in place.

    Source: Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024; Liu et
    al., Muon is Scalable for LLM Training, 2025 ("match_rms_adamw"); PyTorch's Muon.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> p, b = np.zeros((2, 2), np.float32), np.zeros((2, 2), np.float32)
        >>> info = onepass.ops.muon_([p], [np.float32([[3, 0], [0, 1]])], [b], lr=1.0)
        >>> bool(np.abs(np.linalg.svd(-p)[1] - 1).max() < 0.35)
        True
    """
    given, op = {**locals()}, "muon_"
    own = Matrices.of(op, given)
    controls = controls_of(op, options)
    for name in ("params", "grads", "momentum_buffers"):
        if type(given[name]) is not list and not isinstance(given[name], Sequence):
            raise TypeError(f"{op}: {name!r} is {given[name]!r}, expected a list of arrays")
    for index, p in enumerate(params):
        if len(getattr(p, "shape", ())) < 2:
            raise ValueError(
                f"{op}: 'params[{index}]' has shape {tuple(getattr(p, 'shape', ()))}, expected two "
                "axes or more; step the others with adamw_, or all with optim.Muon"
            )
    directions, count = Directions(params), len(params)
    states, zeros = [momentum_buffers, directions.arrays], [0] * count
    plan = _C.Plan("muon", params, states, zeros, zeros, None, op)
    info = take_step(op, plan, grads, (own.hyper,), controls)
    if not was_skipped(info, controls.nonfinite):
        directions.apply(op, [grad is not None for grad in grads], [own] * count)
    return info
