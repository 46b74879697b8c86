"""An array that is trained, and its gradient."""

from __future__ import annotations

from collections.abc import Iterable
from sys import getrefcount
from threading import get_ident
from typing import Any, NoReturn

import numpy as np

from onepass._array import Array
from onepass._kind import check_owned
from onepass._numbers import flag
from onepass._turns import Writers, turns


class _Renewals:
    """How often parameters got values that do not follow from those before."""

    def __init__(self) -> None:
        self.count = 0

    def note(self, parameters: Iterable[Parameter]) -> None:
        for parameter in parameters:
            parameter._renewed = self.count + 1
        self.count += 1


renewals = _Renewals()


class Parameter:
    """An array that is trained: ``data``, and ``grad`` of the same shape.

    `Module.backward` adds to ``grad``; it is None until the first backward and after `zero_grad`.
    An optimizer leaves a parameter without gradient alone, and a frozen one too.

    Args:
        data: NumPy or CuPy array of floats; kept, not copied.
        requires_grad: False freezes the parameter: backward leaves its ``grad`` alone, and a step
            leaves ``data``, the optimizer's state and the step count alone.

    Raises:
        TypeError: ``data`` is not such an array; arithmetic on the parameter, not its ``data``.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> nn.Parameter(np.zeros((2, 3), np.float32))
        Parameter(shape=(2, 3), dtype=float32)
    """

    grad: Array | None
    _spare: Array | None = None  # memory of a gradient that was zeroed
    _swap: int = 0  # the number of the last swap of its values for others
    _renewed: int = 0  # renewals.count of the last time that it got other values
    _writer: int = 0  # the thread that alone has added to the gradient
    _since: int = 0  # turns.losses when it became that
    _writers: Writers | None = None

    def __init__(self, data: Array, requires_grad: bool = True) -> None:
        check_owned("Parameter", "data", data)
        self.data = data
        self.grad = None
        self.requires_grad = flag("Parameter", "requires_grad", requires_grad)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = self.data.dtype
        return dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(self.data.size)

    def accumulate(self, grad: Array) -> None:
        """Add to ``grad`` unless frozen. The first one is kept, not copied: pass a new array.

        Raises:
            RuntimeError: an optimizer steps the parameter in another thread.
        """
        if not self.requires_grad:
            return
        with turns.adding:  # several threads may go backward in evaluation
            thread = get_ident()
            if _stepping:
                turns.refuse_writing(self, thread)
            if self._writer != thread:
                turns.note_writer(self, thread)
            if self.grad is None:
                self.grad, self._spare = grad, None
            else:
                self.grad += grad

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradient, or fill it with zeros where it is.

        Its memory is kept for the next one.
        """
        if set_to_none is not True:
            set_to_none = flag("Parameter", "set_to_none", set_to_none)
        if turns.several and self._writer != (me := get_ident()):
            turns.note_taken(self, me, zeroed=True)
        if self.grad is None:
            return
        if set_to_none:
            self._forget()
        else:
            self.grad.fill(0)

    def _forget(self) -> None:
        if self.grad is not None:
            self._spare, self.grad = self.grad, None

    def room(self) -> Array | None:
        """Memory to write the next gradient to and pass to `accumulate`, or None: make a new array.

        It is that of a gradient that was zeroed. One that somebody still holds, or a view of it,
        is not written to.
        """
        if self._spare is None or self.grad is not None:
            return None
        # Two references: the attribute, and the argument of getrefcount. A view holds its base.
        free = getrefcount(self._spare) == 2
        # By way of the dictionary, so that only one of several threads gets it.
        spare = vars(self).pop("_spare", None)
        return spare if free and spare is not None and _alike(spare, self.data) else None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(self.data, dtype=dtype) if copy else np.asarray(self.data, dtype=dtype)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in _OF_NOW}

    def __repr__(self) -> str:
        frozen = "" if self.requires_grad else ", requires_grad=False"
        return f"Parameter(shape={self.shape}, dtype={self.dtype.name}{frozen})"


_stepping = turns.stepping
_OF_NOW = ("_spare", "_renewed", "_swap", "_since", "_writer", "_writers")  # a copy has none


def _alike(spare: Array, data: Array) -> bool:
    """Whether ``spare`` is an array of its own, in C order, of the kind of ``data``."""
    same = type(spare) is type(data) and spare.dtype == data.dtype and spare.shape == data.shape
    if not same or spare.base is not None or not spare.flags.c_contiguous:
        return False
    return type(spare) is np.ndarray or spare.device == data.device


# Without these, `p -= step` would bind p to a new array and leave the parameter as it was.
_BINARY = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"]
_OTHERS = ["neg", "abs", "lt", "le", "gt", "ge"]


def _refuse(self: Parameter, *_: Any) -> NoReturn:
    raise TypeError(
        f"{self!r} is not an array: use the one in .data, for example p.data -= lr * p.grad"
    )


for _name in (*(side + name for side in ("", "r", "i") for name in _BINARY), *_OTHERS):
    setattr(Parameter, f"__{_name}__", _refuse)


class Computed(Parameter):
    """A parameter that a module computes from others before each call.

    It takes part in backward, and is neither trained, nor moved, nor part of the state.
    """


def parameters_of(optimizer: Any) -> list[Any]:
    """The parameters of an optimizer, of all its groups, in order."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def data_of(parameter: Any) -> Array:
    """The array of a ``Parameter``; anything else is one."""
    return parameter.data if isinstance(parameter, Parameter) else parameter
