"""Activations: one class per function of `onepass.ops`, named and parameterised as in PyTorch.

A class is one line, and a constructor where there are options. Formula, options and their defaults
are those of the function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from onepass import ops
from onepass._array import Array
from onepass.nn._checks import check_gradient, like
from onepass.nn._facts import Read, bypassable
from onepass.nn._module import Module
from onepass.nn._signal import Bending, Passing, Wanted, by_activation
from onepass.ops._declare import ACTIVATIONS, Declared, Kernel

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "SELU",
    "Abs",
    "Activation",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "Identity",
    "LeakyReLU",
    "Mish",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Sin",
    "Softplus",
    "Softsign",
    "Tanh",
]

MODULES: dict[str, type[Module]] = {}  # name in onepass.ops → class


class Activation(Bending, Module):
    """``y = op(x, **options)``, elementwise; the options are attributes.

    A subclass names its function: ``class ReLU(Activation, op=ops.relu)``. Where the function has
    options, the constructor has the same names and defaults.

    Example:
        >>> from onepass import nn
        >>> isinstance(nn.ReLU(), nn.Activation)
        True
    """

    declared: ClassVar[Declared]

    def __init_subclass__(cls, *, op: Callable[..., Array] | None = None) -> None:
        super().__init_subclass__()
        if op is None:
            return  # a subclass of a named activation
        cls.declared = declared = ACTIVATIONS[op.__name__]
        given = dict(inspect.signature(cls).parameters)
        if {name: p.default for name, p in given.items()} != declared.defaults:
            raise TypeError(f"{cls.__name__}: expected the options {declared.defaults}")
        MODULES[declared.name] = cls
        arguments = f"\nArgs:\n{declared.described}" if given else ""
        errors = "\nRaises:\n    TypeError, ValueError: an option of another type or value.\n"
        cls.__doc__ = cls.__doc__ or _DOC.format(
            formula=declared.formula,
            arguments=arguments + errors if given else "",
            cls=cls.__name__,
            op=declared.name,
        )

    def _set(self, **options: Any) -> None:
        vars(self).update(self.declared.check_all(type(self).__name__, options))

    @bypassable
    def kernel(self, op: str, read: Read = getattr) -> Kernel:
        """The kernel that ``op`` runs in place of this layer."""
        declared: Declared = read(self, "declared")
        return declared.kernel(op, {name: read(self, name) for name in declared.defaults})

    @bypassable
    def forward(self, x: Array) -> Array:
        y = getattr(ops, self.declared.name)(x, **self._options())
        # Not y, from which PyTorch's sigmoid and tanh go backward: fused kernels work from x, and
        # a model has the same bits whether its layers are fused or watched one by one.
        self._remember(x)
        return y

    @bypassable
    def backward(self, dy: Array, *, need_input_grad: bool = True) -> Array | None:
        x = self.recall()
        if not need_input_grad:
            return None
        return getattr(ops, f"{self.declared.name}_backward")(dy, x, **self._options())

    def _wants(self) -> Wanted:
        return by_activation(self.declared.name, type(self).__name__, vars(self))

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.declared.defaults}

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self._options().items())


_DOC = """{formula}

The function `onepass.ops.{op}` as a module.
{arguments}
Example:
    >>> import numpy as np
    >>> from onepass import nn, ops
    >>> x = np.array([-1, 2], np.float32)
    >>> bool((nn.{cls}()(x) == ops.{op}(x)).all())
    True
"""


class Identity(Passing, Module):
    """``y = x``, the same array.

    Raises:
        TypeError: in forward and backward, not an array of floats; in backward, another dtype
            than y.
        ValueError: in backward, another shape than y.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> x = np.array([-1, 2], np.float32)
        >>> nn.Identity()(x) is x
        True
    """

    def forward(self, x: Array) -> Array:
        self._remember(like("Identity", "x", x))
        return x

    def backward(self, dy: Array, *, need_input_grad: bool = True) -> Array | None:
        y = self.recall()
        if not need_input_grad:
            return None
        check_gradient("Identity.backward", dy, y)
        return dy


MODULES["identity"] = Identity


class ReLU(Activation, op=ops.relu): ...


class LeakyReLU(Activation, op=ops.leaky_relu):
    def __init__(self, negative_slope: float = 0.01) -> None:
        self._set(negative_slope=negative_slope)


class Sigmoid(Activation, op=ops.sigmoid): ...


class Tanh(Activation, op=ops.tanh): ...


class GELU(Activation, op=ops.gelu):
    def __init__(self, approximate: Literal["none", "tanh"] = "none") -> None:
        self._set(approximate=approximate)


class SiLU(Activation, op=ops.silu): ...


class SELU(Activation, op=ops.selu): ...


class Mish(Activation, op=ops.mish): ...


class ELU(Activation, op=ops.elu):
    def __init__(self, alpha: float = 1.0) -> None:
        self._set(alpha=alpha)


class CELU(Activation, op=ops.celu):
    def __init__(self, alpha: float = 1.0) -> None:
        self._set(alpha=alpha)


class Softplus(Activation, op=ops.softplus):
    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self._set(beta=beta, threshold=threshold)


class ReLU6(Activation, op=ops.relu6): ...


class Hardtanh(Activation, op=ops.hardtanh):
    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        self._set(min_val=min_val, max_val=max_val)


class Hardsigmoid(Activation, op=ops.hardsigmoid): ...


class Hardswish(Activation, op=ops.hardswish): ...


class Softsign(Activation, op=ops.softsign): ...


class Abs(Activation, op=ops.abs): ...


class Sin(Activation, op=ops.sin): ...
