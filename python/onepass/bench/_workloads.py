"""Rows that are not one kernel on one array: lists of tensors as networks have them, forward and
gradient together, layers over images. Each is a function of what the user asked for (a `Context`)
that makes its arrays.

Kernels and their bounds are those of the records.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from onepass.bench import _check as check
from onepass.bench import _networks as networks
from onepass.bench import _peers as peers
from onepass.bench._beside import beside
from onepass.bench._peers._library import Lacks
from onepass.bench._records import case as records
from onepass.bench._records import cases
from onepass.bench._row import Check, Context, Function, Row, Streams, Workload, named

Make = Callable[[Context], Workload]

SMALL6 = [(64, 256), (256,), (256, 32), (256,), (32, 10), (10,)]  # 26k parameters
SMALL120 = [(48, 43 + i % 3) if i % 2 else (2048 + i,) for i in range(120)]  # 250k
MLP = [(784, 512), (512,), (512, 512), (512,), (512, 10), (10,)]  # 670k
MANY = [(125_000,)] * 200  # 25M
MATRICES = [(256, 1024), (4096, 512)]
LAYERS = [(8192, 1024), (512, 4096)]  # of the norms over rows
MAPS = [(64, 256, 14, 14), (8, 512, 7, 7)]
# So many calls after which gradients that a step has cleared are as they were: of zeros alone the
# moments become subnormal after about 800.
REFILL = 256


# --------------------------------------------------------------------------------- optimizer steps


def step_bytes(variant: Any, clip: bool, itemsize: int = 4) -> float:
    """Fewest bytes of an element: the norm reads the gradient again, zeroing writes it."""
    return float(cases.BY_NAME[variant.name].bytes(itemsize) + (2 * itemsize if clip else 0))


def step_streams(variant: Any, clip: bool) -> Streams:
    """The gradient is read; the parameter and each state are updated."""
    updates = round((cases.BY_NAME[variant.name].bytes(4) - 4) / 8)
    return Streams(2, 1, updates) if clip else Streams(1, 0, updates)


def _step(variant: Any, shapes: Sequence[tuple[int, ...]]) -> Make:
    """A step of `optim` over arrays."""

    def make(context: Context) -> Workload:
        params, grads = _drawn(shapes)
        ours = variant.make([p.copy() for p in params], lr=1e-5)
        found = peers.steps(context, variant, params, grads, {"lr": 1e-5})
        elements = sum(p.size for p in params)
        return Workload(
            {"onepass": lambda: ours.step(grads), **found.functions},
            elements,
            elements * step_bytes(variant, False),
            step_streams(variant, False),
            lambda: check.of_steps(variant, params, grads),
            missing=found.missing,
        )

    return make


def _clipped(variant: Any, shapes: Sequence[tuple[int, ...]]) -> Make:
    """Clipping by the norm of all gradients, a step, and zeroing them."""

    def make(context: Context) -> Workload:
        params, grads = _drawn(shapes)
        elements = sum(p.size for p in params)
        # Functions zero the gradients they have, and so do rivals: each has its own.
        found = optimizer_step(
            context, variant, [p.copy() for p in params], [g.copy() for g in grads], True
        )
        return Workload(
            found.functions,
            elements,
            elements * step_bytes(variant, True),
            step_streams(variant, True),
            lambda: check.of_steps(variant, params, grads, clip=True),
            missing=found.missing,
        )

    return make


def optimizer_step(
    context: Context,
    variant: Any,
    params: Sequence[Any],
    grads: Sequence[Any],
    clip: bool,
    forms: Sequence[str] = ("fused", "foreach", "eager"),
    torch_options: dict[str, Any] | None = None,
) -> peers.Found:
    """One step over a list of arrays or tensors, ours and PyTorch's; with `clip`, clipping and
    zeroing of the gradients too. `forms` of PyTorch's optimizer; `torch_options` are more arguments
    of it."""
    controls = {"max_norm": 1e9, "zero_grad": True} if clip else {}
    options = {"lr": 1e-5, **(torch_options or {})}
    ours = variant.make(params, lr=1e-5)

    def own() -> None:
        ours.step(grads, **controls)

    def theirs(form: str) -> Function:
        tensors = ([records.tensor_of(a) for a in arrays] for arrays in (params, grads))
        ((_, made),) = variant.torch_forms(*tensors, options, (form,))
        if isinstance(made, str):
            raise Lacks(made)
        return _clip_and_zero(made, form) if clip else made.step  # type: ignore[no-any-return]

    labels = [] if variant.record.torch is None else forms
    found = beside(context, {f"torch {form}": functools.partial(theirs, form) for form in labels})
    functions = {"onepass": refilled(own, grads) if clip else own}
    return peers.Found(functions | found.functions, found.missing)


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
    import onepass.torch.optim as front

    params, grads = _drawn(SMALL120)
    found = _torch_forms(context, lambda: _with_gradients(params, grads))
    adamw: Any = front.AdamW
    functions: dict[str, Function] = {
        "onepass": adamw(_with_gradients(params, grads), lr=1e-5).step,
    }

    def compare() -> Check:
        tensors = _with_gradients(params, grads)
        adamw(tensors, lr=1e-2).step()
        run = ADAMW.trajectory(params, lr=1e-2)
        run.step(grads)
        return check.worst(
            check.compared(t.detach().numpy(), want, records.Derived(), "float32", True)
            for t, want in zip(tensors, run.params, strict=True)
        )

    elements = sum(p.size for p in params)
    count = elements * step_bytes(ADAMW, False)
    return Workload(
        functions | found.functions, elements, count, step_streams(ADAMW, False), compare,
        missing=found.missing,
    )  # fmt: skip


def _with_gradients(params: Sequence[Any], grads: Sequence[Any]) -> list[Any]:
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
    params, grads = _drawn(shapes)

    def groups_of(own: Sequence[Any], lr: float = 1e-5) -> list[dict[str, Any]]:
        named = zip(names, own, strict=True)
        return optim.param_groups(named, lr=lr, weight_decay=0.1, layer_decay=0.99)

    groups = groups_of([p.copy() for p in params])
    flat = [grads[names.index(name)] for group in groups for name in group["param_names"]]
    ours = optim.AdamW(groups)
    functions: dict[str, Function] = {"onepass": lambda: ours.step(flat)}
    rivals = _torch_forms(context, lambda: groups_of(_with_gradients(params, grads)))

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

    elements = sum(p.size for p in params)
    count = elements * step_bytes(ADAMW, False)
    return Workload(
        functions | rivals.functions, elements, count, step_streams(ADAMW, False), compare,
        missing=rivals.missing,
    )  # fmt: skip


def _muon(context: Context) -> Workload:
    """A layer of a transformer of width 256: products of matrices, and AdamW for the rest."""
    from onepass import optim

    layer = [(256, 256)] * 4 + [(1024, 256), (256, 1024)] + [(256,)] * 8
    params, grads = _drawn(layer)
    ours = optim.Muon([p.copy() for p in params], lr=1e-5)
    functions: dict[str, Function] = {"onepass": lambda: ours.step(grads)}

    def theirs() -> Function:
        import torch

        if not hasattr(torch.optim, "Muon"):
            raise Lacks(f"PyTorch {torch.__version__} has no Muon")
        tensors = _with_gradients(params, grads)
        muon = torch.optim.Muon([p for p in tensors if p.ndim == 2], lr=1e-5)
        adamw = torch.optim.AdamW([p for p in tensors if p.ndim < 2], lr=1e-5, fused=True)
        return lambda: (muon.step(), adamw.step())

    found = beside(context, {"torch eager": theirs})
    elements = sum(p.size for p in params)

    def run(dtype: str) -> list[Any]:
        held = [p.astype(dtype) for p in params]
        optim.Muon(held, lr=1e-2).step([g.astype(dtype) for g in grads])
        return [h - p for h, p in zip(held, params, strict=True)]

    # Five Newton-Schulz steps: no bound is derived, but a thousandth of the step is plenty.
    return Workload(
        functions | found.functions, elements, elements * 20.0, None, _in_float64(run, 1e-3),
        missing=found.missing,
    )  # fmt: skip


def _stored(state_dtype: Any, size: int) -> Make:
    """AdamW with states of fewer bits beside the same step with those of float32."""

    def make(context: Context) -> Workload:
        from onepass import optim

        params, grads = _drawn([(size,)])

        def step(dtype: Any) -> Function:
            own = optim.AdamW([params[0].copy()], lr=1e-5, state_dtype=dtype)
            return lambda: own.step(grads)

        found = peers.Found({}, {})
        if state_dtype == "int8":
            options = {"lr": 1e-5, "state_dtype": state_dtype}
            found = peers.steps(context, ADAMW, params, grads, options)
        functions = {"onepass": step(state_dtype), "onepass float32 states": step(None)}

        def compare() -> Check:
            p, (g,) = params[0][: check.MOST].copy(), [g[: check.MOST] for g in grads]
            before, run = p.copy(), ADAMW.trajectory([p.copy()], lr=1e-2)
            own = optim.AdamW([p], lr=1e-2, state_dtype=state_dtype)
            for _ in range(2):
                own.step([g])
                run.step([g])
            share = 0.02 if state_dtype == "bfloat16" else 0.1
            note = f"the whole step within {share:.0%} of one with exact states"
            found = check.together(p - before, np.asarray(run.params[0]) - before, share)
            return Check(found.error, None, note)

        # The parameter is read and written, the gradient read, each of two states read and written.
        each = 2.0 if state_dtype == "bfloat16" else 1 + 4 / 256
        streams = Streams(2, 0, 4) if state_dtype == "bfloat16" else Streams(2, 0, 3)
        count = size * (12 + 4 * each)
        return Workload(
            functions | found.functions, size, count, streams, compare, missing=found.missing
        )

    return make


def _sparse_adam(context: Context) -> Workload:
    """2,048 rows, some of them named twice, of a table of 100,000 by 64."""
    from onepass import optim

    (table, values), _ = _drawn([(100_000, 64), (2048, 64)])
    indices = np.random.default_rng(1).integers(0, len(table), len(values))
    ours = optim.SparseAdam([table.copy()])
    functions: dict[str, Function] = {"onepass": lambda: ours.step([(indices, values)])}

    def theirs() -> Function:
        import torch

        at, rows = torch.from_numpy(indices)[None], records.tensor_of(values)
        p = torch.nn.Parameter(records.tensor_of(table))
        p.grad = torch.sparse_coo_tensor(at, rows, table.shape, check_invariants=True)
        return torch.optim.SparseAdam([p]).step

    found = beside(context, {"torch eager": theirs})

    def run(dtype: str) -> list[Any]:
        held = table.astype(dtype)
        optim.SparseAdam([held], lr=1e-2).step([(indices, values.astype(dtype))])
        return [held - table]

    return Workload(
        functions | found.functions, values.size, values.size * 28.0, None, _in_float64(run, 1e-4),
        missing=found.missing,
    )  # fmt: skip


LBFGS: dict[str, Any] = {
    "lr": 1e-2, "max_iter": 10, "history_size": 10, "tolerance_grad": 0, "tolerance_change": 0,
}  # fmt: skip


def bowl() -> tuple[np.ndarray, np.ndarray]:
    """A start and the slopes of a quadratic of a million parameters, which cost next to nothing.

    The first step, of `lr` in the sum of all gradients, moves each by 20 roundings; the others go a
    hundredth of the way, so in hundreds of them no change becomes too small for the history.
    """
    (start, slopes), _ = _drawn([(1_000_000,)] * 2)
    return start * np.float32(1e-2), np.abs(slopes) + 1


def _lbfgs(context: Context) -> Workload:
    """Ten iterations; from the second call on each has a history of ten."""
    from onepass import optim

    start, slopes = bowl()
    held = start.copy()
    ours = optim.LBFGS([held], **LBFGS)
    functions: dict[str, Function] = {
        "onepass": lambda: ours.step(lambda: (1.0, [held * slopes])),
    }

    def theirs() -> Function:
        import torch

        q, scale = (records.tensor_of(a) for a in (start, slopes))
        own = torch.optim.LBFGS([q], **LBFGS)

        def closure() -> Any:
            q.grad = q * scale
            return torch.ones(())

        return lambda: own.step(closure)

    found = beside(context, {"torch eager": theirs})

    def run(dtype: str) -> list[Any]:  # of few parameters
        p, scale = (a[:1000].astype(dtype) for a in (start, slopes))
        optim.LBFGS([p], **LBFGS | {"lr": 0.5}).step(lambda: (1.0, [p * scale]))
        return [p - start[:1000]]

    count = start.size * 40.0 * (4 * 10 + 6)
    return Workload(
        functions | found.functions, start.size, count, None, _in_float64(run, 1e-3),
        missing=found.missing,
    )  # fmt: skip


def _in_float64(run: Callable[[str], Sequence[Any]], share: float) -> Callable[[], Check]:
    """What ``run`` gives in float32 beside its run in float64: where no record has a formula."""

    def compare() -> Check:
        pairs = zip(run("float32"), run("float64"), strict=True)
        found = check.worst(check.within(got, want, share) for got, want in pairs)
        return Check(found.error, None, f"within {share:g} of its own run in float64")

    return compare


def _drawn(shapes: Sequence[tuple[int, ...]]) -> list[list[np.ndarray]]:
    """Parameters and gradients."""
    rng = np.random.default_rng(0)
    return [[rng.standard_normal(s).astype(np.float32) for s in shapes] for _ in range(2)]


# ----------------------------------------------------------------------------- forward and gradient


def both_bytes(name: str, itemsize: int) -> float:
    """Fewest bytes of an element, forward and backward."""
    found = cases.BY_NAME[name].bytes(itemsize) + cases.BY_NAME[f"{name}_backward"].bytes(itemsize)
    return float(found)


def _both(name: str, shape: tuple[int, ...], **options: Any) -> Make:
    def make(context: Context) -> Workload:
        case = cases.BY_NAME[f"{name}_backward"]
        given = options or case.options[0]
        keywords = cases.keywords_of(given)
        inputs = case.inputs(shape, "float32", given)
        ours = {"onepass": case.both(inputs, keywords)["onepass"]}
        found = peers.both(context, case, inputs, keywords)
        elements, arrays = math.prod(shape), round(both_bytes(name, 4) / 4)
        return Workload(
            ours | found.functions,
            elements,
            elements * both_bytes(name, 4),
            Streams(arrays - 2, 2),  # y and dx are written
            lambda: check.worst(
                check.of_case(cases.BY_NAME[each], shape, "float32", given)
                for each in (name, case.name)
            ),
            missing=found.missing,
        )

    return make


# -------------------------------------------------------------------------------- layers, networks


def _network(name: str, shape: tuple[int, ...]) -> Make:
    """A convolutional network; the bytes are those of its images alone."""

    def make(context: Context) -> Workload:
        elements = math.prod(shape)
        found = networks.step_functions(context, networks.NETWORKS[name], shape)
        return Workload(
            found.functions,
            elements,
            4.0 * elements,
            missing=found.missing,
            check=lambda: networks.checked(networks.NETWORKS[name], (8, *shape[1:])),
        )

    return make


def _layer(name: str, last: bool) -> Make:
    """A layer over images, forward and all gradients."""
    layer = networks.LAYERS[name]
    shape = layer.shape

    def make(context: Context) -> Workload:
        found = networks.layer_functions(context, layer, last)
        return Workload(
            found.functions,
            math.prod(shape),
            layer.bytes(),
            layer.streams,
            lambda: networks.checked(lambda n, *_, **__: layer.make(n), (2, *shape[1:]), last),
            missing=found.missing,
        )

    return make


# -------------------------------------------------------------------------------------------- rows

ADAMW = cases.optimizers.BY_NAME["adamw"]
_EVERY = [v for v in cases.optimizers.VARIANTS if not v.switches]  # each optimizer with a record


def _bn(shape: tuple[int, ...], activation: str | None, p: float) -> Make:
    return _both("batch_norm", shape, training=True, activation=activation, dropout_p=p)


def _bias_gelu(approximate: str) -> Make:
    return _both("bias_act", (256, 1024), activation=("gelu", {"approximate": approximate}))


def rows() -> Iterator[Row]:
    """All of them, small ones marked as quick where they show something of their own."""
    yield Row("adamw 6 tensors 26k", "optim", _step(ADAMW, SMALL6))
    yield Row("adamw mlp 670k", "optim", _step(ADAMW, MLP))
    yield Row("adamw 465 tensors 30k", "optim", _step(ADAMW, [(8, 8)] * 465))
    yield Row("param_groups adamw 465 groups 30k", "optim", _param_groups, quick=True)
    for v in _EVERY:
        quick = v.name in ("adamw", "sgd")
        yield Row(f"{v.name} 120 tensors 250k", "optim", _step(v, SMALL120), quick=quick)
    for v in _EVERY:
        yield Row(f"{v.name} 200 tensors 25M", "optim", _step(v, MANY))
    yield Row("clip+adamw+zero 120 tensors 250k", "optim", _clipped(ADAMW, SMALL120), quick=True)
    yield Row("clip+adamw+zero 200 tensors 25M", "optim", _clipped(ADAMW, MANY))
    if records.has_torch():
        yield Row("adamw 120 torch tensors 250k", "optim", _tensors)
    for dtype in ("bfloat16", "int8"):
        for count, size in (("64k", 1 << 16), ("16M", 1 << 24)):
            yield Row(f"adamw {dtype} states {count}", "optim", _stored(dtype, size))
    yield Row("muon 6 matrices 790k", "optim", _muon)
    yield Row("sparse adam 2048 rows", "optim", _sparse_adam)
    yield Row("lbfgs 10 iterations 1M", "optim", _lbfgs)
    plain: list[tuple[int, ...]] = [(256, 1024), (64, 128), (32, 64, 56, 56)]
    for shape in plain:
        yield Row(f"bn fwd+bwd {named(shape)}", "norm", _bn(shape, None, 0.0))
    for shape in ((64, 128), *MATRICES, (32, 64, 56, 56), *MAPS):
        quick = shape == (256, 1024)
        row = _bn(shape, "relu", 0.5)
        yield Row(f"bn+relu+dropout {named(shape)}", "norm", row, quick=quick)
    for name, shapes in (
        ("layer_norm", LAYERS), ("rms_norm", LAYERS), ("group_norm", MAPS), ("instance_norm", MAPS),
    ):  # fmt: skip
        for shape in shapes:
            yield Row(f"{name} fwd+bwd {named(shape)}", "norm", _both(name, shape))
    yield Row("bias+gelu(tanh) fwd+bwd 256x1024", "activation", _bias_gelu("tanh"))
    yield Row("bias+gelu fwd+bwd 256x1024", "activation", _bias_gelu("none"))
    for name in networks.LAYERS:
        for order, last in networks.ORDERS.items():
            yield Row(f"{name}{order} fwd+bwd", "conv", _layer(name, last))
    for name in networks.NETWORKS:
        for order, images in networks.SIZES.items():
            yield Row(f"{name} fwd+bwd {order}", "end-to-end", _network(name, images))
