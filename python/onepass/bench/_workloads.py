"""Workloads that are not one kernel on one array: lists of tensors as networks have them, forward
and gradient together, and one whole training step. A workload is a function without arguments that
makes its arrays and returns (functions by label, elements, fewest bytes).

Kernels and rivals are those of the records in tests/cases. `optimizer_step`, `single` and `both`
take NumPy's arrays or tensors on a device: bench/gpu.py times the same functions there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from onepass.bench import _networks as networks
import numpy as np
from onepass.bench import _peers as peers
from onepass.bench._records import case as _case
from onepass.bench._records import cases


Function = Callable[[], object]
Made = tuple[dict[str, Function], int, float]

SMALL6 = [(64, 256), (256,), (256, 32), (256,), (32, 10), (10,)]  # 26k parameters
SMALL120 = [(48, 43 + i % 3) if i % 2 else (2048 + i,) for i in range(120)]  # 250k
MLP = [(784, 512), (512,), (512, 512), (512,), (512, 10), (10,)]  # 670k
MANY = [(125_000,)] * 200  # 25M
LAYERS = [(8192, 1024), (512, 4096)]  # of the norms over rows
MAPS = [(64, 256, 14, 14), (8, 512, 7, 7)]


def single(case: Case, inputs: tuple, keywords: dict[str, Any]) -> dict[str, Function]:
    """One row of the records, and its rivals on the same inputs."""
    prepared = case.prepare(*inputs, **keywords)
    more = {}
    if case.out:  # like the first result
        result = case.op(*prepared, **keywords)
        more["out"] = empty_like(result[0] if isinstance(result, tuple) else result)
    ours: dict[str, Function] = {"onepass": lambda: case.op(*prepared, **keywords, **more)}
    return ours | case.rivals(inputs, keywords)


def optimizer_step(
    variant: optimizers.Variant,
    params: Sequence[Any],
    grads: Sequence[Any],
    clip: bool,
    forms: Sequence[str],
    torch_options: dict[str, Any] | None = None,
) -> dict[str, Function]:
    """One step of an optimizer over a list; with `clip`, clipping and zeroing of the gradients too.
    `forms` of PyTorch's optimizer: "fused", "foreach"; `torch_options` are more arguments of it."""
    ours = variant.make(params, lr=1e-5)
    controls = {"max_norm": 1e9, "zero_grad": True} if clip else {}
    functions: dict[str, Function] = {"onepass": lambda: ours.step(grads, **controls)}
    if variant.record.torch is not None and has_torch():
        around = _clip_and_zero if clip else lambda optimizer: optimizer.step
        theirs = ([tensor_of(a) for a in arrays] for arrays in (params, grads))
        functions |= variant.torch_steps(
            *theirs, {"lr": 1e-5, **(torch_options or {})}, around, forms
        )
    return functions


def step_bytes(variant: optimizers.Variant, clip: bool, itemsize: int = 4) -> float:
    """Fewest bytes of an element: the norm reads the gradient again, zeroing writes it."""
    return BY_NAME[variant.name].bytes(itemsize) + (2.0 * itemsize if clip else 0.0)


def _clip_and_zero(optimizer: Any) -> Function:
    import torch

    tensors = optimizer.param_groups[0]["params"]
    grads = [p.grad for p in tensors]

    def step() -> None:
        torch.nn.utils.clip_grad_norm_(tensors, 1e9, foreach=True)
        optimizer.step()
        torch._foreach_zero_(grads)

    return step


def both_bytes(name: str, itemsize: int) -> float:
    """Fewest bytes of an element, forward and backward."""
    return BY_NAME[name].bytes(itemsize) + BY_NAME[f"{name}_backward"].bytes(itemsize)


def _step(
    variant: optimizers.Variant, shapes: list[tuple[int, ...]], clip: bool = False
) -> Callable[[], Made]:
    """A step of `optim` over arrays, and of `onepass.torch.optim` over tensors."""

    def make() -> Made:
        rng = np.random.default_rng(0)
        params = [rng.standard_normal(s).astype(np.float32) for s in shapes]
        grads = [(rng.standard_normal(s) * 0.01).astype(np.float32) for s in shapes]
        elements = sum(p.size for p in params)
        functions = optimizer_step(variant, params, grads, clip, ("fused", "foreach"))
        if not clip:
            functions |= peers.steps(variant.name, params, grads)
        if has_torch() and not clip:
            import onepass.torch.optim as front

            cls = getattr(front, variant.record.cls.__name__)
            _, functions["onepass tensors"] = _stepping(cls, params, grads, **variant.options)
        return functions, elements, elements * step_bytes(variant, clip)

    return make


