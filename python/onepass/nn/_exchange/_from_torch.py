"""PyTorch's modules as ours, with copies of their values.

A class of ours is made from the attributes of the one of its name there: they are the arguments of
both constructors. A module that computes something else than its class says is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from onepass._keywords import suggest_keywords
from onepass._parameter import Parameter
from onepass.nn._activation import MODULES, Identity
from onepass.nn._dropout import Dropout
from onepass.nn._exchange._layers import layers, names_of_options, place
from onepass.nn._exchange._torch import residual_class, torch_module
from onepass.nn._module import Module
from onepass.nn._module_list import ModuleList
from onepass.nn._random import without_drawing
from onepass.nn._residual import Residual
from onepass.nn._sequential import Sequential
from onepass.nn._sharing import Place, overlaps, place_of, said
from onepass.nn._weight_norm import WeightNorm

# Options of PyTorch's that ours have not, and the value with which the two compute the same.
ONLY: dict[str, dict[str, Any]] = {
    "Conv2d": {"padding_mode": "zeros"},
    "MaxPool2d": {"return_indices": False},
    "AvgPool2d": {"divisor_override": None},
}
NOT_LAYERS = ("FoldedLinear", "ModuleList", "Residual", "Sequential", "WeightNorm")
_HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks",
)  # fmt: skip
_LOSSES = ("torch.nn.modules.loss", "onepass.torch.nn._loss")
_PARAMETER_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
_MAY_DIFFER = {"__init__", "__doc__", "__module__", "__qualname__", "__annotations__", "extra_repr",
               "__repr__", "__constants__", "__firstlineno__", "__static_attributes__"}  # fmt: skip


@suggest_keywords
def from_torch(module: Any) -> Module:
    """A model of PyTorch's modules as one of onepass's, that computes the same.

    Values, dtypes, modes, frozen parameters, and parameters that layers share are those of
    ``module``; the values are copied, so that neither model changes the other. A model on CUDA
    comes to CuPy. Names in ``state_dict()`` are PyTorch's, but for weight norms, for layers of a
    ``Sequential`` that have names there and numbers here, and for what is fused: a norm or
    `Linear` of `onepass.torch.nn` with an activation or dropout becomes a `Sequential` of two or
    three layers, which runs as one kernel.

    Dropout has other masks than PyTorch's. A norm in evaluation mode within a model in training
    keeps that mode, as by its own ``eval()``.

    Args:
        module: a `torch.nn.Module`: ``Sequential``, ``ModuleList``, the layers that both libraries
            have, weight norms of either kind, modules of `onepass.torch.nn`, and those that
            `Module.to_torch` makes.

    Raises:
        TypeError: no module of PyTorch.
        ValueError: a module that onepass lacks, with an option that it lacks, with hooks (also on
            parameters), or with a forward or computed parameters of its own; the message has its
            name. Convert the parts that can be. Two parameters in the same memory.
        ModuleNotFoundError: PyTorch is not installed; or parameters are bfloat16, which NumPy takes
            from ml_dtypes.

    Example:
        >>> import torch
        >>> from onepass import nn
        >>> model = nn.from_torch(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU()))
        >>> model
        Sequential(
          fused(
            (0): Linear(in_features=3, out_features=4, bias=True)
            (1): ReLU()
          )
        )
    """
    torch = torch_module()
    if not isinstance(module, torch.nn.Module):
        raise TypeError(
            f"from_torch: 'module' is a {type(module).__name__}, expected a torch.nn.Module"
        )
    if (told := said(overlaps(_places(module)))) is not None:
        raise ValueError(f"from_torch: {told.replace('nn.Parameter', 'torch.nn.Parameter')}")
    maker = _Made(torch)
    with without_drawing():
        model = maker.made(module, "")
        _hold(model, None)
    devices = {str(t.device) for t in (*module.parameters(), *module.buffers())}
    if len(devices - {"cpu"}) > 1:
        raise ValueError(f"from_torch: the model lies on {sorted(devices)}, expected one device")
    for device in devices - {"cpu"}:
        model.to(device)
    return model


def _places(module: Any) -> Iterator[Place]:
    """Parameters that lie somewhere, each once; others are refused by their names."""
    torch = torch_module()
    for name, parameter in module.named_parameters():
        if torch.nn.parameter.is_lazy(parameter) or parameter.is_meta:
            continue
        tensor = parameter.detach()
        if tensor.layout != torch.strided or tensor.is_quantized:
            continue
        place = place_of(name, tensor, id(parameter))
        if tensor.device.type == "cpu" and tensor.dtype.is_floating_point:
            place = place._replace(array=_bits(tensor))
        yield place


def _bits(tensor: Any) -> np.ndarray[Any, Any]:
    """NumPy's view of the same memory."""
    torch = torch_module()
    whole = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    view: np.ndarray[Any, Any] = tensor.view(whole[tensor.element_size()]).numpy()
    return view


