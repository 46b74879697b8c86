"""Figures that are drawn when the site is built: activations, schedules, losses."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from onepass import ops, optim
from onepass.optim import lr_scheduler

from generate.names import Name

# Of one lightness, so that a figure without a background reads on white and on black.
GREY, BLUE, RED = "#808080", "#3b82c4", "#d0683c"
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


class Figure(NamedTuple):
    """A file of the folder of figures, and what it shows."""

    file: str
    words: str


def of(kind: str, entries: Sequence[Name], folder: Path) -> Figure | None:
    """The figure of a page, drawn into `folder`; None where there is nothing to draw."""
    if kind == "schedules" and entries[0].short.rpartition(".")[2] in SCHEDULES:
        return _schedule(entries[0].short.rpartition(".")[2], folder)
    functions = {name.short.removeprefix("ops."): name.value for name in entries}
    if kind == "activations":
        for name, function in functions.items():
            if f"{name}_backward" in functions and _is_elementwise(name):
                return _activation(name, function, functions[f"{name}_backward"], folder)
    if kind == "losses":
        return next((_loss(n, f, folder) for n, f in functions.items() if n in LOSSES), None)
    return None


def overview(kind: str) -> Figure | None:
    """The figure above the index of a kind."""
    if kind == "activations":
        return Figure("activations.svg", "All activations beside each other")
    if kind == "schedules":
        return Figure("schedules.svg", "All schedules beside each other")
    return None


def overviews(folder: Path) -> None:
    """Small multiples of all activations and of all schedules."""
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


@cache
def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams.update({
        "svg.fonttype": "none", "svg.hashsalt": "onepass", "font.family": "sans-serif",
        "font.size": 10, "axes.edgecolor": GREY, "axes.labelcolor": GREY, "xtick.color": GREY,
        "ytick.color": GREY, "text.color": GREY, "axes.spines.top": False,
        "axes.spines.right": False, "legend.frameon": False, "lines.linewidth": 1.8,
    })  # fmt: skip
    return pyplot


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, transparent=True, metadata={"Date": None})
    _pyplot().close(figure)


def _axes(width: float = 5.6, height: float = 2.9) -> tuple[Any, Any]:
    figure, axes = _pyplot().subplots(figsize=(width, height))
    figure.subplots_adjust(left=0.1, right=0.99, top=0.97, bottom=0.17)
    axes.grid(color=GREY, alpha=0.25, linewidth=0.6)
    return figure, axes


def _activation(name: str, forward: Any, backward: Any, folder: Path) -> Figure:
    x = np.linspace(-5, 5, 401, dtype=np.float32)
    figure, axes = _axes()
    axes.plot(x, forward(x), color=BLUE, label="y")
    axes.plot(x, backward(np.ones_like(x), x), color=RED, label="dy/dx", linestyle="--")
    axes.set(xlabel="x", ylim=(max(axes.get_ylim()[0], -2.5), min(axes.get_ylim()[1], 3.5)))
    axes.legend()
    _save(figure, folder / f"{name}.svg")
    options = [p for p in inspect.signature(forward).parameters.values() if p.name not in "x out"]
    shown = "".join(f", {p.name}={p.default!r}" for p in options)
    return Figure(f"{name}.svg", f"`{name}(x{shown})` and its slope")


def _schedule(name: str, folder: Path) -> Figure:
    figure, axes = _axes()
    axes.plot(range(STEPS), _rates(name), color=BLUE)
    axes.set(xlabel="step", ylabel="learning rate, of lr=1", ylim=(0, None))
    _save(figure, folder / f"{name}.svg")
    return Figure(f"{name}.svg", f"`{SCHEDULES[name]}`")


def _loss(name: str, function: Any, folder: Path) -> Figure:
    target, low, high = LOSSES[name]
    x = np.linspace(low, high, 401, dtype=np.float32)
    loss, slope = function(x, np.full_like(x, target), reduction="none")
    figure, axes = _axes()
    axes.plot(x, loss, color=BLUE, label="loss")
    axes.plot(x, slope, color=RED, label="gradient", linestyle="--")
    axes.set(xlabel=f"input, target {target:g}", ylim=(max(axes.get_ylim()[0], -5), None))
    axes.legend()
    _save(figure, folder / f"{name}.svg")
    return Figure(
        f"{name}.svg", f"`{name}` and its gradient over the input, for the target {target:g}"
    )


def _multiples(curves: dict[str, list[tuple[Any, Any]]], path: Path) -> None:
    columns = 5
    rows = -(-len(curves) // columns)
    figure, axes = _pyplot().subplots(rows, columns, figsize=(8.4, 1.35 * rows), squeeze=False)
    figure.subplots_adjust(0.04, 0.4 / (1.35 * rows), 0.99, 1 - 0.25 / (1.35 * rows), 0.25, 0.6)
    for cell in axes.flat[len(curves) :]:
        cell.axis("off")
    for cell, (name, lines) in zip(axes.flat, curves.items(), strict=False):
        for (x, y), color in zip(lines, (BLUE, RED), strict=False):
            cell.plot(x, y, color=color, linewidth=1.4)
        cell.set_title(name, fontsize=8.5)
        cell.tick_params(labelsize=6, length=2)
        low, high = cell.get_ylim()
        cell.set_ylim(max(low, -2.2), min(high, 4))
        cell.grid(color=GREY, alpha=0.2, linewidth=0.5)
    _save(figure, path)
