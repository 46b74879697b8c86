"""The protocol of every layer: ``y = m(x)``, then ``dx = m.backward(dy)``."""

from __future__ import annotations

from collections import UserList, deque
from collections.abc import Iterable, Iterator, Mapping, MappingView
from dataclasses import is_dataclass
from threading import get_ident
from types import FunctionType, NoneType, SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from onepass import _numbers as numbers
from onepass._array import Array
from onepass._keywords import SuggestsKeywords
from onepass._parameter import Computed, Parameter
from onepass._turns import noted
from onepass.nn import _state_dict
from onepass.nn._exports import Exports
from onepass.nn._facts import NOT_COUNTED, bypassable, edits, is_bypassable
from onepass.nn._saved import Saves
from onepass.nn._state_dict import LoadResult
from onepass.nn._use import refuse_change, refuse_swapped, swaps

if TYPE_CHECKING:
    from onepass.nn._signal import Wanted

M = TypeVar("M", bound="Module")
DEPTH = 8  # containers in containers that are looked into


class Module(Saves, Exports, SuggestsKeywords):
    """Base of all layers: parameters, running statistics, forward and backward.

    A subclass sets `Parameter` and `Module` attributes in its constructor, and writes two methods::

        forward(x) -> y                                 # keeps in self.saved what backward needs
        backward(dy, *, need_input_grad=True) -> dx     # adds to the parameters' grad

    ``backward`` is about the last forward call in the module's present mode: an evaluation between
    forward and backward of training changes nothing. It may be called several times, and each call
    adds to the gradients. ``saved`` refers to arrays, it does not copy them: do not change ``x``
    in between.

    In evaluation mode any number of threads may call one module; each has its own ``saved``.
    Training is for one thread at a time: where two overlap, one of them gets a RuntimeError. A fit
    of a Trainer has the model for itself until it ends, also between two of its calls, and so the
    parameters that other models share with it. In loops of your own, what several threads add to
    the gradient of one `Parameter` adds up, and one of them may step with it. A RuntimeError gets
    who steps it while another thread steps it or is in a backward that adds to its gradient, who
    adds to it during a step, and who steps it after another thread has taken or zeroed what this
    thread added.

    Modules inside are attributes: one in a list, tuple or dict is refused (`ModuleList`).

    Example:
        >>> import numpy as np
        >>> from onepass import nn
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
    statistics_frozen: bool = False  # set by freeze(); batch norms heed it
    buffer_names: ClassVar[tuple[str, ...]] = ()  # attributes that belong to the state, untrained
    _holds_eval: bool = False  # eval() was called on this very module, and no train() since

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        backward = vars(cls).get("backward")
        if isinstance(backward, FunctionType):
            cls.backward = note = noted(backward)  # type: ignore[method-assign]
            if is_bypassable(backward):
                bypassable(note)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(vars(self).get(name), Parameter) and not isinstance(
            value, (Parameter, NoneType)
        ):
            raise TypeError(
                f"{type(self).__name__}: {name!r} is a {type(value).__name__}, expected an "
                f"nn.Parameter or None; to give the parameter other values, write "
                f"{name}.data[...] = values"
            )
        super().__setattr__(name, value)
        if name not in NOT_COUNTED:
            edits.count += 1

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        edits.count += 1

    @bypassable
    def __call__(self, x: Array) -> Array:
        if not self.training:
            before = swaps.state
            y = self.forward(x)
            if before < 0 or swaps.state != before:
                refuse_swapped(self, type(self).__name__, before)
            return y
        saved, thread = self._saved, get_ident()
        if saved.inside.setdefault(0, thread) != thread:
            saved.refuse(self)
        try:
            if saved.thread != thread:
                saved.change_thread(self, thread)
            saved.went_back = False
            return self.forward(x)
        finally:
            saved.inside.pop(0, None)

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

    def _all_saved(self) -> list[tuple[Module, Any]]:
        """The saved values of this module and all inside it, in their present modes."""
        return [(module, module.saved) for module in self.modules()]

    # -- the tree ------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly inside, by attribute name."""
        return ((k, v) for k, v in tuple(vars(self).items()) if isinstance(v, Module))

    def _check_attributes(self) -> None:
        """Refuse modules and parameters where nothing would find them."""
        for name, value in tuple(vars(self).items()):
            self._check_one(name, value)

    def _check_one(self, name: str, value: Any) -> None:
        """Refuse a container unless all modules and parameters in it are attributes too."""
        if type(value) in _PLAIN or isinstance(value, (Module, Parameter)):
            return  # at once: most attributes are these, and every walk comes here
        inside = list(_entries(value, DEPTH))
        if not inside:
            return
        known = {id(v) for v in vars(self).values()}
        for _, child in self.named_children():
            known |= {id(found) for found in (*child.modules(), *child.parameters())}
        if any(id(entry) not in known for entry in inside):
            kind, what = type(value).__name__, type(inside[0]).__name__
            cure = "nn.ModuleList(…)" if isinstance(inside[0], Module) else "an attribute for each"
            raise TypeError(
                f"{type(self).__name__}: {name!r} is a {kind} that holds a {what}, which would be "
                f"in no parameters(), state_dict() or to(); expected {cure}"
            )

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module (its name is ``prefix``) and all inside it, outermost first.

        Raises:
            TypeError: one is in a list, tuple or dict, where nothing would train it.
        """
        self._check_attributes()
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
            for name, value in tuple(vars(module).items()):
                if isinstance(value, Computed) or id(value) in seen:
                    continue
                if isinstance(value, Parameter):
                    seen.add(id(value))
                    yield (f"{prefix}.{name}" if prefix else name), value

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter once."""
        return (parameter for _, parameter in self.named_parameters())

    # -- modes ---------------------------------------------------------------------------------

    def train(self: M, mode: bool = True) -> M:
        """Training mode: dropout drops, batch norm uses the batch. Returns the module.

        A layer's own ``eval()`` holds until ``train()`` of this layer or of one around it: fit,
        evaluate, predict and find_lr leave the layer in evaluation mode.

        Raises:
            RuntimeError: the Trainer of another thread uses the module in the other mode.
        """
        training = numbers.flag("train", "mode", mode)
        refuse_change(self, "train" if training else "eval", trains=training)
        for module in self.modules():
            module.training = training
            if training:
                module._holds_eval = False
        self._holds_eval = not training
        return self

    def eval(self: M) -> M:
        """Evaluation mode: no dropout, running statistics. Returns the module.

        Called on a layer of a model it outlives the trainer's calls, see `train`.
        """
        return self.train(False)

    def freeze(self: M, statistics: bool = True) -> M:
        """Stop training: no step moves the parameters, whatever the optimizer. Returns the module.

        Args:
            statistics: batch norms inside keep their running statistics and normalise by them, in
                training mode too, as in Keras; False lets them use and follow the batch.

        A module of your own that has statistics reads ``self.statistics_frozen``.
        """
        held = numbers.flag("freeze", "statistics", statistics)
        for parameter in self.parameters():
            parameter.requires_grad = False
        for module in self.modules():
            module.statistics_frozen = held
        return self

    def unfreeze(self: M) -> M:
        """Train parameters and running statistics again. Returns the module."""
        for parameter in self.parameters():
            parameter.requires_grad = True
        for module in self.modules():
            module.statistics_frozen = False
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or with ``set_to_none=False`` fill them with zeros.

        Raises:
            RuntimeError: the Trainer of another thread uses the module.
        """
        refuse_change(self, "zero_grad")
        for parameter in self.parameters():
            parameter.zero_grad(set_to_none)

    # -- state ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters and running statistics, with PyTorch's names and order.

        Raises:
            RuntimeError: a Trainer of another thread evaluates the module with averages.
        """
        before = swaps.state
        state = {name: array.copy() for name, array in _state_dict.live_arrays(self)}
        if before < 0 or swaps.state != before:
            refuse_swapped(self, "state_dict", before)
        return state

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, prefix: str = ""
    ) -> LoadResult:
        """Copy values in, from `state_dict` or from PyTorch's (tensors are read as they are).

        Running averages that an optimizer keeps of the parameters (``ema_decay``), with which a
        Trainer predicts, stay as they are; `Trainer.load_weights` begins them anew.

        Args:
            state_dict: names and arrays.
            strict: False copies what fits and reports the rest.
            prefix: read only the entries whose names begin with it, as if it were not there:
                ``"body."`` for the part ``body`` of a larger model.

        Returns:
            The names that are (missing, unexpected, mismatched), which are left as they are; none
            of them with ``strict``. Those of another shape have both: ``name.given`` and
            ``name.expected``.

        Raises:
            TypeError: no dict of names.
            ValueError: with ``strict``, one message with every missing, unexpected and misshapen
                entry, or two entries with other values for one array that layers share; nothing is
                changed.
            RuntimeError: the Trainer of another thread uses the module.
        """
        return _state_dict.load(self, state_dict, strict, prefix)

    def to(self: M, device: str) -> M:
        """Move everything to "cpu" (NumPy), "cuda" or "cuda:N" (CuPy). Returns the module.

        ``Parameter.data`` becomes another array; an optimizer over the parameters brings its state
        along at its next step.

        Raises:
            ValueError: an unknown device.
            RuntimeError: CUDA or CuPy cannot be used, or the Trainer of another thread uses the
                module; nothing is moved.
        """
        _state_dict.move(self, device)
        return self

    def _wants(self) -> Wanted | None:
        """What it wants of the weights in front of it; None: what those behind it want."""
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {
            k: v for k, v in tuple(vars(self).items()) if k != "_saved"
        }  # no activations in a pickle

    # -- printing ------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}" for name, child in self.named_children()]
        return layout(type(self).__name__, self.extra_repr(), lines)


