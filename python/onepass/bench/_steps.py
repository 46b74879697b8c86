"""Steps of optimizers over lists of tensors as networks have them, on either device.

Optimizers, formulas and bounds are those of the records.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from onepass._streams import Function, Streams
from onepass.bench import _arrays as arrays
from onepass.bench import _check as check
from onepass.bench import _peers as peers
from onepass.bench._beside import beside
from onepass.bench._peers._library import Lacks
from onepass.bench._peers._torch_compile import compiled
from onepass.bench._records import case as records
from onepass.bench._records import cases
from onepass.bench._row import Check, Context, Make, Row, Workload

Shapes = Sequence[tuple[int, ...]]

FORMS = ("fused", "foreach", "eager")  # of PyTorch's optimizers
TORCH = ("torch", "torch-compile")  # libraries that `beside_torch` has
ADAMW = cases.optimizers.BY_NAME["adamw"]
SMALL6 = [(64, 256), (256,), (256, 32), (256,), (32, 10), (10,)]  # 26k parameters
SMALL120 = [(48, 43 + i % 3) if i % 2 else (2048 + i,) for i in range(120)]  # 250k
MLP = [(784, 512), (512,), (512, 512), (512,), (512, 10), (10,)]  # 670k
MANY = [(125_000,)] * 200  # 25M
# So many calls after which gradients that a step has cleared are as they were: of zeros alone the
# moments become subnormal after about 800.
REFILL = 256


def step(
    variant: Any,
    shapes: Shapes,
    clip: bool = False,
    dtype: str | None = None,
    forms: Sequence[str] = FORMS,
    graph: bool = False,
) -> Make:
    """A step over a list.

    Args:
        variant: the optimizer, of the records.
        shapes: of the parameters.
        clip: whether the gradients are clipped by the norm of all before, and zeroed afterwards.
        dtype: of the parameters and gradients; None: the one that the user asked for.
        forms: PyTorch's that take part where it alone does: with `clip`, or on a GPU.
        graph: whether captured calls are replayed, on a GPU.
    """

    def make(asked: Context) -> Workload:
        context = asked.of_dtype(dtype)
        params, grads = arrays.drawn(context, shapes)
        if clip or context.device != "cpu":
            more = {"capturable": True} if graph else {}
            found = beside_torch(context, variant, params, grads, clip, forms, more)
            if not clip:
                others = peers.steps(context, variant, params, grads, {"lr": 1e-5}, without=TORCH)
                found = peers.Found(
                    found.functions | others.functions, found.missing | others.missing
                )
        else:
            rivals = peers.steps(context, variant, params, grads, {"lr": 1e-5})
            found = peers.Found(own(variant, params, grads) | rivals.functions, rivals.missing)
        each = step_bytes(variant, clip, arrays.itemsize(context.dtype))
        elements = _size(shapes)
        return Workload(
            found.functions,
            elements,
            elements * each,
            step_streams(variant, clip),
            checked(context, variant, params, grads, clip),
            missing=found.missing,
            graph=graph,
            dtype=dtype,
        )

    return make


def _size(shapes: Shapes) -> int:
    """Elements in all."""
    return sum(math.prod(shape) for shape in shapes)


def step_bytes(variant: Any, clip: bool, itemsize: int = 4) -> float:
    """Fewest bytes of an element: the norm reads the gradient again, zeroing writes it."""
    return float(cases.BY_NAME[variant.name].bytes(itemsize) + (2 * itemsize if clip else 0))


BLOCK = 256  # elements of an 8-bit state with one scale


def state_bytes(state_dtype: str) -> float:
    """Bytes of an element of one state: a code, and of 8 bits its part of the block's scale."""
    return {"float32": 4.0, "bfloat16": 2.0, "int8": 1 + 4 / BLOCK}[state_dtype]


def adamw_bytes(state_dtype: str) -> float:
    """Fewest bytes of an element of AdamW: the parameter is read and written, the gradient read,
    each of two states read and written."""
    return 12 + 4 * state_bytes(state_dtype)


def step_streams(variant: Any, clip: bool) -> Streams:
    """The gradient is read; the parameter and each state are updated."""
    updates = round((cases.BY_NAME[variant.name].bytes(4) - 4) / 8)
    return Streams(2, 1, updates) if clip else Streams(1, 0, updates)


