"""Modules in a list: `ModuleList`, and the editing that `Sequential` shares with it."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar, overload

from onepass.nn._module import Module

L = TypeVar("L", bound="Layers")


class Layers(Module):
    """A module with a sequence of modules inside, named "0", "1", …, that is edited like a list.

    A refused edit changes nothing.
    """

    layers: tuple[Module, ...]

    def _take(self, layers: Iterable[Any]) -> None:
        """Check the layers, then have them."""
        taken = tuple(layers)
        self._check(taken)
        self.layers = taken

    def _check(self, layers: tuple[Any, ...]) -> None:
        for i, layer in enumerate(layers):
            check_module(type(self).__name__, f"layer {i}", layer)
            if any(module is self for module in layer.modules()):
                raise ValueError(f"{type(self).__name__}: layer {i} holds this module, a circle")

    def named_children(self) -> Iterator[tuple[str, Module]]:
        return ((str(i), layer) for i, layer in enumerate(self.layers))

    def _check_attributes(self) -> None:
        for name, value in tuple(vars(self).items()):
            if name != "layers":
                self._check_one(name, value)
            if isinstance(value, Module) and not any(
                module is value for layer in self.layers for module in layer.modules()
            ):
                raise TypeError(
                    f"{type(self).__name__}: {name!r} is a {type(value).__name__} beside the "
                    "layers, which nothing would call or train; expected it among them "
                    f"({type(self).__name__}.append), or a Module that holds both"
                )

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.layers)

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self: L, index: slice) -> L: ...
    def __getitem__(self: L, index: int | slice) -> Module | L:
        if isinstance(index, slice):
            return self._of(self.layers[self._place(index)])
        return self.layers[self._place(index)]

    def _of(self: L, layers: tuple[Module, ...]) -> L:
        """Another such module, of these layers."""
        raise NotImplementedError

    @overload
    def __setitem__(self, index: int, layer: Module) -> None: ...
    @overload
    def __setitem__(self, index: slice, layer: Iterable[Module]) -> None: ...
    def __setitem__(self, index: int | slice, layer: Any) -> None:
        """Replace a layer; or those of a slice by any number of others, as in a list."""
        changed: list[Any] = list(self.layers)
        place = self._place(index)
        if isinstance(place, slice):
            owner, new = type(self).__name__, list(_several(type(self).__name__, "layers", layer))
            old = len(changed[place])
            if place.step not in (None, 1) and len(new) != old:
                raise ValueError(
                    f"{owner}: {len(new)} layers for a slice with a step, expected {old}, as many "
                    "as it has"
                )
            changed[place] = new
        else:
            changed[place] = layer
        self._take(changed)

    def __delitem__(self, index: int | slice) -> None:
        changed = list(self.layers)
        del changed[self._place(index)]
        self._take(changed)

    def append(self: L, layer: Module) -> L:
        """Add a layer at the end. Returns the module."""
        self._take((*self.layers, layer))
        return self

    def extend(self: L, layers: Iterable[Module]) -> L:
        """Add layers at the end. Returns the module."""
        self._take((*self.layers, *_several(type(self).__name__, "extend", layers)))
        return self

    def insert(self: L, index: int, layer: Module) -> L:
        """Add a layer before the one at ``index``. Returns the module."""
        changed = list(self.layers)
        changed.insert(self._index(index), layer)
        self._take(changed)
        return self

    def pop(self, index: int = -1) -> Module:
        """Remove a layer and return it."""
        layer = self[self._index(index)]
        del self[index]
        return layer

    def _index(self, index: Any) -> int:
        try:
            return operator.index(index)
        except TypeError:
            raise TypeError(
                f"{type(self).__name__}: the index is {index!r}, expected a whole number or a slice"
            ) from None

    @overload
    def _place(self, index: int) -> int: ...
    @overload
    def _place(self, index: slice) -> slice: ...
    def _place(self, index: Any) -> Any:
        """The index or slice, where it is one of a layer."""
        if isinstance(index, slice):
            try:
                index.indices(0)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{type(self).__name__}: {index!r}: {error}") from None
            return index
        number, count = self._index(index), len(self.layers)
        if not -count <= number < count:
            raise IndexError(
                f"{type(self).__name__}: index {number} is out of range, expected "
                f"{-count} to {count - 1}"
                if count
                else f"{type(self).__name__}: index {number} is out of range, it has no layers"
            )
        return number

    def __iadd__(self: L, layers: Iterable[Module]) -> L:
        return self.extend(layers)

    def __add__(self: L, layers: Iterable[Module]) -> L:
        return self._of((*self.layers, *_several(type(self).__name__, "+", layers)))


class ModuleList(Layers):
    """Modules in a list, which are found: trained, saved, moved, switched. As in PyTorch.

    It has no forward; the module that holds it calls the modules one by one.

    Args:
        modules: an iterable of modules.

    Raises:
        TypeError: something is not a `Module`.

    Example:
        >>> from onepass import nn
        >>> heads = nn.ModuleList([nn.Linear(4, n) for n in (2, 3)])
        >>> [name for name, _ in heads.named_parameters()]
        ['0.weight', '0.bias', '1.weight', '1.bias']
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        self._take(() if modules is None else _several("ModuleList", "modules", modules))

    def _of(self, layers: tuple[Module, ...]) -> ModuleList:
        return type(self)(layers)


def check_module(owner: str, name: str, value: Any) -> None:
    """Refuse what is not a module of onepass, and say which library's it is."""
    if isinstance(value, Module):
        return
    if isinstance(value, type):
        shown, cure = f"the class {value.__name__}", f": write {value.__name__}(…)"
    else:
        kind, cure = type(value), ""
        library = "torch.nn" if kind.__module__.startswith("torch.nn.") else kind.__module__
        library = "" if library in ("builtins", "__main__") else f"{library} "
        shown = f"a {library}{kind.__name__}"
    raise TypeError(f"{owner}: {name} is {shown}, expected an onepass.nn module{cure}")


def _several(owner: str, name: str, layers: Any) -> Iterable[Any]:
    if not isinstance(layers, Iterable):
        raise TypeError(
            f"{owner}: {name!r} is a {type(layers).__name__}, expected several modules, such as a "
            "list of them"
        )
    return layers