def _entries(value: Any, depth: int) -> Iterator[Any]:
    """The modules in a container, also in containers inside; none of anything else."""
    for entry in _contents(value):
        if isinstance(entry, (Module, Parameter)):
            yield entry
        elif depth and type(entry) not in _PLAIN:
            yield from _entries(entry, depth - 1)


_PLAIN = frozenset((int, float, bool, str, bytes, complex, type(None)))


def _contents(value: Any) -> Iterable[Any]:
    if isinstance(value, np.ndarray):
        return value.flat if value.dtype.hasobject else ()
    if isinstance(value, Mapping):
        return (*value.keys(), *value.values())
    if isinstance(value, (list, tuple, set, frozenset, deque, UserList)):
        return value
    if isinstance(value, MappingView):
        return list(value)  # type: ignore[call-overload, no-any-return]
    if isinstance(value, SimpleNamespace) or (is_dataclass(value) and not isinstance(value, type)):
        return vars(value).values() if hasattr(value, "__dict__") else ()
    return ()


def layout(name: str, arguments: str, lines: list[str]) -> str:
    """``name(arguments)``, or the children one a line, indented."""
    if not lines:
        return f"{name}({arguments})"
    inner = "\n".join(lines).replace("\n", "\n  ")
    return f"{name}(\n  {inner}\n)"
