"""What a model is and what a training step of it costs, layer by layer."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onepass import _numbers as numbers
from onepass._array import Array, beside
from onepass.nn import _sharing, _use
from onepass.nn._checks import like
from onepass.nn._exchange._work import Call, Place, Work, work
from onepass.nn._facts import Facts
from onepass.nn._fusable import Fusable
from onepass.nn._group import first_trained
from onepass.nn._init_walk import own_parameters
from onepass.nn._module import Module
from onepass.nn._random import untouched_streams
from onepass.nn._residual import Residual
from onepass.nn._sequential import Sequential
from onepass.nn._sharing import elements, overlaps, place_of
from onepass.nn._weight_norm import WeightNorm

WIDTH = 80


@dataclass(frozen=True)
class LayerSummary:
    """A line of a `Summary`.

    Attributes:
        name: as in ``named_modules``.
        layer: name of its class.
        shape: of y; None where the layer was not called.
        parameters, frozen: numbers of elements, its own: those of layers inside have lines.
        statistics: elements of running statistics.
        fused_into: name of the layer whose kernel does its work, or None.
        products: multiply-adds of matrix products and convolutions, (forward, backward).
        bytes: that its kernels move, (forward, backward).

    Example:
        >>> from onepass import nn
        >>> line = nn.Linear(3, 2).summary((5, 3)).layers[0]
        >>> line.layer, line.shape, line.parameters, line.products
        ('Linear', (5, 2), 8, (30, 30))
    """

    name: str
    layer: str
    shape: tuple[int, ...] | None
    parameters: int
    frozen: int
    statistics: int
    fused_into: str | None
    products: tuple[int, int]
    bytes: tuple[int, int]


@dataclass(frozen=True)
class Summary:
    """What `Module.summary` finds: shapes, parameters, fused kernels, the cost of a training step.

    ``print(summary)`` shows a table of 80 columns; the attributes are its numbers.

    Attributes:
        model: name of its class.
        layers: a `LayerSummary` for each layer, in the order of ``named_modules``.
        input_shape, dtype: of x.
        output_shape: of y.
        parameters, trainable, frozen: numbers of elements; what layers share counts once.
        statistics: elements of running statistics.
        parameter_bytes: of the parameters.
        products: multiply-adds of matrix products and convolutions, (forward, backward).
        bytes: that kernels move, (forward, backward).
        groups: the layers that run as one kernel, by name.

    Example:
        >>> from onepass import nn
        >>> model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
        >>> summary = model.summary((32, 784))
        >>> summary.parameters, summary.products, summary.groups
        (203530, (6504448, 6586368), (('0', '1'),))
    """

    model: str
    input_shape: tuple[int, ...]
    dtype: str
    output_shape: tuple[int, ...]
    layers: tuple[LayerSummary, ...] = field(repr=False)
    parameters: int
    trainable: int
    frozen: int
    statistics: int
    parameter_bytes: int
    products: tuple[int, int]
    bytes: tuple[int, int]
    groups: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    def __repr__(self) -> str:
        return str(self)


def summary(model: Module, given: Any) -> Summary:
    """`Module.summary`."""
    x = _input(model, given)
    with _use.using(model, "summary"):
        kept: dict[int, Any] = {id(p): p for p in model.parameters()}  # the copy never steps
        twin: Module = copy.deepcopy(model, kept | untouched_streams(model))
    _use.train(twin)
    places, heads = _places(twin)
    calls = _calls(twin, x)
    names = {id(module): name for name, module in twin.named_modules()}
    rows, sizes = [], _sizes(model)
    left = dict(sizes)
    total = Work()
    for name, module in twin.named_modules():
        place, made = places[id(module)], calls[id(module)]
        spent = Work()
        for call, _ in made:
            spent += work(module, call, place)
        total += spent
        into = heads.get(id(module))
        if _is_line(module, place):
            rows.append(_line(name, module, made, spent, into, names, left))
    y = calls[id(twin)][-1][0].y
    parameters = list(model.parameters())
    frozen = sum(sizes[id(p)] for p in parameters if not p.requires_grad)
    count = sum(sizes.values())
    return Summary(
        model=type(model).__name__,
        input_shape=tuple(x.shape),
        dtype=x.dtype.name,
        output_shape=y,
        layers=tuple(rows),
        parameters=count,
        trainable=count - frozen,
        frozen=frozen,
        statistics=sum(row.statistics for row in rows),
        parameter_bytes=sum(sizes[id(p)] * p.dtype.itemsize for p in parameters),
        products=total.products,
        bytes=total.bytes,
        groups=_groups(rows),
    )


def _input(model: Module, given: Any) -> Array:
    """The array, or zeros of the shape."""
    if hasattr(given, "dtype") and hasattr(given, "shape") and not isinstance(given, type):
        if getattr(given.dtype, "kind", "f") not in "iu":
            like("summary", "x", given)
        return given
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise TypeError(
            f"summary: 'x' is {given!r}, expected an array or a shape with the batch in front, "
            "such as (32, 784)"
        )
    shape = tuple(numbers.integer("summary", "x", n, 1) for n in given)
    first = next(floats(model), np.empty(0, np.float32))
    return beside(first, np.zeros(shape, first.dtype))


def floats(model: Module) -> Iterator[Array]:
    """Parameters, then running statistics."""
    yield from (p.data for p in model.parameters())
    for module in model.modules():
        buffers = (getattr(module, key) for key in module.buffer_names)
        yield from (b for b in buffers if b is not None and b.dtype.kind == "f")


# -- how a step goes through the model -------------------------------------------------------------


def _places(model: Module) -> tuple[dict[int, Place], dict[int, Module]]:
    """What each module does in a step; and the layer whose kernel does the work of another."""
    places = {id(m): Place(training=m.training) for m in model.modules()}
    heads: dict[int, Module] = {}
    _walk(model, False, True, places, heads)
    return places, heads


def _walk(
    module: Any, needs_dx: bool, runs: bool, places: dict[int, Place], heads: dict[int, Module]
) -> None:
    """Note where backward goes, and what is fused, in a module and all inside it."""
    _note(module, places, needs_dx=needs_dx, runs_back=runs)
    if type(module) is Sequential:
        groups = module.groups()
        first = 0 if needs_dx or not groups else first_trained(groups)
        for i, group in enumerate(groups):
            _walk(group.head, i > first or needs_dx, runs and i >= first, places, heads)
            _fuse(group.head, (group.activation, group.dropout), places, heads)
        return
    if type(module) is Residual and module.adds_in_kernel:
        kernel = _kernel_of(module.body)
        _note(kernel, places, adds=True)
        _note(module, places, fused=True)
        heads[id(module)] = kernel
    inner = type(module) in (Residual, WeightNorm)
    for _, child in module.named_children():
        _walk(child, needs_dx if inner else True, runs, places, heads)


def _note(module: Module, places: dict[int, Place], **changes: Any) -> None:
    places[id(module)] = places[id(module)]._replace(**changes)


def _fuse(
    head: Any, parts: tuple[Module | None, ...], places: dict[int, Place], heads: dict[int, Module]
) -> None:
    behind = [part for part in parts if part is not None]
    if not behind:
        return
    kernel = _kernel_of(head)
    _note(kernel, places, then=True)
    for part in behind:
        _note(part, places, fused=True)
        heads[id(part)] = kernel


def _kernel_of(head: Fusable) -> Module:
    """The layer inside whose kernel goes on."""
    return head.epilogue_head(Facts()) or head


def _calls(model: Module, x: Array) -> dict[int, list[tuple[Call, str]]]:
    """One forward in evaluation mode, every layer by itself; the shapes of each call."""
    made: dict[int, list[tuple[Call, str]]] = {id(m): [] for m in model.modules()}
    model.eval()
    for module in list(model.modules()):
        module.forward = _recording(module, made[id(module)])  # type: ignore[method-assign]
    model(x)
    if not made[id(model)]:
        raise TypeError(f"summary: {type(model).__name__} does not give an array")
    return made


def _recording(module: Module, calls: list[tuple[Call, str]]) -> Any:
    forward = module.forward

    def record(x: Any, *rest: Any, **options: Any) -> Any:
        y = forward(x, *rest, **options)
        if hasattr(x, "nbytes") and hasattr(y, "shape"):
            shapes = tuple(map(int, x.shape)), tuple(map(int, y.shape))
            calls.append((Call(*shapes, int(x.nbytes), y.dtype.itemsize), y.dtype.name))
        return y

    return record


# -- lines -----------------------------------------------------------------------------------------


def _is_line(module: Any, place: Place) -> bool:
    """Layers, blocks that add, modules with parameters of their own; not what only calls."""
    if isinstance(module, Residual) or own_parameters(module):
        return True
    return next(module.named_children(), None) is None


def _line(
    name: str, module: Module, made: list[tuple[Call, str]], spent: Work, into: Module | None,
    names: dict[int, str], left: dict[int, int],
) -> LayerSummary:  # fmt: skip
    own = [(p, left.pop(id(p), 0)) for p in own_parameters(module).values()]
    buffers = (getattr(module, key) for key in module.buffer_names)
    return LayerSummary(
        name=name,
        layer=type(module).__name__,
        shape=made[-1][0].y if made else None,
        parameters=sum(size for _, size in own),
        frozen=sum(size for p, size in own if not p.requires_grad),
        statistics=sum(int(b.size) for b in buffers if b is not None and b.dtype.kind == "f"),
        fused_into=None if into is None else names[id(into)],
        products=spent.products,
        bytes=spent.bytes,
    )


def _sizes(model: Module) -> dict[int, int]:
    """The elements of each parameter, by its id; those that lie in one before do not count."""
    listed = [place_of("", p.data, id(p)) for p in model.parameters()]
    sizes = {id(p): p.size for p in model.parameters()}
    several = {place.owner for pair in overlaps(listed) for place in pair}
    shared = [place for place in listed if place.owner in several]
    if all(place.high - place.low == place.array.nbytes for place in shared):
        return sizes | _of_ranges(shared)  # as a weight and its transpose: no address is looked at
    seen = np.zeros(0, np.int64)
    for place in shared:
        new = np.setdiff1d(elements(place), seen)
        sizes[place.owner], seen = len(new), np.union1d(seen, new)
    return sizes


def _of_ranges(places: list[_sharing.Place]) -> dict[Any, int]:
    """The elements of each, by its owner, that are not in one before, where none has gaps."""
    sizes: dict[Any, int] = {}
    before: list[tuple[int, int]] = []
    for place in places:
        new = [(place.low, place.high)]
        for low, high in before:
            left = [(a, min(b, low)) for a, b in new] + [(max(a, high), b) for a, b in new]
            new = [(a, b) for a, b in left if a < b]
        sizes[place.owner] = sum(b - a for a, b in new) // place.array.dtype.itemsize
        before += new
    return sizes


def _groups(rows: list[LayerSummary]) -> tuple[tuple[str, ...], ...]:
    groups: dict[str, list[str]] = {}
    for row in rows:
        if row.fused_into is not None:
            groups.setdefault(row.fused_into, [row.fused_into]).append(row.name)
    order = {row.name: i for i, row in enumerate(rows)}
    return tuple(map(tuple, sorted(groups.values(), key=lambda group: order[group[0]])))


def _lines(found: Summary) -> Iterator[str]:
    yield f"{found.model}: x {found.input_shape} {found.dtype} -> y {found.output_shape}"
    yield ""
    head = ("layer", "y", "parameters", "products", "bytes")
    table = [head, *(_cells(row) for row in found.layers)]
    *widths, _ = (max(len(row[i]) for row in table) for i in range(5))
    widths = [*widths, 9]
    room = WIDTH - 2 * 4 - sum(widths[1:])
    widths[0] = min(widths[0], max(room, 12))
    for row in table:
        first = row[0] if len(row[0]) <= widths[0] else "..." + row[0][3 - widths[0] :]
        cells = [first.ljust(widths[0]), row[1].ljust(widths[1])]
        cells += [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        yield "  ".join(cells).rstrip()
    yield ""
    size, kinds = _bytes(found.parameter_bytes), f"{found.trainable:,} trained"
    yield f"parameters  {found.parameters:,} ({kinds}, {found.frozen:,} frozen), {size}"
    if found.statistics:
        yield f"statistics  {found.statistics:,}"
    forward, backward = zip(found.products, found.bytes, strict=True)
    for name, (products, moved) in (("forward", forward), ("backward", backward)):
        yield f"{name:10}  {_count(products)} products, {_bytes(moved)}"


def _cells(row: LayerSummary) -> tuple[str, ...]:
    """A layer whose work another kernel does is marked, and says whose."""
    fused = row.fused_into is not None
    name = f"{row.name} {row.layer}".strip()
    shape = f"in {row.fused_into}" if fused else "not called" if row.shape is None else None
    return (
        f"+ {name}" if fused else name,
        shape or str(row.shape),
        _frozen(row),
        _count(sum(row.products)) if any(row.products) else "",
        _bytes(sum(row.bytes)) if any(row.bytes) else "",
    )


def _frozen(row: LayerSummary) -> str:
    if not row.parameters:
        return ""
    mark = "" if not row.frozen else " frozen" if row.frozen == row.parameters else " in part"
    return f"{row.parameters:,}{mark}"


def _count(n: int) -> str:
    return _scaled(n, ("", " k", " M", " G", " T", " P"))


def _bytes(n: int) -> str:
    return _scaled(n, (" B", " kB", " MB", " GB", " TB", " PB"))


def _scaled(n: int, units: tuple[str, ...]) -> str:
    """Three digits and a unit: 12.8 M."""
    power = 0 if n < 1000 else min(int(math.log10(n) // 3), len(units) - 1)
    value = n / 1000**power
    if power and float(f"{value:.3g}") >= 1000 and power < len(units) - 1:
        power, value = power + 1, value / 1000
    return f"{n}{units[0]}" if not power else f"{value:#.3g}".rstrip(".") + units[power]
