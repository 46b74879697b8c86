"""The path of each optimizer through a bent valley, beside that of plain SGD."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from onepass import optim
from onepass.optim import full_batch

from generate.drawing import BLUE, GREY, RED, Figure, axes_of, save

STEPS = 80
START = (-1.7, 1.8)
BEST = (1.0, 0.4)
WIDE, HIGH = (-2.6, 1.9), (-0.8, 2.3)
PLAIN = "lr=0.1"
# How each optimizer is made for its figure, as the caption has it: its defaults, but a rate for
# steps of this size. One that is not here gets OTHERS.
OTHERS = "lr=0.15"
SETTINGS = {
    "ADOPT": "lr=0.3",
    "ASGD": "lr=0.1, t0=1",
    "Adadelta": "lr=40.0",
    "Adafactor": "lr=0.25",
    "Adagrad": "lr=0.5",
    "Adamax": "lr=0.3",
    "GradientDescent": "",
    "LAMB": "lr=0.1",
    "LARS": "lr=10.0",
    "LBFGS": 'max_iter=1, max_eval=25, line_search_fn="strong_wolfe"',
    "Lion": "lr=0.04",
    "Muon": "lr=0.06",
    "Newton": "",
    "RAdam": "lr=0.2",
    "RMSprop": "lr=0.05",
    "SGD": "lr=0.05, momentum=0.9",
    "ScheduleFreeAdamW": "lr=0.2",
    "ScheduleFreeSGD": "lr=0.15",
}
# Of these the average of the points is drawn, with which one evaluates.
AVERAGES = ("ASGD", "ScheduleFreeAdamW", "ScheduleFreeSGD")


def loss(p: Any) -> tuple[float, Any]:
    """The valley, y = 0.4 x² with a floor that falls slowly towards x = 1, and its gradient."""
    x, y = p.reshape(2).tolist()
    off = y - 0.4 * x * x
    value = 0.2 * (x - 1) ** 2 + 3 * off * off
    slope = [0.4 * (x - 1) - 4.8 * x * off, 6 * off]
    return value, np.array(slope, p.dtype).reshape(p.shape)


def is_drawn(value: Any) -> bool:
    """Whether it is an optimizer, and not the base of all."""
    if not isinstance(value, type) or not issubclass(value, optim.Optimizer):
        return False
    return value is not optim.Optimizer


def optimizers() -> list[type]:
    """All of them, by name."""
    found = [getattr(package, name) for package in (optim, full_batch) for name in package.__all__]
    return sorted(filter(is_drawn, found), key=lambda cls: cls.__name__.lower())


def settings(cls: type) -> str:
    return SETTINGS.get(cls.__name__, OTHERS)


def draw(cls: type, folder: Path) -> Figure:
    """The figure of an optimizer."""
    name, given = cls.__name__, settings(cls)
    path, plain = trace(cls, given), trace(optim.SGD, PLAIN)
    figure, axes = axes_of(5.6, 3.1)
    valley(axes)
    axes.plot(*plain.T, color=GREY, linewidth=1.2, marker=".", markersize=3, label="SGD")
    label = f"{name}, momentum" if cls is optim.SGD else name
    axes.plot(*path.T, color=BLUE, linewidth=1.4, marker=".", markersize=4, label=label)
    axes.plot(*START, color=BLUE, marker="o", markersize=6)
    axes.set(xlabel="first weight", ylabel="second weight")
    axes.legend(loc="lower left")
    save(figure, folder / f"{name}.svg")
    call = f"{name}({', '.join(filter(None, ('params', given)))})"
    return Figure(
        f"{name}.svg",
        f"{STEPS} steps of `{call}`{', its average' if name in AVERAGES else ''}, and in grey of "
        f"`SGD(params, {PLAIN})`, down a bent valley to the cross",
    )


@cache
def trace(cls: type, given: str) -> Any:
    """(STEPS + 1, 2) points, the first is START."""
    p = np.array([START])  # a matrix, which Muon steps by its own rule
    optimizer = cls([p], **eval(f"dict({given})"))
    points = [p.copy()]
    for _ in range(STEPS):
        _step(optimizer, p)
        points.append(_shown(optimizer, p))
    return np.concatenate(points)


def _step(optimizer: Any, p: Any) -> None:
    if isinstance(optimizer, (optim.LBFGS, full_batch.GradientDescent, full_batch.Newton)):
        optimizer.step(lambda: (loss(p)[0], [loss(p)[1]]))
    elif isinstance(optimizer, optim.SparseAdam):
        optimizer.step([(np.zeros(1, np.int64), loss(p)[1])])
    else:
        optimizer.step([loss(p)[1]])


def _shown(optimizer: Any, p: Any) -> Any:
    """A copy of the point, or of the average that one evaluates with."""
    if isinstance(optimizer, optim.ASGD):
        return optimizer.state[p]["ax"].copy()
    if not hasattr(optimizer, "eval"):
        return p.copy()
    optimizer.eval()
    point = p.copy()
    optimizer.train()
    return point


def valley(axes: Any, points: int = 61, lines: int = 8) -> None:
    """Lines of equal height, and the lowest point."""
    x, y = np.meshgrid(np.linspace(*WIDE, points), np.linspace(*HIGH, points))
    height = 0.2 * (x - 1) ** 2 + 3 * (y - 0.4 * x * x) ** 2
    levels = np.geomspace(0.04, 10, lines)
    axes.grid(False)
    axes.contour(x, y, height, levels, colors=GREY, alpha=0.45, linewidths=0.8)
    axes.plot(*BEST, color=RED, marker="+", markersize=8, markeredgewidth=1.8, zorder=4)
    axes.set(xlim=WIDE, ylim=HIGH)
