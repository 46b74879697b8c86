"""How an activation is declared: a signature and a docstring; functions and fused use follow.

``@activation`` turns a function without a body into one that calls the kernel of its name, and
`backward_of` makes the gradient. The decorators write the arguments, results and errors that all
activations share into the docstrings. An option annotated ``Literal[...]`` selects a kernel: its
default the kernel named like the function, another value the kernel ``<function>_<value>``. All
other options are numbers; their order is the kernel's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import (
    Any,
    Concatenate,
    Literal,
    NamedTuple,
    ParamSpec,
    Protocol,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from onepass import _C
from onepass import _numbers as numbers
from onepass._array import Array
from onepass._docs import with_imports

P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., Array])
Valid = Callable[..., bool]  # takes some of the options, by their names


class Kernel(NamedTuple):
    """An activation with its options, in the form that the fused kernels take."""

    name: str
    options: tuple[float, ...]


class Declared:
    """An activation as its function declares it.

    Attributes:
        name: of the function.
        defaults: option → default, in the order of the signature.
        selector: the option that selects a kernel, or None.
        kernels: value of the selector → name of the kernel; of None where there is no selector.
        valid: whether numbers will do, or None; `judged`: the options it takes; `expected`: the
            words of the error.
        default: the kernel that the defaults give.
    """

    def __init__(
        self, function: Callable[..., Array], valid: Valid | None = None, expected: str = ""
    ) -> None:
        self.name = function.__name__
        self.valid, self.expected = valid, expected
        self.judged = list(inspect.signature(valid).parameters) if valid is not None else []
        hints = get_type_hints(function)
        parameters = inspect.signature(function).parameters
        self.defaults = {k: p.default for k, p in parameters.items() if k not in ("x", "out")}
        literal = [k for k in self.defaults if get_origin(hints.get(k)) is Literal]
        self.selector = literal[0] if literal else None
        self.kernels: dict[Any, str] = {None: self.name}
        if self.selector is not None:
            default, values = self.defaults[self.selector], get_args(hints[self.selector])
            self.kernels = {v: self.name if v == default else f"{self.name}_{v}" for v in values}
        self.formula, described, rest = _parts(inspect.getdoc(function) or "")
        self.described = described  # the options, as lines of a docstring
        self.source, _, rest = rest.partition("\n\n")
        self.example = with_imports(rest.removeprefix("Example:"))
        where = f"{function.__module__}: {self.name}"
        given = sorted(self.defaults.keys() - {self.selector})
        for kernel in self.kernels.values():
            if kernel not in HYPER:
                raise TypeError(
                    f"{where}: csrc/kernels/activation_list.h has no {kernel!r}, expected its "
                    "header among the includes, its declaration, and its name in Activations; "
                    "build again after adding them"
                )
            if sorted(HYPER[kernel]) != given:
                raise TypeError(
                    f"{where} has the options {given}, expected {sorted(HYPER[kernel])}: those of "
                    f"'hyper' in the kernel {kernel!r}, one that is Literal aside"
                )
        if function.__doc__ is not None:  # python -OO has none
            said = {
                "a formula": self.formula,
                "'Source: '": self.source,
                "'Example:'": rest.removeprefix("Example:"),
            }
            for part, text in said.items():
                if not text.strip():
                    raise TypeError(f"{where}: the docstring lacks {part}")
        self.default = self.kernel(self.name, {})

    def check(self, owner: str, option: str, value: Any) -> Any:
        """``value`` as the option takes it.

        Raises:
            TypeError: it is not a number. ValueError: no kernel for the value, or not finite.
        """
        if option != self.selector:
            return numbers.in_range(owner, option, value)
        if isinstance(value, str) and value in self.kernels:
            return value
        known = " or ".join(map(repr, self.kernels))
        raise ValueError(f"{owner}: {option!r} is {value!r}, expected {known}")

    def check_all(self, owner: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """All options as the kernel takes them.

        Raises:
            TypeError, ValueError: as `check`, or they do not go together.
        """
        given = {option: self.check(owner, option, value) for option, value in options.items()}
        judged = [given[option] for option in self.judged]
        if self.valid is not None and not self.valid(*judged):
            self.refuse(owner, *judged)
        return given

    def refuse(self, owner: str, *judged: float) -> None:
        """ValueError for numbers that `valid` refuses."""
        given = zip(self.judged, judged, strict=True)
        said = ", ".join(f"{option!r} is {value!r}" for option, value in given)
        raise ValueError(f"{owner}: {said}, expected {self.expected}")

    def kernel(self, op: str, options: Mapping[str, Any]) -> Kernel:
        """The kernel for these options and the defaults of the others; ``op`` asks for it."""
        where = f"{op}: activation {self.name!r}"
        for option in options:
            if option not in self.defaults:
                known = ", ".join(self.defaults) or "none"
                raise TypeError(f"{where} has no option {option!r} (options: {known})")
        given = self.check_all(where, {**self.defaults, **options})
        name = self.kernels[None if self.selector is None else given[self.selector]]
        return Kernel(name, tuple(given[k] for k in HYPER[name]))

    def function(self, of: Callable[..., Array], backward: bool) -> Callable[..., Array]:
        """The function, or its gradient, with the signature written out.

        A wrapper with ``**options`` would take 0.2 µs longer at each call, hence the source.
        """
        name = f"{self.name}_backward" if backward else self.name
        table = _C.activation_backward if backward else _C.activation
        arrays = "dy, x" if backward else "x"
        kernels = [f"_{kernel}" for kernel in self.kernels.values()]
        chosen = kernels[0]
        if self.selector is not None:
            each = zip(kernels, self.kernels, strict=True)
            cases = [f"{kernel} if {self.selector} == {value!r} else " for kernel, value in each]
            chosen = f"({''.join(cases)}check({name!r}, {self.selector!r}, {self.selector}))"
        numeric = [option for option in self.defaults if option != self.selector]
        checks = "".join(f"        {o} = check({name!r}, {o!r}, {o})\n" for o in numeric)
        if self.valid is not None:
            judged = ", ".join(self.judged)
            checks += f"        if not valid({judged}): refuse({name!r}, {judged})\n"
        source = (
            f"def make(check, valid, refuse, {', '.join(kernels)}):\n"
            f"    def {name}({arrays}, *, {', '.join([*self.defaults, 'out'])}):\n"
            f"{checks}"
            f"        return {chosen}({', '.join([arrays, 'out', *HYPER[self.name]])})\n"
            f"    return {name}\n"
        )
        made: dict[str, Any] = {}
        exec(source, of.__globals__, made)
        call: Callable[..., Array] = made["make"](
            self.check, self.valid, self.refuse, *(table[k] for k in self.kernels.values())
        )
        call.__kwdefaults__ = {**self.defaults, "out": None}
        call.__annotations__ = ({"dy": "Array"} if backward else {}) | of.__annotations__
        call.__module__, call.__qualname__ = of.__module__, name
        return call


# Kernel → its options, in the order in which the kernel takes them.
HYPER = {k["name"]: k["hyper"] for k in _C.kernels() if k["kind"] == "activation"}
ACTIVATIONS: dict[str, Declared] = {}


@overload
def activation(function: F) -> F: ...
@overload
def activation(*, valid: Valid, expected: str) -> Callable[[F], F]: ...
def activation(
    function: F | None = None, *, valid: Valid | None = None, expected: str = ""
) -> F | Callable[[F], F]:
    """Declare an activation: a signature ``(x, *, options…, out=None)`` and a docstring.

    The docstring has the formula, ``Args:`` with the options if there are any, ``Source:`` and
    ``Example:``, to which the imports are added. Numbers for which ``valid`` is false are refused:
    "'option' is value, ``expected``".
    """

    def declare(function: F) -> F:
        declared = ACTIVATIONS[function.__name__] = Declared(function, valid, expected)
        call = declared.function(function, backward=False)
        call.__doc__ = _FORWARD.format(**vars(declared))
        return call  # type: ignore[return-value]

    return declare if function is None else declare(function)


def backward_of(
    forward: Callable[Concatenate[Array, P], Array], formula: str
) -> Callable[Concatenate[Array, Array, P], Array]:
    """The gradient of an activation; ``formula`` is the first line of its docstring."""
    declared = ACTIVATIONS[forward.__name__]
    call = declared.function(forward, backward=True)
    options = "".join(f"    {option}: as in the forward.\n" for option in declared.defaults)
    call.__doc__ = _BACKWARD.format(formula=formula, name=declared.name, options=options)
    return call


class BackwardOfOutput(Protocol):
    """A gradient that takes the forward's input or its output."""

    def __call__(
        self, dy: Array, x: Array | None = None, *, y: Array | None = None, out: Array | None = None
    ) -> Array: ...