def _both(name: str, shape: tuple[int, ...], **options: Any) -> Callable[[], Made]:
    def make() -> Made:
        case = BY_NAME[f"{name}_backward"]
        functions = case.both(case.inputs(shape, "float32", options), options)
        elements = math.prod(shape)
        return functions, elements, elements * both_bytes(name, 4)

    return make


def _batch_norm(shape: tuple[int, ...], activation: str | None, p: float) -> Callable[[], Made]:
    return _both("batch_norm", shape, training=True, activation=activation, dropout_p=p)


def _bias_gelu(shape: tuple[int, int], approximate: str) -> Callable[[], Made]:
    return _both("bias_act", shape, activation=("gelu", {"approximate": approximate}))


def _demo_step() -> Made:
    """The demo's step: 64-256-256-10 with batch norm, ReLU, dropout and AdamW, batch 32."""
    from onepass import nn, optim

    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((32, 64)).astype(np.float32), rng.integers(0, 10, 32)
    nn.manual_seed(0)
    blocks = [
        part
        for size in ((64, 256), (256, 256))
        for part in (nn.Linear(*size), nn.BatchNorm1d(size[1]), nn.ReLU(), nn.Dropout(0.2))
    ]
    model, loss = nn.Sequential(*blocks, nn.Linear(256, 10)), nn.CrossEntropyLoss()
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)

    def ours() -> None:
        _, dy = loss(model(x), t)
        model.backward(dy, need_input_grad=False)
        optimizer.step(max_norm=1.0, zero_grad=True)

    functions: dict[str, Callable[[], object]] = {"onepass": ours}
    if has_torch():
        functions |= {"torch eager": _torch_demo(x, t)}
    try:
        from sklearn.neural_network import MLPClassifier
    except ImportError:
        pass
    else:  # plain ReLU layers: it has neither batch norm nor dropout nor clipping
        rival = MLPClassifier((256, 256), batch_size=32, max_iter=1)
        rival.partial_fit(x, t, classes=np.arange(10))
        functions["sklearn MLP"] = lambda: rival.partial_fit(x, t)
    elements = sum(p.size for p in model.parameters())
    return functions, elements, elements * 36.0


def _torch_demo(x: np.ndarray, t: np.ndarray) -> Callable[[], object]:
    import torch

    tn = torch.nn
    blocks = [
        part
        for size in ((64, 256), (256, 256))
        for part in (tn.Linear(*size), tn.BatchNorm1d(size[1]), tn.ReLU(), tn.Dropout(0.2))
    ]
    model, loss = tn.Sequential(*blocks, tn.Linear(256, 10)), tn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    inputs, target = torch.from_numpy(x.copy()), torch.from_numpy(t.copy())

    def theirs() -> None:
        loss(model(inputs), target).backward()
        tn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return theirs


def _param_groups() -> Made:
    """A network of 233 layers: a group for each of its 465 parameters."""
    from onepass import optim

    names = [f"{i}.{kind}" for i in range(233) for kind in ("weight", "bias")][:-1]
    shapes = [(8, 8) if name.endswith("weight") else (64,) for name in names]
    params, grads = _float32(shapes)

    def groups_of(own: Sequence[Any]) -> list[dict[str, Any]]:
        named = zip(names, own, strict=True)
        return optim.param_groups(named, lr=1e-5, weight_decay=0.1, layer_decay=0.99)

    groups = groups_of([p.copy() for p in params])
    flat = [grads[names.index(name)] for group in groups for name in group["param_names"]]
    ours = optim.AdamW(groups)
    functions: dict[str, Function] = {"onepass": lambda: ours.step(flat)}
    if has_torch():
        import torch

        for form in ("fused", "foreach"):
            tensors = [torch.nn.Parameter(torch.from_numpy(p.copy())) for p in params]
            for p, g in zip(tensors, grads, strict=True):
                p.grad = torch.from_numpy(g.copy())
            functions[f"torch {form}"] = torch.optim.AdamW(groups_of(tensors), **{form: True}).step
    elements = sum(p.size for p in params)
    return functions, elements, elements * 28.0


