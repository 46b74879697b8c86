"""The protocol of every layer: ``y = m(x)``, then ``dx = m.backward(dy)``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, TypeVar

from onepass import _numbers as numbers
from onepass._array import Array
from onepass._parameter import Parameter
from onepass.nn import _state_dict
from onepass.nn._facts import bypassable

M = TypeVar("M", bound="Module")


class Module:
    """Base of all layers: parameters, running statistics, forward and backward.

    A subclass sets `Parameter` and `Module` attributes in its constructor, and writes two methods::

        forward(x) -> y                                 # keeps in self.saved what backward needs
        backward(dy, *, need_input_grad=True) -> dx     # adds to the parameters' grad

    ``backward`` is about the last forward call; it may be called several times, and each call adds
    to the gradients. ``saved`` refers to arrays, it does not copy them: do not change ``x`` in
    between.

    Example:
        >>> class Scale(nn.Module):
        ...     def __init__(self, features):
        ...         self.weight = nn.Parameter(np.ones(features, np.float32))
        ...     def forward(self, x):
        ...         self.saved = x
        ...         return x * self.weight.data
        ...     def backward(self, dy, *, need_input_grad=True):
        ...         self.weight.accumulate((dy * self.recall()).sum(axis=0))
        ...         return dy * self.weight.data if need_input_grad else None
        >>> m = Scale(3)
        >>> y = m(np.full((2, 3), 5, np.float32))
        >>> dx = m.backward(np.ones_like(y))
        >>> m.weight.grad.tolist()
        [10.0, 10.0, 10.0]
    """

    training: bool = True
    saved: Any = None
    buffer_names: ClassVar[tuple[str, ...]] = ()  # attributes that belong to the state, untrained

    @bypassable
    def __call__(self, x: Array) -> Array:
        return self.forward(x)

    def forward(self, x: Array) -> Array:
        """The output for ``x``."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, dy: Array, *, need_input_grad: bool = True) -> Array | None:
        """The gradient of the loss by ``x`` from that by ``y``; adds to the parameters' ``grad``.

        Args:
            dy: like the last ``y``.
            need_input_grad: False skips the work that only ``dx`` needs, and returns None.

        Raises:
            RuntimeError: there was no forward call.
            TypeError, ValueError: ``dy`` is not like the last ``y``; no gradient has changed in
                this layer. Layers without parameters look only where ``dx`` is needed.
        """
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def recall(self) -> Any:
        """What the last forward call saved."""
        if self.saved is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward came before forward: call y = module(x) first"
            )
        return self.saved

    # -- the tree ------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly inside, by attribute name."""
        return ((k, v) for k, v in vars(self).items() if isinstance(v, Module))

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module (its name is "") and all inside it, outermost first."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """This module and all inside it."""
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter once, as PyTorch names it: ``"0.weight"``."""
        seen: set[int] = set()
        for prefix, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Parameter) and id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{prefix}.{name}" if prefix else name), value

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter once."""
        return (parameter for _, parameter in self.named_parameters())

    # -- modes ---------------------------------------------------------------------------------

    def train(self: M, mode: bool = True) -> M:
        """Training mode: dropout drops, batch norm uses the batch. Returns the module."""
        training = numbers.flag("train", "mode", mode)
        for module in self.modules():
            module.training = training
        return self

    def eval(self: M) -> M:
        """Evaluation mode: no dropout, running statistics. Returns the module."""
        return self.train(False)

    def freeze(self: M) -> M:
        """Stop training the parameters: backward leaves their ``grad`` alone. Returns the module.

        Running statistics still follow the data in training mode; `eval` holds them.
        """
        for parameter in self.parameters():
            parameter.requires_grad = False
        return self

    def unfreeze(self: M) -> M:
        """Train the parameters again. Returns the module."""
        for parameter in self.parameters():
            parameter.requires_grad = True
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or fill them with zeros."""
        for parameter in self.parameters():
            parameter.zero_grad(set_to_none)

    # -- state ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters and running statistics, with PyTorch's names and order."""
        return {name: array.copy() for name, array in _state_dict.live_arrays(self)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Copy values in, from `state_dict` or from PyTorch's (tensors are read as they are).

        Raises:
            ValueError: one message with every missing, unexpected and misshapen entry; nothing is
                changed.
        """
        _state_dict.load(self, state_dict)

    def to(self: M, device: str) -> M:
        """Move everything to "cpu" (NumPy), "cuda" or "cuda:N" (CuPy). Returns the module.

        ``Parameter.data`` becomes another array; an optimizer over the parameters brings its state
        along at its next step.

        Raises:
            ValueError: an unknown device.
            RuntimeError: CUDA or CuPy cannot be used; nothing is moved.
        """
        _state_dict.move(self, device)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k != "saved"}  # no activations in a pickle

    # -- printing ------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}" for name, child in self.named_children()]
        return layout(type(self).__name__, self.extra_repr(), lines)


def layout(name: str, arguments: str, lines: list[str]) -> str:
    """``name(arguments)``, or the children one a line, indented."""
    if not lines:
        return f"{name}({arguments})"
    inner = "\n".join(lines).replace("\n", "\n  ")
    return f"{name}(\n  {inner}\n)"
