"""Where each module of a model stands: what comes after it, and whether it ends a residual branch.

The model is walked from its end, so that each layer is met with what comes after it. The order of
the layers is that of `Sequential`; in other modules it is that in which their constructors set
them, which is the only order that can be seen without a call.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from onepass._parameter import Computed, Parameter
from onepass.nn._affine import Affine
from onepass.nn._module import Module
from onepass.nn._residual import Residual
from onepass.nn._sequential import Sequential
from onepass.nn._signal import Bending, Norm, Passing, Wanted
from onepass.nn._weight_norm import WeightNorm

SMALL = 0.1  # of a branch whose last layer must not be zero


class Place(NamedTuple):
    """Where a module stands."""

    after: Wanted  # by what comes after it
    scale: float = 1.0  # of its values: 0 or less than 1 at the end of a residual branch


OUTPUT = Wanted("the output")
ORDINARY = Place(OUTPUT)


def places_in(model: Module) -> dict[int, Place]:
    """The place of each module inside, by its id."""
    places: dict[int, Place] = {}
    _walk(model, OUTPUT, places)
    return places


def own_parameters(module: Module) -> dict[str, Parameter]:
    """The parameters that are attributes of this very module."""
    return {
        key: value
        for key, value in tuple(vars(module).items())
        if isinstance(value, Parameter) and not isinstance(value, Computed)
    }


def _walk(module: Module, after: Wanted, places: dict[int, Place]) -> Wanted:
    """Note the place of everything inside; returns what stands before ``module`` comes upon."""
    kept = places.get(id(module), Place(after)).scale  # a residual around may have set it
    places[id(module)] = Place(after, kept)
    if (wanted := module._wants()) is not None:
        return wanted
    if isinstance(module, Residual):
        _note_branch(module.body, places)
        if module.shortcut is not None:
            _walk(module.shortcut, after, places)
        return _walk(module.body, after, places)
    children = [child for _, child in module.named_children()]
    for child in reversed(children):
        after = _walk(child, after, places)
    if children or isinstance(module, Norm) or not own_parameters(module):
        return after  # norms, dropout, pools and such are looked through
    return Wanted(type(module).__name__)


def _note_branch(body: Sequential, places: dict[int, Place]) -> None:
    """The last layer or norm of a residual branch begins at 0, so that the block passes x on.

    Where an activation stands behind it, 0 would stop its gradient: it begins small instead.
    """
    layers, scale = list(_flat(body)), 0.0
    for layer in reversed(layers):
        if isinstance(layer, Bending):
            scale = SMALL
        elif isinstance(layer, (Affine, WeightNorm)) or (
            isinstance(layer, Norm) and getattr(layer, "weight", None) is not None
        ):
            places[id(layer)] = Place(OUTPUT, scale)
            return
        elif not isinstance(layer, Passing):
            return  # it would undo the scale, or what it does at 0 is not known


def _flat(module: Module) -> Iterator[Module]:
    if isinstance(module, Sequential):
        for layer in module.layers:
            yield from _flat(layer)
    else:
        yield module