def _muon() -> Made:
    """A layer of a transformer of width 256: products of matrices, and AdamW for the rest."""
    from onepass import optim

    layer = [(256, 256)] * 4 + [(1024, 256), (256, 1024)] + [(256,)] * 8
    params, grads = _float32(layer)
    ours = optim.Muon([p.copy() for p in params], lr=1e-5)
    functions: dict[str, Function] = {"onepass": lambda: ours.step(grads)}
    if has_torch():
        import torch

        tensors, functions["onepass tensors"] = _stepping(optim.Muon, params, grads)
        held = [torch.nn.Parameter(p.detach().clone()) for p in tensors]
        for own, p in zip(held, tensors, strict=True):
            own.grad = p.grad
        muon = torch.optim.Muon([p for p in held if p.ndim == 2], lr=1e-5)
        adamw = torch.optim.AdamW([p for p in held if p.ndim < 2], lr=1e-5, fused=True)
        functions["torch eager"] = lambda: (muon.step(), adamw.step())
    elements = sum(p.size for p in params)
    return functions, elements, elements * 20.0


def _stored(state_dtype: str, size: int) -> Callable[[], Made]:
    """AdamW with states of fewer bits beside the same step with those of float32."""

    def make() -> Made:
        from onepass import optim

        def step(dtype: str | None) -> Function:
            (p,), (g,) = _float32([(size,)])
            own = optim.AdamW([p], lr=1e-5, state_dtype=dtype)
            return lambda: own.step([g])

        functions = {"onepass": step(state_dtype), "float32 states": step(None)}
        # The parameter is read and written, the gradient read, each of two states read and written.
        each = 2.0 if state_dtype == "bfloat16" else 1 + 4 / 256
        return functions, size, size * (12 + 4 * each)

    return make


def _sparse_adam() -> Made:
    """2,048 rows, some of them named twice, of a table of 100,000 by 64."""
    from onepass import optim

    (table,), (values,) = _float32([(100_000, 64)])[0], _float32([(2048, 64)])[0]
    indices = np.random.default_rng(1).integers(0, len(table), len(values))
    ours = optim.SparseAdam([table.copy()])
    functions: dict[str, Function] = {"onepass": lambda: ours.step([(indices, values)])}
    if has_torch():
        import torch

        at, rows = torch.from_numpy(indices)[None], torch.from_numpy(values)
        grad = torch.sparse_coo_tensor(at, rows, table.shape, check_invariants=True)
        for name, module in (("onepass tensors", optim), ("torch eager", torch.optim)):
            p = torch.nn.Parameter(torch.from_numpy(table.copy()))
            p.grad = grad.clone()
            functions[name] = module.SparseAdam([p]).step
    return functions, values.size, values.size * 28.0


def _lbfgs() -> Made:
    """Ten iterations on a quadratic of a million parameters, which cost next to nothing."""
    from onepass import optim

    (start, scale), _ = _float32([(1_000_000,)] * 2)
    options = {"max_iter": 10, "history_size": 10, "tolerance_grad": 0, "tolerance_change": 0}
    p = start.copy()
    ours = optim.LBFGS([p], lr=1e-3, **options)
    functions: dict[str, Function] = {"onepass": lambda: ours.step(lambda: (1.0, [p * scale]))}
    if has_torch():
        import torch

        q, slopes = (torch.from_numpy(a.copy()) for a in (start, scale))
        theirs = torch.optim.LBFGS([q], lr=1e-3, **options)

        def closure() -> Any:
            q.grad = q * slopes
            return torch.ones(())

        functions["torch eager"] = lambda: theirs.step(closure)
    return functions, p.size, p.size * 4.0 * 10 * (4 * 10 + 6)


def _float32(shapes: Sequence[tuple[int, ...]]) -> list[list[np.ndarray]]:
    """Parameters and gradients."""
    rng = np.random.default_rng(0)
    return [[rng.standard_normal(s).astype(np.float32) for s in shapes] for _ in range(2)]