def checked(
    context: Context, variant: Any, params: Sequence[Any], grads: Sequence[Any], clip: bool
) -> Callable[[], Check]:
    """Two steps beside the formula; on a GPU of few tensors."""
    if context.device == "cpu":
        return lambda: check.of_steps(variant, params, grads, clip=clip)

    def compare() -> Check:
        p, g = arrays.drawn(Context(), [(4096,), (64, 65)])
        found = check.of_steps(variant, p, g, arrays.placed, arrays.back, clip)
        return Check(found.error, found.ulps, "few elements of float32")

    return compare


def own(
    variant: Any, params: Sequence[Any], grads: Sequence[Any], **controls: Any
) -> dict[str, Function]:
    """Ours, over copies of the parameters; with controls that clear the gradients, of those too."""
    held = [records.copy_of(p) for p in params]
    slopes = [records.copy_of(g) for g in grads] if controls else grads
    optimizer = variant.make(held, lr=1e-5)

    def run() -> None:
        optimizer.step(slopes, **controls)

    return {"onepass": refilled(run, slopes) if controls else run}


def beside_torch(
    context: Context,
    variant: Any,
    params: Sequence[Any],
    grads: Sequence[Any],
    clip: bool,
    forms: Sequence[str] = FORMS,
    more: dict[str, Any] | None = None,
) -> peers.Found:
    """Ours and PyTorch's over arrays or tensors that neither writes to.

    Args:
        context: libraries that are asked for, threads.
        variant, params, grads: as for `step`.
        clip: whether both clip by the norm, and clear their gradients.
        forms: of PyTorch's optimizer.
        more: arguments of it alone.
    """

    def theirs(form: str) -> Function:
        tensors = ([records.tensor_of(a) for a in given] for given in (params, grads))
        compiles = form == "compile"
        made: Any
        ((_, made),) = variant.torch_forms(
            *tensors, {"lr": 1e-5, **(more or {})}, ("foreach" if compiles else form,)
        )
        if isinstance(made, str):
            raise Lacks(made)
        run = _clip_and_zero(made, form) if clip else made.step
        # A class breaks the graph before its formula, by itself.
        return compiled(lambda: run(), whole=False) if compiles else run

    labels = [] if variant.record.torch is None else [*forms]
    if labels and context.device != "cpu":
        labels.append("compile")
    controls = {"max_norm": 1e9, "zero_grad": True} if clip else {}
    ours = own(variant, params, grads, **controls)
    found = beside(context, {f"torch {form}": functools.partial(theirs, form) for form in labels})
    return peers.Found(ours | found.functions, found.missing)


def _clip_and_zero(optimizer: Any, form: str) -> Function:
    """In one form throughout."""
    import torch

    tensors = optimizer.param_groups[0]["params"]
    grads = [p.grad for p in tensors]
    lists = form != "eager"

    def step() -> None:
        torch.nn.utils.clip_grad_norm_(tensors, 1e9, foreach=lists)
        optimizer.step()
        if lists:
            torch._foreach_zero_(grads)
        else:
            optimizer.zero_grad(set_to_none=False)

    return refilled(step, grads)


def refilled(step: Function, grads: Sequence[Any]) -> Function:
    """A step that clears its gradients; before every so many calls they are as at first. On a GPU
    they stay 0, as subnormal numbers cost nothing there."""
    if not isinstance(grads[0], np.ndarray) and grads[0].device.type != "cpu":
        return step
    kept, calls = [records.copy_of(g) for g in grads], 0

    def run() -> None:
        nonlocal calls
        if calls % REFILL == 0:
            for g, value in zip(grads, kept, strict=True):
                g[...] = value
        calls += 1
        step()

    return run


def _tensors(context: Context) -> Workload:
    """`onepass.torch.optim` over PyTorch's tensors, beside PyTorch's own."""
    peers.need_torch()
    import onepass.torch.optim as front

    params, grads = arrays.drawn(context, SMALL120)
    found = _torch_forms(context, lambda: with_gradients(params, grads))
    adamw: Any = front.AdamW
    functions: dict[str, Function] = {
        "onepass": adamw(with_gradients(params, grads), lr=1e-5).step,
    }

    def compare() -> Check:
        tensors = with_gradients(params, grads)
        adamw(tensors, lr=1e-2).step()
        run = ADAMW.trajectory(params, lr=1e-2)
        run.step(grads)
        return check.worst(
            check.compared(t.detach().numpy(), want, records.Derived(), "float32", True)
            for t, want in zip(tensors, run.params, strict=True)
        )

    elements = _size(SMALL120)
    count = elements * step_bytes(ADAMW, False)
    return Workload(
        functions | found.functions, elements, count, step_streams(ADAMW, False), compare,
        missing=found.missing,
    )  # fmt: skip


