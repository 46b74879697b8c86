"""Line searches: how far to go along a direction in which a loss falls.

A search sees the loss along the line alone, φ(t) = f(x + t·d), by way of ``evaluate(t)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

DECREASE, CURVATURE = 1e-4, 0.9  # c₁ and c₂ of Nocedal & Wright


class Point(NamedTuple):
    """The loss and its slope d·∇f at a place of the line, and the gradient there."""

    t: float
    loss: float
    slope: float
    gradient: Any


Evaluate = Callable[[float], Point]


def backtracking(evaluate: Evaluate, start: Point, t: float, most: int, narrow: float) -> Point:
    """The first of t, t/2, t/4, … where the loss has fallen enough: φ(t) ≤ φ(0) + c₁·t·φ'(0).

    Returns:
        That point; ``start`` if none of ``most`` is one, or t falls below ``narrow``.

    Source: Armijo, Minimization of functions having Lipschitz continuous first partial derivatives,
    1966.
    """
    for _ in range(most):
        point = evaluate(t)
        if point.loss <= start.loss + DECREASE * t * start.slope:
            return point
        t /= 2
        if t < narrow:
            break
    return start


def strong_wolfe(evaluate: Evaluate, start: Point, t: float, most: int, narrow: float) -> Point:
    """A point with φ(t) ≤ φ(0) + c₁·t·φ'(0) and |φ'(t)| ≤ c₂·|φ'(0)|.

    Goes outwards until such points lie between two, then narrows these by cubic interpolation. A
    loss that is not finite counts as too far.

    Args:
        evaluate: φ.
        start: the point at 0, where the slope is negative.
        t: where to look first.
        most: evaluations after the first.
        narrow: the width below which it gives up.

    Returns:
        The point, or the lowest that was found.

    Source: Nocedal & Wright, Numerical Optimization, 2006, algorithms 3.5 and 3.6, with the steps
    and safeguards of Schmidt's minFunc, as in PyTorch's LBFGS.
    """
    before, point = start, evaluate(t)
    low, high = start, point  # where `most` is not enough
    for left in range(most, 0, -1):
        further = left < most - 1
        if not _falls(point, start) or (further and point.loss >= before.loss):
            return _zoom(evaluate, start, before, point, left, narrow)
        if abs(point.slope) <= -CURVATURE * start.slope:
            return point
        if point.slope >= 0:
            return _zoom(evaluate, start, before, point, left, narrow)
        near = point.t + 0.01 * (point.t - before.t)
        t = _cubic(before, point, near, point.t * 10)
        before, point = point, evaluate(t)
        high = point
    return low if low.loss <= high.loss else high


def _zoom(
    evaluate: Evaluate, start: Point, first: Point, second: Point, left: int, narrow: float
) -> Point:
    """Narrows two points with a good one between them."""
    low, high = (first, second) if first.loss <= second.loss else (second, first)
    stuck = False
    for _ in range(left):
        if abs(high.t - low.t) < narrow:
            break
        least, most = sorted((low.t, high.t))
        t = _cubic(low, high, least, most)
        # A place at the edge is taken once; then one a tenth away from that edge.
        margin = 0.1 * (most - least)
        near_edge = min(most - t, t - least) < margin
        if near_edge and (stuck or t >= most or t <= least):
            t = most - margin if abs(t - most) < abs(t - least) else least + margin
            near_edge = False
        stuck = near_edge
        point = evaluate(t)
        if not _falls(point, start) or point.loss >= low.loss:
            high = point
            if high.loss < low.loss:
                low, high = high, low
            continue
        if abs(point.slope) <= -CURVATURE * start.slope:
            return point
        if point.slope * (high.t - low.t) >= 0:
            high = low
        low = point
    return low


def _falls(point: Point, start: Point) -> bool:
    return point.loss <= start.loss + DECREASE * point.t * start.slope


def _cubic(a: Point, b: Point, least: float, most: float) -> float:
    """Where the cubic through two points with their slopes is lowest, kept in [least, most]."""
    if a.t > b.t:
        a, b = b, a
    if a.t == b.t:
        return a.t
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if not 0 <= square < math.inf:  # no minimum, or a loss that is not finite
        return (least + most) / 2
    d2 = math.sqrt(square)
    under = b.slope - a.slope + 2 * d2
    if under == 0:
        return (least + most) / 2
    t = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / under)
    return min(max(t, least), most)