def _stepping(
    cls: Any, params: Sequence[Any], grads: Sequence[Any], **options: Any
) -> tuple[list[Any], Function]:
    """Parameters of PyTorch with gradients, and a step of ``cls`` over them."""
    import torch

    tensors = [torch.nn.Parameter(torch.from_numpy(p.copy())) for p in params]
    for p, g in zip(tensors, grads, strict=True):
        p.grad = torch.from_numpy(g.copy())
    return tensors, cls(tensors, lr=1e-5, **options).step


def _network(name: str, shape: tuple[int, ...]) -> Callable[[], Made]:
    """A convolutional network; the bytes are those of its images alone."""

    def make() -> Made:
        elements = math.prod(shape)
        return networks.functions(networks.NETWORKS[name], shape), elements, 4.0 * elements

    return make


def _layer(name: str, last: bool) -> Callable[[], Made]:
    """A layer over images; the bytes are those of x and dx."""
    make_layer, shape = networks.LAYERS[name]

    def make() -> Made:
        elements = math.prod(shape)
        return networks.layer_functions(make_layer, shape, last), elements, 8.0 * elements

    return make


_ADAMW = optimizers.BY_NAME["adamw"]
_EVERY = [v for v in optimizers.VARIANTS if not v.switches]  # of each optimizer that has a record

WORKLOADS: dict[str, Callable[[], Made]] = {
    "adamw 6 tensors 26k": _step(_ADAMW, SMALL6),
    "adamw mlp 670k": _step(_ADAMW, MLP),
    "adamw 465 tensors 30k": _step(_ADAMW, [(8, 8)] * 465),
    "param_groups adamw 465 groups 30k": _param_groups,
    **{f"{v.name} 120 tensors 250k": _step(v, SMALL120) for v in _EVERY},
    **{f"{v.name} 200 tensors 25M": _step(v, MANY) for v in _EVERY},
    "clip+adamw+zero 120 tensors 250k": _step(_ADAMW, SMALL120, clip=True),
    "clip+adamw+zero 200 tensors 25M": _step(_ADAMW, MANY, clip=True),
    "bn fwd+bwd 256x1024": _batch_norm((256, 1024), None, 0.0),
    "bn fwd+bwd 64x128": _batch_norm((64, 128), None, 0.0),
    "bn fwd+bwd 32x64x56x56": _batch_norm((32, 64, 56, 56), None, 0.0),
    "bn+relu+dropout 64x128": _batch_norm((64, 128), "relu", 0.5),
    "bn+relu+dropout 256x1024": _batch_norm((256, 1024), "relu", 0.5),
    "bn+relu+dropout 4096x512": _batch_norm((4096, 512), "relu", 0.5),
    "bn+relu+dropout 32x64x56x56": _batch_norm((32, 64, 56, 56), "relu", 0.5),
    "bn+relu+dropout 64x256x14x14": _batch_norm((64, 256, 14, 14), "relu", 0.5),
    "bn+relu+dropout 8x512x7x7": _batch_norm((8, 512, 7, 7), "relu", 0.5),
    **{
        f"{name} fwd+bwd {'x'.join(map(str, shape))}": _both(name, shape)
        for name, shapes in (
            ("layer_norm", LAYERS),
            ("rms_norm", LAYERS),
            ("group_norm", MAPS),
            ("instance_norm", MAPS),
        )
        for shape in shapes
    },
    "bias+gelu(tanh) fwd+bwd 256x1024": _bias_gelu((256, 1024), "tanh"),
    "bias+gelu fwd+bwd 256x1024": _bias_gelu((256, 1024), "none"),
    **{
        f"adamw {dtype} states {name}": _stored(dtype, size)
        for dtype in ("bfloat16", "int8")
        for name, size in (("64k", 1 << 16), ("16M", 1 << 24))
    },
    "muon 6 matrices 790k": _muon,
    "sparse adam 2048 rows": _sparse_adam,
    "lbfgs 10 iterations 1M": _lbfgs,
    "demo training step": _demo_step,
    **{
        f"{name}{order} fwd+bwd": _layer(name, last)
        for name in networks.LAYERS
        for order, last in networks.ORDERS.items()
    },
    **{
        f"{name} fwd+bwd {size}": _network(name, shape)
        for name in networks.NETWORKS
        for size, shape in networks.SIZES.items()
    },
}
