"""Checks that a module's backward is the derivative of its forward."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass import _numbers as numbers
from onepass._array import Array, is_floating, to_numpy
from onepass._keywords import suggest_keywords
from onepass.nn._batch_renorm import BatchRenorm
from onepass.nn._module import Module
from onepass.nn._random import apart, kept_streams
from onepass.nn._rescaling import Rescaling

Floats = NDArray[np.float64]

ASIDE = 1e-3  # how far from kinks that meet
ROUNDING = 64 * float(np.finfo(np.float64).eps)  # of a sum of outputs, in its own terms


@suggest_keywords
def gradcheck(
    module: Module, x: Array, *, eps: float = 1e-6, rtol: float = 1e-4, samples: int | None = 200
) -> None:
    """Compare ``module.backward`` with differences of ``module.forward``, element by element.

    For L = Σ dy·y with a fixed random dy, each element θ of x and of every trained parameter is
    moved by h = eps·max(1, abs(θ)) both ways. The gradient is right if it lies between the two
    one-sided differences (L(θ+h) - L(θ))/h and (L(θ) - L(θ-h))/h, each taken output by output, give
    or take ``rtol`` times its size and the rounding of L. Where L is smooth the two agree to about
    h; at a kink, such as 0 of a ReLU, every derivative between the two sides is right. Where
    several kinks meet, as behind a batch norm of a constant x, more derivatives are right than lie
    between. So where there are kinks, x and the parameters are moved by about 1e-3 then, and the
    gradient is checked there too.

    All of it runs in float64, on a copy: the module keeps its dtype, values, gradients, running
    statistics and dropout streams. It is checked in the mode it is in. Dropout draws the same mask
    each time, batch norm starts from the same running statistics, and `BatchRenorm` is checked with
    limits of 1 and 0, because its r and d are constants backward. An x of integers, as of an
    embedding, has no gradient and is not moved.

    Args:
        module: with all inputs but x inside.
        x: one input; keep it small, since each element costs two forward calls.
        eps: the step.
        rtol: the relative error that is right.
        samples: of each larger array a random sample of so many elements is checked, the same
            each time; None checks all.

    Raises:
        ValueError: a gradient is wrong, missing or of another shape: the message names the array
            and the worst of its elements, with both numbers. Or the output is not finite, or not
            float64, so that nothing can be checked.
        TypeError: ``module`` is not a `Module`, ``x`` not an array.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> nn.gradcheck(nn.Sequential(nn.Linear(3, 4), nn.Tanh()), np.ones((2, 3), np.float32))
        >>> class Wrong(nn.Module):
        ...     def forward(self, x):
        ...         self.saved = x
        ...         return x * x
        ...     def backward(self, dy, *, need_input_grad=True):
        ...         return dy * self.recall()  # the 2 is missing
        >>> nn.gradcheck(Wrong(), np.float32([3.0]))
        Traceback (most recent call last):
        ...
        ValueError: gradcheck: the gradient of x[0] is 0.3771907, expected 0.7543813 by differences
    """
    numbers.in_range("gradcheck", "eps", eps, above=0)
    numbers.in_range("gradcheck", "rtol", rtol, above=0)
    if samples is not None:
        numbers.integer("gradcheck", "samples", samples, 1)
    if not isinstance(module, Module):
        shown = f"the class {module.__name__}" if isinstance(module, type) else repr(module)
        raise TypeError(f"gradcheck: 'module' is {shown}, expected an nn.Module")
    sparse = hasattr(x, "tocsr") or str(getattr(x, "layout", "")).startswith("torch.sparse")
    if not hasattr(x, "dtype") or not hasattr(x, "shape") or hasattr(x, "filled") or sparse:
        kind = f"sparse {type(x).__name__}" if sparse else type(x).__name__
        raise TypeError(f"gradcheck: 'x' is a {kind}, expected a dense array")
    if 0 in tuple(x.shape):
        raise ValueError(
            f"gradcheck: 'x' has shape {tuple(x.shape)}, expected at least one element"
        )
    with apart():
        put_back = kept_streams(module)
        try:
            _Check(module, x, eps, rtol, samples).run()
        finally:
            put_back()


class _Check:
    """A float64 copy of a module on the CPU, and its output for an input."""

    def __init__(
        self, module: Module, x: Array, eps: float, rtol: float, samples: int | None
    ) -> None:
        self.eps, self.rtol, self.samples = eps, rtol, samples
        self.rng = np.random.default_rng(0)
        self.moves_x = is_floating(x)
        self.x: Any = to_numpy(x).astype(np.float64) if self.moves_x else to_numpy(x).copy()
        self.model = copy.deepcopy(module).to("cpu")
        self.model.zero_grad()
        for parameter in self.model.parameters():
            parameter.data = np.array(parameter.data, np.float64)
        for part in self.model.modules():
            if isinstance(part, BatchRenorm):
                part.rmax, part.dmax = 1.0, 0.0
            if isinstance(part, Rescaling):
                part.dtype = "float64"
            for name in part.buffer_names:
                value = getattr(part, name)
                if value is not None and value.dtype.kind == "f":
                    setattr(part, name, np.array(value, np.float64))
        self._begin_masks = kept_streams(self.model)
        self._buffers = [
            (part, name, value.copy())
            for part in self.model.modules()
            for name in part.buffer_names
            if (value := getattr(part, name)) is not None
        ]

    def forward(self) -> Floats:
        """The output, with the same masks and statistics each time."""
        self._begin_masks()
        for part, name, value in self._buffers:
            getattr(part, name)[...] = value
        with apart():
            return np.array(self.model(self.x.copy()))  # a copy: y may share memory with x

    def run(self) -> None:
        """Raise for a wrong gradient: at x, and beside it where x lies at kinks."""
        if self._kinks() is None:
            return
        self._move()
        try:
            message = self._kinks()
        except ValueError as error:
            raise ValueError(f"{error}, beside a kink that lies at x") from None
        if message:
            raise ValueError(message)

    def _kinks(self) -> str | None:
        """Raise for a wrong gradient.

        Returns:
            None where L is smooth; else the message for a gradient outside of the differences, or
            "", as several kinks that meet make others right too.
        """
        y = self.forward()
        owner = type(self.model).__name__
        if y.dtype != np.float64:
            raise ValueError(
                f"gradcheck: {owner} gives {y.dtype} for float64 parameters and inputs, expected "
                "float64; differences of less are too coarse"
            )
        if not np.isfinite(y).all():
            raise ValueError(f"gradcheck: {owner} gives values that are not finite for this x")
        dy = self.rng.standard_normal(y.shape)
        given = dy.copy()
        dx = self.model.backward(given)
        if not np.array_equal(given, dy):
            raise ValueError(
                f"gradcheck: {owner}.backward changes dy, expected it unchanged: a layer beside "
                "this one, or a loss, may still need it"
            )
        grads = [("x", self.x, dx)] if self.moves_x else []
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                grads.append((name, parameter.data, parameter.grad))
        scale = math.sqrt(float(np.sum((dy * y) ** 2))) + float(np.abs(dy).max(initial=0))
        doubt: str | None = None
        for name, array, grad in grads:
            got = None if grad is None else np.array(grad)
            if got is not None and got.shape != array.shape:
                raise ValueError(
                    f"gradcheck: the gradient of {name} has shape {got.shape}, expected "
                    f"{array.shape}"
                )
            found = self._compare(name, array, got, lambda: dy * (self.forward() - y), scale)
            doubt = doubt or (found if found is not None else doubt)
        self._adds(dy)
        return doubt

    def _adds(self, dy: Floats) -> None:
        """Raise where a second backward does not add to the gradients of the first."""
        once = {
            name: np.array(parameter.grad)
            for name, parameter in self.model.named_parameters()
            if parameter.grad is not None
        }
        self.forward()
        self.model.backward(dy.copy())
        for name, parameter in self.model.named_parameters():
            if name not in once:
                continue
            twice = np.array(parameter.grad)
            if twice.shape == once[name].shape and not np.allclose(twice, 2 * once[name], 1e-6, 0):
                raise ValueError(
                    f"gradcheck: a second backward replaces the gradient of {name}, expected it to "
                    f"add: self.{name.rpartition('.')[2]}.accumulate(gradient)"
                )
            parameter.grad = once[name]

    def _move(self) -> None:
        """To a place beside, where no two kinks meet."""
        rng = np.random.default_rng(1)
        self.model.zero_grad()
        arrays = [p.data for p in self.model.parameters() if p.requires_grad]
        for array in [*arrays, *([self.x] if self.moves_x else [])]:
            array += ASIDE * np.maximum(1.0, np.abs(array)) * rng.standard_normal(array.shape)

    def _compare(
        self,
        name: str,
        array: Any,
        grad: Floats | None,
        change: Callable[[], Floats],
        scale: float,
    ) -> str | None:
        """Raise for the worst element, if that is wrong; returns what `_kinks` does.

        Args:
            change: each output's part of L, less its value at rest.
        """
        worst, messages = {True: 1.0, False: 1.0}, {True: "", False: ""}
        kinks = False
        for place in self._places(array.size):
            at = np.unravel_index(place, array.shape)
            kept = float(array[at])
            step = self.eps * max(1.0, abs(kept))
            array[at] = kept + step
            above = change() / (float(array[at]) - kept)
            array[at] = kept - step
            below = change() / (float(array[at]) - kept)
            array[at] = kept
            got = 0.0 if grad is None else float(grad[at])
            low, high = np.minimum(above, below).sum(), np.maximum(above, below).sum()
            expected = float((above + below).sum()) / 2
            allowed = self.rtol * max(abs(got), abs(expected)) + ROUNDING * scale / step
            error = max(low - got, got - high) / allowed
            at_kink = math.isfinite(got) and bool(high - low > 2 * allowed)
            kinks = kinks or at_kink
            if not error <= worst[at_kink]:
                index = ", ".join(map(str, at))
                shown = f"{got:.7g}" if grad is not None else "missing"
                worst[at_kink] = error if math.isfinite(error) else math.inf
                messages[at_kink] = (
                    f"gradcheck: the gradient of {name}[{index}] is {shown}, expected "
                    f"{expected:.7g} by differences"
                )
        if messages[False]:
            raise ValueError(messages[False])
        return messages[True] if kinks else None

    def _places(self, size: int) -> Any:
        if self.samples is None or size <= self.samples:
            return range(size)
        return np.sort(self.rng.choice(size, self.samples, replace=False))
