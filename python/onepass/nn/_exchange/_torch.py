"""A model as one of PyTorch's, with copies of its values.

Names and options of our classes are PyTorch's, so that the options of a constructor of ours are
those of the class of the same name there. What PyTorch has not is refused by name.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onepass._array import to_numpy
from onepass._parameter import Parameter
from onepass.nn._activation import Abs, Sin
from onepass.nn._batch_renorm import BatchRenorm
from onepass.nn._conv import Conv2d
from onepass.nn._decorrelated import DecorrelatedBatchNorm
from onepass.nn._exchange._layers import NotALayerError, options_of, place, walk
from onepass.nn._gated import GLU, Maxout
from onepass.nn._module import Module
from onepass.nn._module_list import ModuleList
from onepass.nn._pool import MaxPool2d
from onepass.nn._rescaling import Rescaling
from onepass.nn._residual import Residual
from onepass.nn._running import Running
from onepass.nn._sequential import Sequential
from onepass.nn._sharing import overlap
from onepass.nn._use import using
from onepass.nn._weight_norm import WeightNorm

LACKING = (Abs, BatchRenorm, DecorrelatedBatchNorm, Maxout, Rescaling, Sin)  # in torch.nn
IN_FRONT = ("Abs", "BatchRenorm", "DecorrelatedBatchNorm", "Maxout", "Sin")  # onepass.torch.nn has


def torch_module() -> Any:
    """PyTorch.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        import torch
    except ImportError:
        raise ModuleNotFoundError(
            "PyTorch is not installed, and its modules are wanted: pip install torch"
        ) from None
    return torch


def residual_class() -> Any:
    """PyTorch's kind of `Residual`."""
    from onepass.nn._exchange import _torch_residual

    return _torch_residual.Residual


def to_torch(model: Module) -> Any:
    """`Module.to_torch`."""
    torch = torch_module()
    made = _Made(torch)
    with using(model, "to_torch"):
        if (said := overlap(model)) is not None:  # there they would be apart
            raise ValueError(f"to_torch: {said}")
        try:
            theirs = walk(model, "", made.visit)
        except NotALayerError as error:
            raise ValueError(f"to_torch: {error}") from None
        devices = [getattr(p.data, "device", None) for p in model.parameters()]
    for device in {getattr(d, "id", None) for d in devices} - {None}:  # of CuPy's arrays
        theirs.to(f"cuda:{device}")
    return theirs


class _Made:
    """Parameters of PyTorch's by the id of ours, so that shared ones are shared there."""

    def __init__(self, torch: Any) -> None:
        self.torch, self.parameters = torch, dict[int, Any]()

    def visit(self, module: Any, name: str, inside: dict[str, Any]) -> Any:
        nn = self.torch.nn
        if isinstance(module, LACKING):
            kind = type(module).__name__
            cure = f"; onepass.torch.nn.{kind} is it" if kind in IN_FRONT else ""
            raise ValueError(f"to_torch: {place(name)} is a {kind}, which torch.nn lacks{cure}")
        if isinstance(module, Sequential):
            made = nn.Sequential(*inside.values())
        elif isinstance(module, ModuleList):
            made = nn.ModuleList(inside.values())
        elif isinstance(module, Residual):
            made = residual_class()(inside["body"], inside.get("shortcut"))
        elif isinstance(module, WeightNorm):
            made = self._weight_normed(module, name, inside["module"])
        else:
            made = self._layer(module, name)
        if isinstance(module, WeightNorm):
            made.train(module.training)  # its parametrization too
        made.training = module.training
        if module.statistics_frozen and isinstance(module, Running):
            made.training = False  # in which PyTorch's norms leave theirs alone
        return made

    def _layer(self, module: Any, name: str) -> Any:
        kind, options = type(module).__name__, self._options(module, name)
        kind = "Linear" if kind == "FoldedLinear" else kind
        theirs = getattr(self.torch.nn, kind, None)
        if theirs is None:
            raise ValueError(
                f"to_torch: {place(name)} is a {kind}, which this version of torch.nn lacks"
            )
        arrays = {k: v for k, v in vars(module).items() if isinstance(v, Parameter)}
        buffers = {k: getattr(module, k) for k in module.buffer_names}
        if arrays or any(b is not None for b in buffers.values()):
            options["device"] = "meta"  # without initial values, which draw random numbers
        try:
            made = theirs(**options)
        except TypeError as error:  # an option that came later
            raise ValueError(
                f"to_torch: {place(name)}, a {kind}, is not in this version of torch.nn: {error}"
            ) from error
        if unknown := [
            *(arrays.keys() - made._parameters.keys()),
            *(set(made._buffers) ^ buffers.keys()),
        ]:
            raise NotImplementedError(
                f"to_torch: {place(name)}, a {kind}, and torch.nn.{kind} do not both have "
                f"{sorted(unknown)}"
            )
        for key in list(made._parameters):
            own = arrays.get(key)
            setattr(made, key, None if own is None else self._parameter(own))
        for key, array in buffers.items():
            made.register_buffer(key, None if array is None else self._tensor(array))
        return made

    def _options(self, module: Any, name: str) -> dict[str, Any]:
        """Those of PyTorch's class.

        Raises:
            ValueError: it lacks one, or its value.
        """
        options = options_of(module)
        if isinstance(module, GLU) and options.pop("activation") != "sigmoid":
            raise ValueError(
                f"to_torch: {place(name)} is a GLU with activation={module.activation!r}, and "
                "torch.nn.GLU has sigmoid alone; onepass.torch.nn.GLU has it"
            )
        if isinstance(module, MaxPool2d) and any(
            2 * p > k for p, k in zip(module.padding, module.kernel_size, strict=True)
        ):
            raise ValueError(
                f"to_torch: {place(name)} is a MaxPool2d with padding={module.padding}, and "
                f"torch.nn.MaxPool2d takes half of kernel_size, {module.kernel_size}, at most"
            )
        if isinstance(module, Conv2d):
            options.pop("channels_last")  # of memory, not of what is computed
        return options

    def _weight_normed(self, module: WeightNorm, name: str, made: Any) -> Any:
        key, torch = module.name, self.torch
        current = getattr(made, key, None)
        if not isinstance(current, torch.nn.Parameter):
            raise ValueError(
                f"to_torch: {place(name)} normalises {key!r}, which is not a parameter"
            )
        g, v = self._parameter(module.weight_g), self._parameter(module.weight_v)
        setattr(made, key, torch.nn.Parameter(v.detach().clone()))
        torch.nn.utils.parametrizations.weight_norm(made, key, module.dim)
        inner = made.parametrizations[key]
        inner.original0, inner.original1 = g, v
        return made

    def _parameter(self, parameter: Parameter) -> Any:
        made = self.parameters.get(id(parameter))
        if made is None:
            tensor = self._tensor(parameter.data)
            made = self.torch.nn.Parameter(tensor, requires_grad=parameter.requires_grad)
            self.parameters[id(parameter)] = made
        return made

    def _tensor(self, array: Any) -> Any:
        """A copy, on the host."""
        own = np.array(to_numpy(array), order="C")
        if own.dtype.name == "bfloat16":
            return self.torch.from_numpy(own.view(np.int16)).view(self.torch.bfloat16)
        return self.torch.from_numpy(own)