def _hold(module: Module, around: bool | None) -> None:
    """A mode that differs from that around it was set on the module itself."""
    module._holds_eval = not module.training and around is not False
    for _, child in module.named_children():
        _hold(child, module.training)


class _Plain(NamedTuple):
    """A module of PyTorch's, as what it computes as."""

    kind: str  # the name of its class
    own: bool  # of onepass.torch.nn


class _Made:
    def __init__(self, torch: Any) -> None:
        self.torch = torch
        self.parameters = dict[int, Parameter]()
        self.stateful = dict[int, str]()  # id of a module with buffers → its name

    def made(self, module: Any, name: str) -> Module:
        """The module of ours."""
        if not isinstance(module, self.torch.nn.Module):
            raise ValueError(f"from_torch: {place(name)} is {module!r}, expected a torch.nn.Module")
        normed = self._weight_norm_of(module, name)
        self._check_plain(module, name, hooked=normed is not None)
        return self._weight_normed(module, name, *normed) if normed else self._made(module, name)

    def _made(self, module: Any, name: str) -> Module:
        nn, dot = self.torch.nn, f"{name}." if name else ""
        children = dict(module._modules)
        if type(module) is residual_class():
            body = self.made(module.body, f"{dot}body")
            side = module.shortcut
            shortcut = None if side is None else self.made(side, f"{dot}shortcut")
            if type(body) is not Sequential:
                raise ValueError(f"from_torch: {place(dot + 'body')} is not a Sequential")
            block = Residual(*body.layers, shortcut=shortcut)
            block.body = body
            return self._in_mode(block, module)
        for theirs, ours in ((nn.Sequential, Sequential), (nn.ModuleList, ModuleList)):
            if isinstance(module, theirs):
                inside = [self.made(child, dot + key) for key, child in children.items()]
                whole: Module = Sequential(*inside) if ours is Sequential else ModuleList(inside)
                return self._in_mode(whole, module)
        if kind := self._done_before(module):
            return self._in_mode(kind(), module)
        return self._layer(module, name)

    def _done_before(self, module: Any) -> type[Module] | None:
        """`Identity` for a dropout that `onepass.torch.fuse` has given to the norm before it."""
        kind = type(module)
        own = kind.__module__ == "onepass.torch.nn._dropout" and kind.__name__ == "DropoutBefore"
        return Identity if own else None

    def _in_mode(self, made: Module, module: Any) -> Module:
        made.training = module.training
        return made

    # -- layers --------------------------------------------------------------------------------

    def _layer(self, module: Any, name: str) -> Module:
        made, own = self._constructed(module, name)
        self._check_once(module, name)
        self._copy_state(module, made, name)
        self._in_mode(made, module)
        return self._with_epilogue(module, made, name) if own else made

    def _constructed(self, module: Any, name: str) -> tuple[Any, bool]:
        """The layer with new values; whether it is one of onepass.torch.nn's."""
        kind, own = self._kind(module, name)
        ours: Any = layers()[kind]
        for option, value in ONLY.get(kind, {}).items():
            if (given := getattr(module, option)) != value:
                raise ValueError(
                    f"from_torch: {place(name)} is a {kind} with {option}={given!r}, and "
                    f"onepass.nn.{kind} has {value!r} alone"
                )
        options = {}
        for option in names_of_options(ours):
            if option == "channels_last" or not hasattr(module, option):
                continue  # of memory, or what PyTorch's class has not
            value = getattr(module, option)
            options[option] = value is not None if option == "bias" else value
        try:
            return ours(**options), own
        except (TypeError, ValueError) as error:
            raise ValueError(f"from_torch: {place(name)}: {error}") from error

    def _kind(self, module: Any, name: str) -> _Plain:
        """Which class of ours has its name and computes the same."""
        kind = self._class_of(module)
        own = kind.__module__.startswith("onepass.torch.nn.")
        known = layers().keys() - set(NOT_LAYERS)
        if own and kind.__name__ in known:
            return _Plain(kind.__name__, True)
        for base in kind.__mro__:
            if base.__module__.startswith("torch.nn.modules.") and base.__name__ in known:
                if self._same(kind, base):
                    return _Plain(base.__name__, False)
                break
        owner = kind.__module__.partition(".")[0]
        shown = f"a {kind.__name__} of {owner}"
        if kind.__module__ in _LOSSES and kind.__name__ in import_module("onepass.nn").__all__:
            raise ValueError(
                f"from_torch: {place(name)} is {shown}, a loss, expected layers alone: make an "
                f"onepass.nn.{kind.__name__} beside the model"
            )
        cure = "; convert the parts that can be" if next(module.children(), None) else ""
        raise ValueError(f"from_torch: {place(name)} is {shown}, which onepass.nn lacks{cure}")

    def _class_of(self, module: Any) -> Any:
        """Its class, without what parametrizations make of that."""
        kind = type(module)
        if self.torch.nn.utils.parametrize.is_parametrized(module):
            return kind.__bases__[0]
        return kind

    def _same(self, kind: Any, base: Any) -> bool:
        """Whether a subclass changes nothing but its constructor and how it is shown."""
        for between in kind.__mro__[: kind.__mro__.index(base)]:
            if between.__module__.startswith("torch.nn.modules.") and between is not kind:
                return False  # another layer of PyTorch's: ReLU6 is a Hardtanh
            changed = set(vars(between)) - _MAY_DIFFER
            if any(hasattr(base, key) for key in changed):
                return False
        return True

    def _check_plain(self, module: Any, name: str, hooked: bool) -> None:
        """Refuse what calls something besides its class's forward."""
        self._check_eager(module, name)
        own = [key for key in ("forward", "__call__", "_call_impl") if key in vars(module)]
        hooks = [key for key in _HOOKS if getattr(module, key, None)]
        if own:
            raise ValueError(
                f"from_torch: {place(name)}, a {type(module).__name__}, has a {own[0]} of its own"
            )
        if hooks and not (hooked and hooks == ["_forward_pre_hooks"]):
            raise ValueError(
                f"from_torch: {place(name)}, a {type(module).__name__}, has hooks, which would be "
                "lost: remove them first"
            )
        containers = (self.torch.nn.Sequential, self.torch.nn.ModuleList)
        for base in containers:
            if isinstance(module, base) and not self._same(type(module), base):
                raise ValueError(
                    f"from_torch: {place(name)} is a {type(module).__name__}, which changes what "
                    f"a {base.__name__} does; convert its parts"
                )

    def _check_eager(self, module: Any, name: str) -> None:
        """Refuse what has no values yet, and what hides the module that it was made from."""
        said, kind = "", type(module)
        if isinstance(module, self.torch.jit.ScriptModule):
            said = "is scripted: convert the module that it was made from"
        elif kind.__name__ == "OptimizedModule" and kind.__module__.startswith("torch._dynamo."):
            said = "is compiled: convert its '_orig_mod'"
        elif any(map(self.torch.nn.parameter.is_lazy, module._parameters.values())):
            said = "has parameters without values: call the model with an x first"
        if said:
            raise ValueError(f"from_torch: {place(name)}, a {kind.__name__}, {said}")

    def _check_once(self, module: Any, name: str) -> None:
        """Refuse one with running statistics in two places: ours would be two."""
        if not module._buffers or all(b is None for b in module._buffers.values()):
            return
        before = self.stateful.setdefault(id(module), name)
        if before != name:
            raise ValueError(
                f"from_torch: {place(name)} is the same {type(module).__name__} as "
                f"{place(before)}, with running statistics that they share; make one for each"
            )

    # -- values --------------------------------------------------------------------------------

    def _copy_state(self, module: Any, made: Any, name: str, skip: str = "") -> None:
        dot = f"{name}." if name else ""
        for key, value in tuple(vars(made).items()):
            if isinstance(value, Parameter) and key != skip:
                theirs = self._own(module, key, "parameter", dot)
                own = None if theirs is None else self._parameter(theirs, value.shape, dot + key)
                setattr(made, key, own)
        for key in made.buffer_names:
            buffer, expected = self._own(module, key, "buffer", dot), getattr(made, key)
            if (buffer is None) != (expected is None):
                raise ValueError(
                    f"from_torch: {place(name)}, a {type(made).__name__}, has {key}"
                    f"{'=None' if buffer is None else ''}, against its track_running_stats: set "
                    "that to what is meant"
                )
            if buffer is not None:
                setattr(made, key, self._array(buffer, dot + key))

    def _own(self, module: Any, key: str, what: str, dot: str) -> Any:
        """What is trained is what is used."""
        held = module._parameters if what == "parameter" else module._buffers
        if (value := getattr(module, key)) is not held.get(key):
            raise ValueError(
                f"from_torch: {dot}{key} is computed, expected a {what} of the "
                f"{type(module).__name__}; convert the parts that can be"
            )
        return value

    def _parameter(self, theirs: Any, shape: tuple[int, ...], name: str) -> Parameter:
        if id(theirs) not in self.parameters:
            if any(getattr(theirs, key, None) for key in _PARAMETER_HOOKS):
                raise ValueError(
                    f"from_torch: {name} has hooks, which would be lost: remove them first"
                )
            array = self._array(theirs, name)
            if array.shape != shape:
                raise ValueError(f"from_torch: {name} has shape {array.shape}, expected {shape}")
            try:
                self.parameters[id(theirs)] = Parameter(array, theirs.requires_grad)
            except TypeError as error:
                raise ValueError(f"from_torch: {name}: {error}") from error
        return self.parameters[id(theirs)]

    def _array(self, tensor: Any, name: str) -> np.ndarray[Any, Any]:
        """A copy, on the host."""
        torch = self.torch
        if tensor.is_meta or tensor.layout != torch.strided or tensor.is_quantized:
            raise ValueError(f"from_torch: {name} has no plain values: it is meta, sparse or such")
        own = tensor.detach().cpu().resolve_neg().contiguous()
        if own.dtype == torch.bfloat16:
            try:
                import ml_dtypes
            except ImportError:
                raise ModuleNotFoundError(
                    f"from_torch: {name} is bfloat16, which NumPy takes from ml_dtypes: "
                    "pip install 'onepass[bfloat16]'"
                ) from None
            return np.array(own.view(torch.int16).numpy()).view(ml_dtypes.bfloat16)
        return np.array(own.numpy())

    # -- what onepass.torch.nn does besides ----------------------------------------------------

    def _with_epilogue(self, module: Any, made: Module, name: str) -> Module:
        if not hasattr(module, "dropout"):
            return made  # an activation, whose class says all
        behind: list[Module] = []
        if module.activation is not None:
            behind.append(self._activation(module.activation, name))
        if module.dropout:
            behind.append(Dropout(module.dropout))
        if not behind:
            return made
        for layer in behind:
            self._in_mode(layer, module)
        drops_for = getattr(module, "_drops_for", None)
        if drops_for is not None and isinstance(behind[-1], Dropout):
            behind[-1].p, behind[-1].training = drops_for[0].p, drops_for[0].training
        return self._in_mode(Sequential(made, *behind), module)

    def _activation(self, spec: Any, name: str) -> Module:
        label, options = (spec, {}) if isinstance(spec, str) else spec
        if not isinstance(label, str) or label not in MODULES or not hasattr(options, "items"):
            raise ValueError(f"from_torch: {place(name)} has activation={spec!r}, expected a name")
        return MODULES[label](**options)

    # -- weight norms --------------------------------------------------------------------------

    def _weight_norm_of(self, module: Any, name: str) -> tuple[str, int, Any, Any] | None:
        """The parameter's name, dim, g and v; None where there is no weight norm."""
        utils = self.torch.nn.utils
        if utils.parametrize.is_parametrized(module):
            ((key, entries), *more) = module.parametrizations.items()
            known = ("_WeightNorm", "_Directed")
            if more or len(entries) != 1 or type(entries[0]).__name__ not in known:
                shown = [type(entry).__name__ for entry in entries]
                raise ValueError(
                    f"from_torch: {place(name)} has the parametrizations {shown} of {key!r}, "
                    "expected none, or one weight norm"
                )
            return key, entries[0].dim, entries.original0, entries.original1
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, import_module("torch.nn.utils.weight_norm").WeightNorm):
                if len(module._forward_pre_hooks) > 1:
                    return None  # refused with the others
                parts = (getattr(module, f"{hook.name}_{end}") for end in "gv")
                return hook.name, hook.dim, *parts
        return None

    def _weight_normed(self, module: Any, name: str, key: str, dim: int, g: Any, v: Any) -> Module:
        inner, own = self._constructed(module, name)
        dot = f"{name}." if name else ""
        self._copy_state(module, inner, name, skip=key)
        setattr(inner, key, Parameter(self._array(v, f"{dot}{key}_v")))
        self._in_mode(inner, module)
        if type(dim) is not int or dim < 0:
            raise ValueError(
                f"from_torch: {place(name)} has a weight norm with dim={dim!r}, expected an axis "
                "of the weight"
            )
        try:
            made = WeightNorm(inner, key, dim)
        except ValueError as error:
            raise ValueError(f"from_torch: {place(name)}: {error}") from error
        made.weight_g = self._parameter(g, made.weight_g.shape, f"{dot}{key}_g")
        made.weight_v = self._parameter(v, made.weight_v.shape, f"{dot}{key}_v")
        self._in_mode(made, module)
        return self._with_epilogue(module, made, name) if own else made
