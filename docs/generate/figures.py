"""Figures that are drawn when the site is built: one on each page of a formula."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from onepass import ops, optim
from onepass.optim import lr_scheduler

from generate import blocks, paths
from generate.drawing import BLUE, GREEN, GREY, RED, Figure, axes_of, pyplot, save
from generate.names import Name

STEPS = 100
# How each schedule is made for its figure, as the caption has it; the optimizer has lr=1.
SCHEDULES = {
    "ConstantLR": "ConstantLR(optimizer, factor=0.3, total_iters=30)",
    "CosineAnnealingLR": "CosineAnnealingLR(optimizer, T_max=100)",
    "ExponentialLR": "ExponentialLR(optimizer, gamma=0.96)",
    "HarmonicLR": "HarmonicLR(optimizer, scale=10, shift=10, period=10)",
    "InverseTimeLR": "InverseTimeLR(optimizer, decay=0.1)",
    "LambdaLR": "LambdaLR(optimizer, lambda t: (1 - t / 100) ** 2)",
    "LinearWarmup": "LinearWarmup(optimizer, steps=30)",
    "MultiStepLR": "MultiStepLR(optimizer, milestones=[40, 70, 90], gamma=0.3)",
    "OneCycleLR": "OneCycleLR(optimizer, max_lr=1.0, total_steps=100, cycle_momentum=False)",
    "PolynomialLR": "PolynomialLR(optimizer, total_iters=100, power=2.0)",
    "SequentialLR": "SequentialLR(optimizer, [LinearWarmup(optimizer, steps=20), "
    "CosineAnnealingLR(optimizer, T_max=80)], milestones=[20])",
    "StepLR": "StepLR(optimizer, step_size=25, gamma=0.5)",
}
NO_RATES = ("LRScheduler", "ReduceLROnPlateau")  # a base; one that follows a measured value
# The argument on which a loss of elements is drawn, the target, and the ends of the axis.
LOSSES = {
    "mse_loss": (0.0, -3, 3), "l1_loss": (0.0, -3, 3), "smooth_l1_loss": (0.0, -3, 3),
    "huber_loss": (0.0, -3, 3), "bce_loss": (1.0, 1e-3, 0.999), "bce_with_logits": (1.0, -5, 5),
    "kl_div": (0.5, -4, 0),
}  # fmt: skip


def of(kind: str, entries: Sequence[Name], folder: Path) -> Figure | None:
    """The figure of a page, drawn into `folder`; None where there is nothing to draw."""
    first = entries[0]
    last = first.short.rpartition(".")[2]
    if kind == "schedules":
        return _schedule(last, folder) if last in SCHEDULES else None
    if kind == "optimizers" and paths.is_drawn(first.value):
        return paths.draw(first.value, folder)
    if kind == "norms":
        return blocks.draw(first.page.partition("/")[2], folder)
    if last in ("Activation", "Optimizer"):
        return overview(kind)
    functions = {name.short.removeprefix("ops."): name.value for name in entries}
    for name, function in functions.items():
        if name in OWN:
            return OWN[name](folder)
        if kind == "activations" and _is_elementwise(name) and f"{name}_backward" in functions:
            return _activation(name, function, functions[f"{name}_backward"], folder)
        if kind == "losses" and name in LOSSES:
            return _loss(name, function, folder)
    return None


def overview(kind: str) -> Figure | None:
    """The figure above the index of a kind."""
    if kind == "activations":
        return Figure("activations.svg", "All activations beside each other")
    if kind == "schedules":
        return Figure("schedules.svg", "All schedules beside each other")
    if kind == "optimizers":
        return Figure("optimizers.svg", "All optimizers beside each other, and SGD in grey")
    return None


def overviews(folder: Path) -> None:
    """Small multiples of all activations, all schedules and all optimizers."""
    x = np.linspace(-4, 4, 161, dtype=np.float32)
    curves = {
        name: [
            (x, getattr(ops, name)(x)),
            (x, getattr(ops, f"{name}_backward")(np.ones_like(x), x)),
        ]
        for name in _elementwise()
    }
    _multiples(curves, folder / "activations.svg")
    t = np.arange(STEPS)
    _multiples({name: [(t, _rates(name))] for name in SCHEDULES}, folder / "schedules.svg")
    plain = tuple(paths.trace(optim.SGD, paths.PLAIN).T)
    routes = {
        cls.__name__: [plain, tuple(paths.trace(cls, paths.settings(cls)).T)]
        for cls in paths.optimizers()
    }
    ground = partial(paths.valley, points=25, lines=4)
    _multiples(routes, folder / "optimizers.svg", ground, (GREY, BLUE))


@cache
def _elementwise() -> tuple[str, ...]:
    from onepass import _C

    kernels = [k["name"] for k in _C.kernels() if k["kind"] == "activation"]
    return tuple(name for name in ops.__all__ if name in kernels)


def _is_elementwise(name: str) -> bool:
    return name in _elementwise()


def _rates(name: str) -> list[float]:
    optimizer = optim.SGD([np.ones(1, np.float32)], lr=1.0)
    schedule = eval(SCHEDULES[name], {**vars(lr_scheduler), "optimizer": optimizer})
    return [schedule.rates(t)[0] for t in range(STEPS)]


def _activation(name: str, forward: Any, backward: Any, folder: Path) -> Figure:
    x = np.linspace(-5, 5, 401, dtype=np.float32)
    figure, axes = axes_of()
    axes.plot(x, forward(x), color=BLUE, label="y")
    axes.plot(x, backward(np.ones_like(x), x), color=RED, label="dy/dx", linestyle="--")
    axes.set(xlabel="x", ylim=(max(axes.get_ylim()[0], -2.5), min(axes.get_ylim()[1], 3.5)))
    axes.legend()
    save(figure, folder / f"{name}.svg")
    options = [p for p in inspect.signature(forward).parameters.values() if p.name not in "x out"]
    shown = "".join(f", {p.name}={p.default!r}" for p in options)
    return Figure(f"{name}.svg", f"`{name}(x{shown})` and its slope")


def _schedule(name: str, folder: Path) -> Figure:
    figure, axes = axes_of()
    axes.plot(range(STEPS), _rates(name), color=BLUE)
    axes.set(xlabel="step", ylabel="learning rate, of lr=1", ylim=(0, None))
    save(figure, folder / f"{name}.svg")
    return Figure(f"{name}.svg", f"`{SCHEDULES[name]}`")


def _loss(name: str, function: Any, folder: Path) -> Figure:
    target, low, high = LOSSES[name]
    x = np.linspace(low, high, 401, dtype=np.float32)
    loss, slope = function(x, np.full_like(x, target), reduction="none")
    figure, axes = axes_of()
    axes.plot(x, loss, color=BLUE, label="loss")
    axes.plot(x, slope, color=RED, label="gradient", linestyle="--")
    axes.set(xlabel=f"input, target {target:g}", ylim=(max(axes.get_ylim()[0], -5), None))
    axes.legend()
    save(figure, folder / f"{name}.svg")
    return Figure(
        f"{name}.svg", f"`{name}` and its gradient over the input, for the target {target:g}"
    )


def _softmax(name: str, folder: Path) -> Figure:
    x = np.linspace(-5, 5, 201, dtype=np.float32)
    y = getattr(ops, name)(np.stack([x, 0 * x, 0 * x], axis=1))
    figure, axes = axes_of()
    axes.plot(x, y[:, 0], color=BLUE, label="of this class")
    axes.plot(x, y[:, 1], color=RED, linestyle="--", label="of each other class")
    axes.set(xlabel="logit of this class, the others 0", ylabel="log p" if "log" in name else "p")
    axes.legend()
    save(figure, folder / f"{name}.svg")
    return Figure(f"{name}.svg", f"`{name}([x, 0, 0])` over x")


def _glu(folder: Path) -> Figure:
    b = np.linspace(-5, 5, 201, dtype=np.float32)
    figure, axes = axes_of()
    for a, color, style in ((2, BLUE, "-"), (1, GREEN, "-."), (-1, RED, "--")):
        y = ops.glu(np.stack([np.full_like(b, a), b], axis=1))
        axes.plot(b, y[:, 0], color=color, linestyle=style, label=f"a = {a}".replace("-", "−"))
    axes.set(xlabel="gate b", ylabel="y")
    axes.legend()
    save(figure, folder / "glu.svg")
    return Figure("glu.svg", "`glu([a, b])` over the gate b, for three values of a")


def _maxout(folder: Path) -> Figure:
    x = np.linspace(-4, 4, 201, dtype=np.float32)
    lines = np.stack([0.8 * x - 0.6, -0.4 * x + 0.3], axis=1)
    figure, axes = axes_of()
    for line, style, name in zip(lines.T, ("--", ":"), ("first", "second"), strict=True):
        axes.plot(x, line, color=RED, linestyle=style, label=f"{name} piece")
    axes.plot(x, ops.maxout(lines, 2)[:, 0], color=BLUE, linewidth=3, label="maxout")
    axes.set(xlabel="input of the layer", ylabel="y")
    axes.legend()
    save(figure, folder / "maxout.svg")
    return Figure("maxout.svg", "`maxout(x, pieces=2)` of two lines is the larger of them")


def _cross_entropy(folder: Path) -> Figure:
    x = np.linspace(-5, 8, 201, dtype=np.float32)
    logits, labels = np.zeros((x.size, 10), np.float32), np.zeros(x.size, np.int64)
    logits[:, 0] = x
    figure, axes = axes_of()
    for smoothing, color, style in ((0.0, BLUE, "-"), (0.1, GREEN, "-."), (0.3, RED, "--")):
        loss, _ = ops.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
        axes.plot(x, loss, color=color, linestyle=style, label=f"label_smoothing={smoothing:g}")
    axes.set(
        xlabel="logit of the true class, those of the 9 others 0", ylabel="loss", ylim=(0, None)
    )
    axes.legend()
    save(figure, folder / "cross_entropy.svg")
    return Figure("cross_entropy.svg", "`cross_entropy` over the logit of the true class of ten")


def _nll(folder: Path) -> Figure:
    p = np.linspace(0.01, 1, 200, dtype=np.float32)
    inputs, labels = np.log(np.stack([p, 1 - 0.999 * p], axis=1)), np.zeros(p.size, np.int64)
    figure, axes = axes_of()
    for w, color, style in ((2, RED, "--"), (1, BLUE, "-"), (0.5, GREEN, "-.")):
        loss, _ = ops.nll_loss(
            inputs, labels, weight=np.array([w, 1], np.float32), reduction="none"
        )
        axes.plot(p, loss, color=color, linestyle=style, label=f"weight of the class {w:g}")
    axes.set(xlabel="probability of the true class, whose logarithm is the input", ylabel="loss")
    axes.set_ylim(0, 6)
    axes.legend()
    save(figure, folder / "nll_loss.svg")
    return Figure("nll_loss.svg", "`nll_loss` over the probability of the true class")


def _wasserstein(folder: Path) -> Figure:
    bins = np.arange(13)
    rows = np.exp(-0.5 * ((bins - np.array([[3.5], [8.0]])) / np.array([[1.3], [1.8]])) ** 2)
    rows /= rows.sum(axis=1, keepdims=True)
    loss, _ = ops.wasserstein_1d(rows[:1], rows[1:])
    figure, (left, right) = axes_of(columns=2)
    figure.subplots_adjust(wspace=0.25)
    edges = np.arange(14) - 0.5
    for row, color, name in zip(rows, (BLUE, RED), ("input", "target"), strict=True):
        left.stairs(row, edges, color=color, fill=True, alpha=0.35)
        left.stairs(row, edges, color=color, linewidth=1.8, label=name)
        right.stairs(row.cumsum(), edges, baseline=None, color=color, linewidth=1.8)
    low, high = np.sort(rows.cumsum(axis=1), axis=0)
    right.stairs(high, edges, baseline=low, color=GREY, fill=True, alpha=0.35)
    right.text(5.6, 0.6, f"area\n{float(loss):.2f}", ha="center", va="center")
    left.set(xlabel="bin", ylabel="mass", ylim=(0, None))
    right.set(xlabel="bin", ylabel="sum up to the bin", ylim=(0, None))
    left.legend()
    save(figure, folder / "wasserstein_1d.svg")
    return Figure(
        "wasserstein_1d.svg", "`wasserstein_1d` is the area between the sums of two histograms"
    )


# Functions whose figure is of no other's kind.
OWN: dict[str, Callable[[Path], Figure]] = {
    "softmax": partial(_softmax, "softmax"), "log_softmax": partial(_softmax, "log_softmax"),
    "glu": _glu, "maxout": _maxout, "cross_entropy": _cross_entropy, "nll_loss": _nll,
    "wasserstein_1d": _wasserstein,
}  # fmt: skip


def _multiples(
    curves: dict[str, list[tuple[Any, Any]]],
    path: Path,
    ground: Callable[[Any], None] | None = None,
    inks: tuple[str, str] = (BLUE, RED),
) -> None:
    columns = 5
    rows = -(-len(curves) // columns)
    figure, axes = pyplot().subplots(rows, columns, figsize=(8.4, 1.35 * rows), squeeze=False)
    figure.subplots_adjust(0.04, 0.4 / (1.35 * rows), 0.99, 1 - 0.25 / (1.35 * rows), 0.25, 0.6)
    for cell in axes.flat[len(curves) :]:
        cell.axis("off")
    for cell, (name, lines) in zip(axes.flat, curves.items(), strict=False):
        for (x, y), color in zip(lines, inks, strict=False):
            cell.plot(x, y, color=color, linewidth=1.4)
        cell.set_title(name, fontsize=8.5)
        cell.tick_params(labelsize=6, length=2)
        if ground is not None:
            ground(cell)
            continue
        low, high = cell.get_ylim()
        cell.set_ylim(max(low, -2.2), min(high, 4))
        cell.grid(color=GREY, alpha=0.2, linewidth=0.5)
    save(figure, path)