def with_gradients(params: Sequence[Any], grads: Sequence[Any]) -> list[Any]:
    """Parameters of PyTorch."""
    import torch

    tensors = [torch.nn.Parameter(records.tensor_of(p)) for p in params]
    for p, g in zip(tensors, grads, strict=True):
        p.grad = records.tensor_of(g)
    return tensors


def _torch_forms(context: Context, make: Callable[[], Any]) -> peers.Found:
    """PyTorch's AdamW in each of its forms, over what `make` gives."""
    forms: dict[str, dict[str, Any]] = {
        "fused": {"fused": True}, "foreach": {"foreach": True}, "eager": {"foreach": False},
    }  # fmt: skip

    def made(options: dict[str, Any]) -> Function:
        import torch

        return torch.optim.AdamW(make(), lr=1e-5, **options).step

    return beside(
        context, {f"torch {form}": functools.partial(made, own) for form, own in forms.items()}
    )


def _param_groups(context: Context) -> Workload:
    """A network of 233 layers: a group for each of its 465 parameters."""
    from onepass import optim

    names = [f"{i}.{kind}" for i in range(233) for kind in ("weight", "bias")][:-1]
    shapes = [(8, 8) if name.endswith("weight") else (64,) for name in names]
    params, grads = arrays.drawn(context, shapes)

    def groups_of(own: Sequence[Any], lr: float = 1e-5) -> list[dict[str, Any]]:
        named = zip(names, own, strict=True)
        return optim.param_groups(named, lr=lr, weight_decay=0.1, layer_decay=0.99)

    groups = groups_of([p.copy() for p in params])
    flat = [grads[names.index(name)] for group in groups for name in group["param_names"]]
    ours = optim.AdamW(groups)
    functions: dict[str, Function] = {"onepass": lambda: ours.step(flat)}
    rivals = _torch_forms(context, lambda: groups_of(with_gradients(params, grads)))

    def compare() -> Check:
        own = groups_of([p.copy() for p in params], lr=1e-2)
        optim.AdamW(own).step(flat)
        found = []
        for group in own:
            at = [names.index(name) for name in group["param_names"]]
            options = {key: group[key] for key in ("lr", "weight_decay")}
            run = ADAMW.trajectory([params[i].copy() for i in at], **options)
            run.step([grads[i] for i in at])
            pairs = zip(group["params"], run.params, strict=True)
            found += [
                check.compared(p, want, records.Derived(), "float32", True) for p, want in pairs
            ]
        return check.worst(iter(found))

    elements = _size(shapes)
    count = elements * step_bytes(ADAMW, False)
    return Workload(
        functions | rivals.functions, elements, count, step_streams(ADAMW, False), compare,
        missing=rivals.missing,
    )  # fmt: skip


def rows() -> Iterator[Row]:
    """Of the CPU, small ones marked as quick where they show something of their own."""
    every = [v for v in cases.optimizers.VARIANTS if not v.switches]  # each optimizer with a record
    yield Row("adamw 6 tensors 26k", "optim", step(ADAMW, SMALL6))
    yield Row("adamw mlp 670k", "optim", step(ADAMW, MLP))
    yield Row("adamw 465 tensors 30k", "optim", step(ADAMW, [(8, 8)] * 465))
    yield Row("param_groups adamw 465 groups 30k", "optim", _param_groups, quick=True)
    for v in every:
        quick = v.name in ("adamw", "sgd")
        yield Row(f"{v.name} 120 tensors 250k", "optim", step(v, SMALL120), quick=quick)
    for v in every:
        yield Row(f"{v.name} 200 tensors 25M", "optim", step(v, MANY))
    clipped = "clip+adamw+zero"
    yield Row(f"{clipped} 120 tensors 250k", "optim", step(ADAMW, SMALL120, True), quick=True)
    yield Row(f"{clipped} 200 tensors 25M", "optim", step(ADAMW, MANY, True))
    yield Row("adamw 120 torch tensors 250k", "optim", _tensors)
