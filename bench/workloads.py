"""Cases that are not one kernel on one array: lists of tensors as networks have them, forward and
gradient together, and one whole training step. Each maker gives (functions, elements, bytes)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from peers import torch, torch_optimizer

Made = tuple[dict[str, Callable[[], object]], int, float]

SMALL6 = [(64, 256), (256,), (256, 32), (256,), (32, 10), (10,)]  # 26k parameters
SMALL120 = [(48, 43 + i % 3) if i % 2 else (2048 + i,) for i in range(120)]  # 250k
MLP = [(784, 512), (512,), (512, 512), (512,), (512, 10), (10,)]  # 670k
MANY = [(125_000,)] * 200  # 25M


def _optimizer(shapes: list[tuple[int, ...]], clip: bool) -> Callable[[], Made]:
    def make() -> Made:
        from onepass import optim

        rng = np.random.default_rng(0)
        params = [rng.standard_normal(s).astype(np.float32) for s in shapes]
        grads = [(rng.standard_normal(s) * 0.01).astype(np.float32) for s in shapes]
        elements = sum(p.size for p in params)
        ours = optim.AdamW([p.copy() for p in params], lr=1e-5)
        step = {"max_norm": 1e9, "zero_grad": True} if clip else {}
        functions: dict[str, Callable[[], object]] = {"onepass": lambda: ours.step(grads, **step)}
        if torch is not None:
            for label, more in (
                ("torch fused", {"fused": True}),
                ("torch foreach", {"foreach": True}),
            ):
                rival = torch_optimizer("adamw", params, grads, {"lr": 1e-5}, **more)
                functions[label] = _torch_step(rival) if clip else rival.step
        return functions, elements, elements * (36.0 if clip else 28.0)

    return make


def _torch_step(optimizer: Any) -> Callable[[], object]:
    tensors = optimizer.param_groups[0]["params"]
    grads = [p.grad for p in tensors]

    def step() -> None:
        torch.nn.utils.clip_grad_norm_(tensors, 1e9)
        optimizer.step()
        torch._foreach_zero_(grads)

    return step


def _batch_norm_both(
    shape: tuple[int, ...], activation: str | None, p: float
) -> Callable[[], Made]:
    def make() -> Made:
        from onepass import ops

        rng = np.random.default_rng(0)
        c = shape[1]
        x, dy = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
        w, b, mean, var = (np.ones(c, np.float32) for _ in range(4))
        y, dx = np.empty_like(x), np.empty_like(x)

        def ours() -> None:
            _, saved = ops.batch_norm(
                x, w, b, mean, var, training=True, activation=activation, dropout_p=p, out=y
            )
            ops.batch_norm_backward(dy, saved, out=dx)

        functions: dict[str, Callable[[], object]] = {"onepass": ours}
        if torch is not None:
            functions["torch"] = _torch_both(x, dy, w, b, mean, var, activation, p)
        return functions, x.size, x.size * 20.0

    return make


def _torch_both(x, dy, w, b, mean, var, activation, p) -> Callable[[], object]:
    from torch.nn import functional as F

    leaf = torch.from_numpy(x.copy()).requires_grad_()
    gradient = torch.from_numpy(dy.copy())
    weight, bias = (torch.from_numpy(a.copy()).requires_grad_() for a in (w, b))
    running = [torch.from_numpy(a.copy()) for a in (mean, var)]

    def both() -> None:
        z = F.batch_norm(leaf, *running, weight, bias, training=True)
        z = z if activation is None else getattr(torch, activation)(z)
        z = F.dropout(z, p) if p else z
        torch.autograd.grad(z, (leaf, weight, bias), gradient)

    return both


def _bias_gelu_both(shape: tuple[int, int], approximate: str, p: float) -> Callable[[], Made]:
    def make() -> Made:
        from onepass import ops

        rng = np.random.default_rng(0)
        x, dy = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
        bias = rng.standard_normal(shape[1]).astype(np.float32)
        y, dx = np.empty_like(x), np.empty_like(x)
        options: dict[str, Any] = {
            "activation": ("gelu", {"approximate": approximate}), "dropout_p": p, "seed": 1
        }  # fmt: skip

        def ours() -> None:
            ops.bias_act(x, bias, out=y, **options)
            ops.bias_act_backward(dy, x, bias, out=dx, **options)

        functions: dict[str, Callable[[], object]] = {"onepass": ours}
        if torch is not None:
            from torch.nn import functional as F

            leaf, b = (torch.from_numpy(a.copy()).requires_grad_() for a in (x, bias))
            gradient = torch.from_numpy(dy.copy())

            def theirs() -> None:
                z = F.gelu(leaf + b, approximate=approximate)
                torch.autograd.grad(F.dropout(z, p) if p else z, (leaf, b), gradient)

            functions["torch"] = theirs
        return functions, x.size, x.size * 20.0

    return make


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
    if torch is not None:
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


WORKLOADS: dict[str, Callable[[], Made]] = {
    "adamw 6 tensors 26k": _optimizer(SMALL6, clip=False),
    "adamw 120 tensors 250k": _optimizer(SMALL120, clip=False),
    "adamw mlp 670k": _optimizer(MLP, clip=False),
    "adamw 200 tensors 25M": _optimizer(MANY, clip=False),
    "clip+adamw+zero 120 tensors 250k": _optimizer(SMALL120, clip=True),
    "clip+adamw+zero 200 tensors 25M": _optimizer(MANY, clip=True),
    "bn fwd+bwd 256x1024": _batch_norm_both((256, 1024), None, 0.0),
    "bn fwd+bwd 64x128": _batch_norm_both((64, 128), None, 0.0),
    "bn fwd+bwd 32x64x56x56": _batch_norm_both((32, 64, 56, 56), None, 0.0),
    "bn+relu+dropout 64x128": _batch_norm_both((64, 128), "relu", 0.5),
    "bn+relu+dropout 256x1024": _batch_norm_both((256, 1024), "relu", 0.5),
    "bn+relu+dropout 4096x512": _batch_norm_both((4096, 512), "relu", 0.5),
    "bn+relu+dropout 32x64x56x56": _batch_norm_both((32, 64, 56, 56), "relu", 0.5),
    "bn+relu+dropout 64x256x14x14": _batch_norm_both((64, 256, 14, 14), "relu", 0.5),
    "bn+relu+dropout 8x512x7x7": _batch_norm_both((8, 512, 7, 7), "relu", 0.5),
    "bias+gelu(tanh) fwd+bwd 256x1024": _bias_gelu_both((256, 1024), "tanh", 0.0),
    "bias+gelu fwd+bwd 256x1024": _bias_gelu_both((256, 1024), "none", 0.0),
    "demo training step": _demo_step,
}
