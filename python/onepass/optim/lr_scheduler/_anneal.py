"""Curves from one level to another; ``done`` goes from 0 to 1."""

from __future__ import annotations

import math


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1.0 + math.cos(math.pi * done)) / 2.0


def _linear(start: float, end: float, done: float) -> float:
    return start + (end - start) * done
