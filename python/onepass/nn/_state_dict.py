"""Reading and writing a module's state: PyTorch's names, all or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol

from onepass._array import Array, mover, to_numpy
from onepass._parameter import Parameter
from onepass.nn._device import namespace


class Model(Protocol):
    """The part of a `Module` that has to do with its state."""

    saved: Any
    buffer_names: ClassVar[tuple[str, ...]]

    def named_modules(self) -> Iterator[tuple[str, Model]]: ...
    def modules(self) -> Iterator[Model]: ...
    def parameters(self) -> Iterator[Parameter]: ...


def live_arrays(model: Model) -> Iterator[tuple[str, Array]]:
    """``(name, array)``, parameters before buffers; a shared parameter under each of its names."""
    for prefix, module in model.named_modules():
        dot = f"{prefix}." if prefix else ""
        for name, value in vars(module).items():
            if isinstance(value, Parameter):
                yield dot + name, value.data
        for name in module.buffer_names:
            if (array := getattr(module, name)) is not None:
                yield dot + name, array


def move(model: Model, device: str) -> None:
    """Move every array, all or none; what forward saved is forgotten.

    Integer buffers (the count of batches) stay on the host, where they are read at every step.
    """
    move_one = mover(device)
    slots: list[tuple[Any, str]] = [
        (p, name) for p in model.parameters() for name in ("data", "grad")
    ]
    slots += [(module, name) for module in model.modules() for name in module.buffer_names]
    moved = []
    for owner, name in slots:
        array = getattr(owner, name)
        if array is not None and array.dtype.kind == "f":
            moved.append((owner, name, move_one(array)))
    for owner, name, array in moved:
        setattr(owner, name, array)
    for module in model.modules():
        module.saved = None


def load(model: Model, state_dict: dict[str, Any]) -> None:
    """Check everything, then copy everything."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"load_state_dict: 'state_dict' is a {type(state_dict).__name__}, expected a dict of "
            "names and arrays as state_dict() gives; nothing was changed"
        )
    targets = dict(live_arrays(model))
    problems = [f"missing {k}" for k in targets if k not in state_dict]
    problems += [f"unexpected {k}" for k in state_dict if k not in targets]
    sources = {}
    for name, target in targets.items():
        if name not in state_dict:
            continue
        source = to_numpy(state_dict[name])
        if source.shape != tuple(target.shape) or source.dtype.kind not in "fiu":
            problems.append(
                f"{name} is {source.dtype} {source.shape}, expected {target.dtype} {target.shape}"
            )
        sources[name] = source
    if problems:
        raise ValueError(
            f"load_state_dict: the state does not fit this {type(model).__name__}; nothing was "
            "changed:\n  " + "\n  ".join(problems)
        )
    for name, target in targets.items():
        target[...] = namespace(target).asarray(sources[name])