def backward_of_output(forward: Callable[..., Array], formula: str) -> BackwardOfOutput:
    """The gradient of an activation without options, from x or from y.

    Its kernel has a ``backward_y``.
    """
    name = f"{forward.__name__}_backward"
    of_x, of_y = (
        _C.activation_backward[forward.__name__],
        _C.activation_backward_y[forward.__name__],
    )

    def backward(
        dy: Array, x: Array | None = None, *, y: Array | None = None, out: Array | None = None
    ) -> Array:
        if y is None and x is not None:
            return of_x(dy, x, out)
        if x is None and y is not None:
            return of_y(dy, y, out)
        given = "neither" if x is None else "both"
        raise TypeError(f"{name}: {given} of 'x' and 'y' are given, expected one of them")

    backward.__name__ = backward.__qualname__ = name
    backward.__module__ = forward.__module__
    text = _BACKWARD.format(formula=formula, name=forward.__name__, options="")
    backward.__doc__ = text.replace(
        "    x: the input of the forward.\n",
        "    x: the input of the forward.\n"
        "    y: its output, in place of ``x``: quicker, less exact where y is near a limit.\n",
    ).replace("may be ``dy`` or ``x``", "may be ``dy``, ``x`` or ``y``")
    return backward


def _parts(doc: str) -> tuple[str, str, str]:
    """Formula, lines of options, and the rest behind "Source: "."""
    head, _, rest = doc.partition("\n\nSource: ")
    formula, _, options = head.partition("\n\nArgs:\n")
    return formula, options + "\n" if options else "", rest


_FORWARD = """{formula}

Args:
    x: array of any shape and strides; float32, float64, float16 or bfloat16.
{described}    out: array like ``x`` to write to; may be ``x``.

Returns:
    y, like ``x``; NaN where ``x`` is, and the limit at ±Inf.

Raises:
    TypeError, ValueError: wrong dtype, shape, overlap or option; nothing is written.

Source: {source}

Example:{example}
"""

_BACKWARD = """{formula}

Args:
    dy: gradient of y, like ``x``.
    x: the input of the forward.
{options}    out: array like ``x`` to write to; may be ``dy`` or ``x``.

Returns:
    dx, like ``x``; NaN where ``x`` or ``dy`` is, and the limit at ±Inf.

Raises:
    TypeError, ValueError: wrong dtype, shape, overlap or option; nothing is written.

Source: the derivative of :func:`{name}`.

Example:
    >>> import numpy as np
    >>> import onepass
    >>> dy, x = np.ones(2, np.float32), np.float32([-1, 2])
    >>> onepass.ops.{name}_backward(dy, x, out=dy) is dy
    True
"""
