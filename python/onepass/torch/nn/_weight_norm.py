"""Weight normalisation of another layer: PyTorch's parametrization over the kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from onepass.torch.nn._elementwise import weight_norm


class WeightNorm:
    """w = g·v/‖v‖ for each slice of a layer's weight along ``dim``, of any shape.

    `torch.nn.utils.parametrizations.weight_norm` over the kernel of `onepass.ops.weight_norm`: a
    call gives ``module`` itself, whose weight is computed from two parameters wherever it is read.
    They start so that it is what it was. Its state_dict is the one of PyTorch's, with
    ``parametrizations.weight.original0`` for g and ``…original1`` for v; ``weight_g`` and
    ``weight_v``, of `torch.nn.utils.weight_norm` and `onepass.nn.WeightNorm`, load too. As there,
    `torch.nn.utils.parametrize.remove_parametrizations` makes the weight a parameter again, and
    the layer is saved by its state_dict, not pickled. g and v are kept for the backward.
    Source: Salimans and Kingma 2016.

    Args:
        module: the layer, changed in place.
        name: of its weight.
        dim: axis of the weight whose slices have a length of their own; of a linear layer's or a
            convolution's 0 is a length for each output.

    Raises:
        TypeError: ``module`` is not a module.
        ValueError: it has no such parameter, or a slice of that is zero, which has no direction.

    Example:
        >>> import torch
        >>> from onepass.torch import nn
        >>> layer = nn.WeightNorm(nn.Linear(3, 2))
        >>> list(layer.state_dict())
        ['bias', 'parametrizations.weight.original0', 'parametrizations.weight.original1']
        >>> layer(torch.ones(4, 3)).shape
        torch.Size([4, 2])
    """

    def __new__(cls, module: nn.Module, name: str = "weight", dim: int = 0) -> Any:
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"WeightNorm: 'module' is {type(module).__name__}, expected a torch.nn.Module"
            )
        weight = module._parameters.get(name)
        if weight is None:
            known = [key for key, value in module._parameters.items() if value is not None]
            raise ValueError(
                f"WeightNorm: 'name' is {name!r}, expected one of the parameters of "
                f"{type(module).__name__}: {known}"
            )
        if type(dim) is not int or not 0 <= dim < weight.dim():
            raise ValueError(
                f"WeightNorm: 'dim' is {dim!r}, expected an axis of {name}, which has "
                f"{weight.dim()}, counted from 0"
            )
        if not weight.is_meta and not bool((_lengths(weight.detach(), dim) > 0).all()):
            raise ValueError(
                f"WeightNorm: a slice of {name} along axis {dim} is zero, which has no direction; "
                "initialise the layer first"
            )
        parametrize.register_parametrization(module, name, _Directed(dim), unsafe=True)
        module._register_load_state_dict_pre_hook(  # type: ignore[no-untyped-call]
            _OlderKeys(name)
        )
        return module


def _lengths(weight: torch.Tensor, dim: int) -> torch.Tensor:
    """Of the slices, in the dtype of the weight; their squares may be out of its range."""
    others = [axis for axis in range(weight.dim()) if axis != dim]
    if not others:
        return weight.abs()
    lengths = torch.linalg.vector_norm(weight.double(), dim=others, keepdim=True)
    return lengths.to(weight.dtype)  # type: ignore[no-any-return]


class _Directed(nn.Module):
    """The parametrization."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, g: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return weight_norm(v, g, self.dim)

    def right_inverse(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return _lengths(weight, self.dim), weight

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class _OlderKeys:
    """Takes a state by the names before parametrizations."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, state: dict[str, Any], prefix: str, *_: Any) -> None:
        for place, end in enumerate(("g", "v")):
            old = f"{prefix}{self.name}_{end}"
            if old in state:
                state[f"{prefix}parametrizations.{self.name}.original{place}"] = state.pop(old)
